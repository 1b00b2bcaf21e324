"""Transactions that drain bots: marks on (instance, bot_id), so that no session of the bot gets a lease.

The mark is a row in `drains`, which each session of the bot carries a copy of. Whoever gives a session work
has locked its row, and sees the copy; whoever marks a bot locks the row, and looks then for leases. So one of
the two comes first. A session that is being opened has no row that could be locked: opening and marking take
an advisory lock on the bot before anything else.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from buildgrid_scheduler.core.errors import InvalidArgument
from buildgrid_scheduler.engine.items import Effects
from buildgrid_scheduler.engine.unheard import Transaction, once
from buildgrid_scheduler.store.hot_connection import Statements

# Of another kind than the locks on labels (LOCK_LABELS), which have the seed 0. In one order, as all locks.
_KEY = "hashtextextended(b, hashtextextended(%s::text, 1))"
_LOCK = f"""
SELECT pg_advisory_xact_lock(k) FROM (SELECT DISTINCT {_KEY} AS k FROM unnest(%s::text[]) AS b ORDER BY 1) t
"""  # noqa: S608 - a constant
_TRY_LOCK = f"""
SELECT b FROM (SELECT b, {_KEY} AS k FROM unnest(%s::text[]) AS b) t WHERE pg_try_advisory_xact_lock(k)
"""  # noqa: S608 - a constant

_SESSIONS = """
SELECT name, bot_id, drained FROM bots WHERE instance_name = %s AND bot_id = ANY(%s)
ORDER BY name FOR NO KEY UPDATE
"""
_FREE_SESSIONS = f"{_SESSIONS.rstrip()} SKIP LOCKED"
_BUSY = "SELECT DISTINCT session_name FROM leases WHERE session_name = ANY(%s)"
_IDLE = """
SELECT b.bot_id FROM bots b
WHERE b.instance_name = %s AND NOT b.drained AND b.expires_at > %s AND b.bot_id <> ALL(%s::text[])
  AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.session_name = b.name)
ORDER BY b.connected_at DESC, b.name LIMIT %s
"""
# A mark keeps since when it is there, and whose it is.
_MARK = """
INSERT INTO drains AS d (instance_name, bot_id, marked_at, disrupted, owner)
SELECT %s, b, %s, %s, %s FROM unnest(%s::text[]) AS b ORDER BY b
ON CONFLICT (instance_name, bot_id) DO UPDATE SET disrupted = d.disrupted OR excluded.disrupted
"""
_SET_DRAINED = "UPDATE bots SET drained = %s WHERE name = ANY(%s)"
_UNMARK = """
DELETE FROM drains WHERE instance_name = %s AND bot_id = ANY(%s) AND %s::text IN ('', owner) RETURNING bot_id
"""
_MARKS = """
SELECT d.bot_id, d.marked_at, d.disrupted, b.name IS NOT NULL,
       (SELECT count(*) FROM leases l WHERE l.session_name = b.name), d.owner
