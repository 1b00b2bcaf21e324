"""Assignment by name: jobs of one requirement hash to bots that the caller chose."""

from collections.abc import Sequence
from datetime import datetime

from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.core.suspects import PREFIX, suspect_hash
from buildgrid_scheduler.engine.claiming import claim_of
from buildgrid_scheduler.engine.items import Effects
from buildgrid_scheduler.engine.unheard import Transaction, once
from buildgrid_scheduler.store.hot_connection import Statements

_LOCK_BOTS = """
SELECT name, capacity, capacity_class, CASE WHEN avoided_until > %s THEN bot_id ELSE '' END FROM bots
WHERE instance_name = %s AND name = ANY(%s) AND status = %s AND expires_at > %s AND NOT drained
ORDER BY name FOR NO KEY UPDATE
"""
_COUNT_LEASES = """
SELECT session_name, count(*), bool_or(starts_with(requirement_hash, %s)) FROM leases
WHERE session_name = ANY(%s) GROUP BY session_name
"""
_COUNT_GIVEN = "UPDATE bots SET lease_count = lease_count + 1 WHERE name = ANY(%s)"


def assign_waiting(
    instance: str, requirement_hash: str, sessions: Sequence[str], *, by_age: bool
) -> Transaction[list[str]]:
    """Lease waiting jobs with exactly this hash to those of the sessions that can take one, one each.

    Returns the sessions that got one. They are told when they call, or at once where a call is held. A
    suspect goes to a bot on which nothing else runs.
    """

    def transaction(db: Statements, now: datetime, effects: Effects) -> list[str]:
        bots = db.rows(_LOCK_BOTS, (now, instance, list(sessions), int(BotStatus.OK), now))
        counts = db.rows(_COUNT_LEASES, (PREFIX, [name for name, *_ in bots]))
        busy = {name: (number, alone) for name, number, alone in counts}
        groups: dict[tuple[str, str, bool], list[str]] = {}
        for name, capacity, capacity_class, avoided_bot in sorted(
            bots, key=lambda bot: sessions.index(bot[0])
        ):
            number, alone = busy.get(name, (0, False))
            if number < capacity and not alone:
                groups.setdefault((capacity_class, avoided_bot, number == 0), []).append(name)
        got: list[str] = []
        for (capacity_class, avoided_bot, empty), names in groups.items():
            statement, values = claim_of(
                instance=instance,
                hashes=[requirement_hash, suspect_hash(requirement_hash)] if empty else [requirement_hash],
                sessions=names,
                capacity_class=capacity_class,
                avoided_bot=avoided_bot,
                now=now,
                told_at=None,
                by_age=by_age,
            )
            got += [row[1] for row in db.rows(statement, values) if row[1] is not None]
        if got:
            db.execute(_COUNT_GIVEN, (got,))
        effects.sessions.update(got)
        return [name for name in dict.fromkeys(sessions) if name in got]

    return once(transaction)
