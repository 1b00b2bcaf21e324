"""Takes leases back from bots that were told of them long ago and have not started them.

Such a bot may well be alive: it calls, so its session does not expire, and a lease that it does not start is
none that could execute for too long. The job waits again; as the loss of a lease that never started it counts
against max_infra_attempts. What the bot still says of the lease is answered as for any that it does not have:
with one slot its session is closed, with several it is told to stop.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.core.completion import CompletionPolicy
from buildgrid_scheduler.core.lease_transition import LeaseState
from buildgrid_scheduler.core.time_limits import in_words
from buildgrid_scheduler.engine.items import Effects
from buildgrid_scheduler.engine.lease_ends import Holder, LeaseChanges, lock_leases
from buildgrid_scheduler.store.hot_connection import Statements

_FIND = """
SELECT session_name, job_name FROM leases WHERE state = %s AND told_at < %s ORDER BY job_name LIMIT %s
"""
_LOCK_SESSIONS = """
SELECT name, bot_id, status, capacity, capacity_class,
       drained AND EXISTS (SELECT 1 FROM drains d WHERE d.instance_name = bots.instance_name
                           AND d.bot_id = bots.bot_id AND d.disrupted)
FROM bots WHERE name = ANY(%s) ORDER BY name FOR NO KEY UPDATE SKIP LOCKED
"""


def take_back_unstarted(
    limit: timedelta, *, at_once: int, policy: CompletionPolicy, store_results: bool
) -> Callable[[Statements, datetime, Effects], int]:
    """End leases that their bots were told of more than `limit` ago and did not start; returns how many.

    At most `at_once`, of all instances. A lease that its bot does not know of yet has not begun to be late.
    """

    def transaction(db: Statements, now: datetime, effects: Effects) -> int:
        before = now - limit
        found = db.rows(_FIND, (int(LeaseState.PENDING), before, at_once))
        if not found:
            return 0
        late = {job for _, job in found}
        holders = {
            name: Holder(bot_id, BotStatus(status), capacity, capacity_class, disrupted)
            for name, bot_id, status, capacity, capacity_class, disrupted in db.rows(
                _LOCK_SESSIONS, (sorted({session for session, _ in found}),)
            )
        }
        changes = LeaseChanges(now, policy)
        taken = 0
        for lease in lock_leases(db, holders):
            if lease.job_name not in late or lease.state is not LeaseState.PENDING:
                continue
            if lease.told_at is None or lease.told_at >= before:
                continue
            holder = holders[lease.session_name]
            reason = f"bot {holder.bot_id} did not start it within {in_words(limit)} (lease_start_timeout)"
            changes.lose(lease, holder, reason=reason, vanished=False)
            effects.sessions.add(lease.session_name)
            taken += 1
        if taken:
            changes.write(db, store_results=store_results)
            changes.tell(effects)
        return taken

    return transaction