FROM drains d LEFT JOIN bots b ON b.instance_name = d.instance_name AND b.bot_id = d.bot_id
WHERE d.instance_name = %s ORDER BY d.bot_id
"""
LONGEST_BOT_ID = 500


@dataclass(frozen=True, slots=True)
class Drained:
    """A bot with a mark."""

    bot_id: str
    since: datetime
    """aware UTC"""
    disrupted: bool
    """its pod is being evicted or preempted: what it loses counts against max_infra_attempts"""
    connected: bool
    """whether it has a session"""
    leases: int
    """how many it still has, those that it was told to stop included"""
    owner: str = ""
    """who marked it first; empty for a person"""

    @property
    def done(self) -> bool:
        """Nothing runs there any more, and nothing will."""
        return self.leases == 0


def lock_bots(db: Statements, instance: str, bot_ids: Collection[str]) -> None:
    """Keep others from opening sessions of these bots, and from marking them, until the transaction ends."""
    db.execute(_LOCK, (instance, list(bot_ids)))


def drain_if_idle(instance: str, bot_ids: Sequence[str], *, owner: str = "") -> Transaction[list[str]]:
    """Mark those of the bots that have no lease (IfIdle); returns them, with those that had a mark already.

    A bot that is not connected has none. `owner`: who marks them; a mark keeps its first one. Raises
    InvalidArgument for what is no bot_id.
    """
    _check(bot_ids)

    def transaction(db: Statements, now: datetime, effects: Effects) -> list[str]:
        lock_bots(db, instance, bot_ids)
        sessions = {name: bot for name, bot, _ in db.rows(_SESSIONS, (instance, list(bot_ids)))}
        return _mark_idle(db, instance, bot_ids, sessions, now, effects, owner)

    return transaction


def drain_some_if_idle(instance: str, number: int, *, owner: str = "") -> Transaction[list[str]]:
    """Mark so many connected bots without a lease (IfIdle), or fewer where there are not so many.

    Returns them. The youngest sessions go first: others have more in their caches. A bot that somebody else
    deals with at the moment may be passed over. Raises InvalidArgument for a number below 1.
    """
    if number < 1:
        raise InvalidArgument(f"number: {number} bots cannot be drained; name at least 1")

    def transaction(db: Statements, now: datetime, effects: Effects) -> list[str]:
        found: list[str] = []
        looked_at: list[str] = []
        while len(found) < number:
            wanted = number - len(found)
            chosen = [bot for (bot,) in db.rows(_IDLE, (instance, now, looked_at, wanted))]
            if not chosen:
                break
            if not looked_at:
                lock_bots(db, instance, chosen)
                rows = db.rows(_SESSIONS, (instance, chosen))
            else:  # never wait with locks in hand: whoever holds these may wait for ours
                mine = [bot for (bot,) in db.rows(_TRY_LOCK, (instance, chosen))]
                rows = db.rows(_FREE_SESSIONS, (instance, mine))
            looked_at += chosen
            # One that was marked meanwhile is somebody else's.
            sessions = {name: bot for name, bot, marked in rows if not marked}
            there = [bot for bot in chosen if bot in sessions.values()]
            found += _mark_idle(db, instance, there, sessions, now, effects, owner)
        return found

    return once(transaction)


def _mark_idle(
    db: Statements,
    instance: str,
    bot_ids: Sequence[str],
    sessions: dict[str, str],
    now: datetime,
    effects: Effects,
    owner: str,
) -> list[str]:
    """Mark those of the bots, all locked, that have no lease. `sessions`: bot_id by session."""
    busy = {sessions[name] for (name,) in db.rows(_BUSY, (list(sessions),))}
    idle = [bot for bot in dict.fromkeys(bot_ids) if bot not in busy]
    names = [name for name, bot in sessions.items() if bot not in busy]
    _mark(db, instance, idle, names, now, effects, owner, disrupted=False)
    return idle


def drain_when_idle(
    instance: str, bot_ids: Sequence[str], *, disrupted: bool = False, owner: str = ""
) -> Transaction[list[str]]:
    """Mark the bots at once (WhenIdle, cordon): what they have they keep, they get nothing new.

    Returns them. A bot may be marked before it connects. `disrupted`: its pod is being evicted or preempted,
    which a later mark does not take back. `owner`: who marks them; a mark keeps its first one. Raises
    InvalidArgument for what is no bot_id.
    """
    _check(bot_ids)

    def transaction(db: Statements, now: datetime, effects: Effects) -> list[str]:
        lock_bots(db, instance, bot_ids)
        names = [name for name, _, _ in db.rows(_SESSIONS, (instance, list(bot_ids)))]
        chosen = list(dict.fromkeys(bot_ids))
        _mark(db, instance, chosen, names, now, effects, owner, disrupted=disrupted)
        return chosen

    return transaction


def _mark(
    db: Statements,
    instance: str,
    bot_ids: Sequence[str],
    names: Sequence[str],
    now: datetime,
    effects: Effects,
    owner: str,
    *,
    disrupted: bool,
) -> None:
    db.execute(_MARK, (instance, now, disrupted, owner, list(bot_ids)))
    db.execute(_SET_DRAINED, (True, list(names)))
    effects.sessions.update(names)  # their calls, where they are held, are not to be woken for work any more
    effects.fleet = True


def undrain(
    instance: str, bot_ids: Sequence[str], *, owner: str = "", busy_only: bool = False
) -> Transaction[list[str]]:
    """Take the marks away; returns the bots that had one. Those that wait can get work at once.

    `owner`: only marks of this one; empty: whosever they are. `busy_only`: only of bots that have a lease,
    since who drains others may have been told that they are idle. Raises InvalidArgument for what is no
    bot_id.
    """
    _check(bot_ids)

    def transaction(db: Statements, now: datetime, effects: Effects) -> list[str]:
        lock_bots(db, instance, bot_ids)
        sessions = db.rows(_SESSIONS, (instance, list(bot_ids)))
        chosen = list(bot_ids)
        if busy_only:
            busy = {name for (name,) in db.rows(_BUSY, ([name for name, _, _ in sessions],))}
            chosen = [bot for name, bot, _ in sessions if name in busy]
        marked = {bot for (bot,) in db.rows(_UNMARK, (instance, chosen, owner))}
        names = [name for name, bot, _ in sessions if bot in marked]
        db.execute(_SET_DRAINED, (False, names))
        effects.sessions.update(names)
        effects.fleet = True
        return [bot for bot in dict.fromkeys(bot_ids) if bot in marked]

    return once(transaction)


def drained(instance: str) -> Transaction[list[Drained]]:
    """All bots with a mark, by bot_id."""

    def transaction(db: Statements, now: datetime, effects: Effects) -> list[Drained]:
        return [Drained(*row) for row in db.rows(_MARKS, (instance,))]

    return transaction


def _check(bot_ids: Sequence[str]) -> None:
    for bot_id in bot_ids:
        if not bot_id or "\0" in bot_id or len(bot_id) > LONGEST_BOT_ID:
            raise InvalidArgument(
                f"bot_ids: {bot_id[:80]!r} is no bot_id; one has 1 to {LONGEST_BOT_ID} characters and no NUL"
            )
