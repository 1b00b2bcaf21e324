"""Assignment by name: jobs of one requirement hash to bots that the caller chose."""

from collections.abc import Callable, Sequence
from datetime import datetime

from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.engine.items import Effects
from buildgrid_scheduler.store import statements as sql
from buildgrid_scheduler.store.hot_connection import Statements

_LOCK_BOTS = """
SELECT name, capacity FROM bots
WHERE instance_name = %s AND name = ANY(%s) AND status = %s AND expires_at > %s
ORDER BY name FOR NO KEY UPDATE
"""
_COUNT_LEASES = """
SELECT session_name, count(*) FROM leases WHERE session_name = ANY(%s) GROUP BY session_name
"""


def assign_waiting(
    instance: str, requirement_hash: str, sessions: Sequence[str], *, by_age: bool
) -> Callable[[Statements, datetime, Effects], list[str]]:
    """Lease waiting jobs with exactly this hash to those of the sessions that can take one, one each.

    Returns the sessions that got one. They are told when they call, or at once where a call is held.
    """

    def transaction(db: Statements, now: datetime, effects: Effects) -> list[str]:
        bots = db.rows(_LOCK_BOTS, (instance, list(sessions), int(BotStatus.OK), now))
        busy: dict[str, int] = dict(db.rows(_COUNT_LEASES, ([name for name, _ in bots],)))
        free = {name for name, capacity in bots if busy.get(name, 0) < capacity}
        slots = [name for name in dict.fromkeys(sessions) if name in free]
        if not slots:
            return []
        rows = db.rows(
            sql.CLAIM_BY_AGE if by_age else sql.CLAIM_BY_PRIORITY,
            {
                "hashes": [requirement_hash],
                "instance": instance,
                "exclude": [],
                "n": len(slots),
                "told_at": None,
                "slots": slots,
            },
        )
        got = [row[1] for row in rows if row[1] is not None]
        effects.sessions.update(got)
        return got

    return transaction
