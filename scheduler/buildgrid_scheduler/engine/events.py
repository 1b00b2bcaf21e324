"""What an operator wants to read in the log, told once it is committed: one event a line, with its names.

INFO: sessions that open and end. WARNING: leases that were lost, jobs that ended for the farm's reasons, and
sessions that had to be closed. DEBUG: jobs that were queued, handed out and done.
"""

import logging
from typing import TYPE_CHECKING

from google.rpc import code_pb2

from buildgrid_scheduler.core.completion import code_name

if TYPE_CHECKING:
    from buildgrid_scheduler.engine.items import Effects
    from buildgrid_scheduler.engine.lease_ends import LeaseChanges
    from buildgrid_scheduler.engine.round import Round

log = logging.getLogger(__name__)
_FARM = (code_pb2.UNAVAILABLE, code_pb2.INTERNAL, code_pb2.DATA_LOSS)
"""Statuses of jobs that ended for reasons that are not the action's."""


def log_round(work: "Round") -> None:
    """Of a batch."""
    for outcome in work.outcomes:
        if outcome.closed:
            item = outcome.item
            fields = {"bot": item.bot_id, "session": item.session_name, "instance": item.instance}
            log.warning("%s", outcome.error, extra=fields)
    _log_changes(work.changes)
    if log.isEnabledFor(logging.DEBUG):
        for job in work.new_jobs:
            fields = {"job": job.name, "instance": job.instance}
            log.debug("job queued, label %s", job.property_label, extra=fields)
        for outcome in work.outcomes:
            for tell in outcome.tells:
                if tell.action is not None:
                    fields = {
                        "job": tell.job_name,
                        "bot": outcome.item.bot_id,
                        "instance": outcome.item.instance,
                    }
                    log.debug("job handed to the bot", extra=fields)


def log_errand(effects: "Effects") -> None:
    """Of a transaction of its own."""
    for ended in effects.ended_sessions:
        fields = {"bot": ended.bot_id, "session": ended.session}
        log.info("bot session ended: %s", ended.reason, extra=fields)
    for changes in effects.lease_changes:
        _log_changes(changes)


def _log_changes(changes: "LeaseChanges") -> None:
    for job in changes.requeued:
        fields = {"job": job.lease.job_name, "instance": job.lease.instance}
        if job.attempt is None:
            log.debug("job waits again, it was handed back", extra=fields)
            continue
        fields["bot"] = job.attempt.bot
        log.warning("lease lost, job waits again: %s", job.attempt.reason, extra=fields)
    quiet = not log.isEnabledFor(logging.DEBUG)
    for lease, end, bot_id in changes.completed:
        if end.status_code in _FARM:
            fields = {"job": lease.job_name, "instance": lease.instance, "bot": bot_id}
            log.warning("job given up as %s, after its last try", code_name(end.status_code), extra=fields)
        elif not quiet:
            fields = {"job": lease.job_name, "instance": lease.instance, "bot": bot_id}
            log.debug("job completed as %s", code_name(end.status_code), extra=fields)
