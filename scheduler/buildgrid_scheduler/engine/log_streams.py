"""Transactions about log streams: what a lease's streams are called, and what its bot is told of it."""

from collections.abc import Callable, Sequence
from datetime import datetime

from buildgrid_scheduler.core.job_state import Stage
from buildgrid_scheduler.core.job_streams import JobStreams
from buildgrid_scheduler.core.lease_metadata import LeaseMetadata
from buildgrid_scheduler.engine.items import Effects
from buildgrid_scheduler.store.hot_connection import Statements

# The lease first: that is the order in which everyone locks.
_LOCK_LEASE = "SELECT 1 FROM leases WHERE job_name = %s AND session_name = %s FOR UPDATE"
_STORE = """
UPDATE jobs SET stdout_stream_name = %s, stdout_stream_write_name = %s,
  stderr_stream_name = %s, stderr_stream_write_name = %s
WHERE instance_name = %s AND name = %s AND completed_at IS NULL RETURNING 1
"""
_LOAD = """
SELECT j.name, j.action_digest, j.completed_at IS NOT NULL, l.told_at IS NOT NULL, l.partial_metadata,
       j.stdout_stream_write_name, j.stderr_stream_write_name
FROM jobs j LEFT JOIN leases l ON l.job_name = j.name
WHERE j.instance_name = %s AND j.name = ANY(%s)
"""


def store_streams(
    instance: str, session: str, job: str, streams: JobStreams
) -> Callable[[Statements, datetime, Effects], bool]:
    """Keep the names of a lease's streams, and let the job's clients hear of them.

    False, and nothing is kept, when the session does not hold the lease any more: whoever holds it now has
    streams of its own.
    """

    def transaction(db: Statements, now: datetime, effects: Effects) -> bool:
        if not db.rows(_LOCK_LEASE, (job, session)):
            return False
        names = (streams.stdout_read, streams.stdout_write, streams.stderr_read, streams.stderr_write)
        if not db.rows(_STORE, (*names, instance, job)):
            return False
        effects.states[job] = None
        return True

    return transaction


def load_lease_metadata(
    instance: str, jobs: Sequence[str]
) -> Callable[[Statements, datetime, Effects], list[LeaseMetadata]]:
    """What bots are told of these leases, in this order, without those that are not known."""

    def transaction(db: Statements, now: datetime, effects: Effects) -> list[LeaseMetadata]:
        found = {}
        for name, digest, complete, told, partial, stdout, stderr in db.rows(_LOAD, (instance, list(jobs))):
            stage = Stage.COMPLETED if complete else Stage.EXECUTING if told else Stage.QUEUED
            found[name] = LeaseMetadata(stage, digest, partial, stdout, stderr)
        return [found[job] for job in jobs if job in found]

    return transaction
