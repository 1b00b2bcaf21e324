"""Bots that fall silent while they should be calling: they are not believed for the whole keepalive any more.

A call that is held, or on its way, ends before its time when its bot is killed, when its machine vanishes
(gRPC's keepalive finds that out), or when it hangs up to call again at once, as ours does when there is news.
A bot that lets its calls be held while it works (`Synchronize.hold_full`) calls again moments after an
answer, too. So an answer that leaves it with leases counts like a call that broke off, and there is no moment
in which it can die unnoticed.

Who calls again is not looked at. Of the others the session ends GRACE after the call did, and its jobs wait
again then. That an answer is lost harms nobody: whoever has a job then calls again within GRACE, as ever.

What is noted is in memory, and written once in `session_expiry_interval`, all in one transaction. The
database has the last word: a session that has been called for since, on whatever replica, is left alone.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from buildgrid_scheduler.core.clock import Clock
from buildgrid_scheduler.engine.items import Effects
from buildgrid_scheduler.store.hot_connection import Statements

GRACE = timedelta(seconds=30)
"""So long a session outlives such a call, at most. A network that was away for a moment ends no bot, and ours
calls again within seconds: within 2 s of an answer, whatever it works on."""
SETTLED = timedelta(seconds=2)
"""Who hangs up to call again, or was answered, has mostly done so by then."""

_LOCK = """
SELECT b.name FROM bots b JOIN unnest(%s::text[], %s::text[]) AS t(name, call)
  ON t.name = b.name AND t.call = b.latest_call
ORDER BY b.name FOR NO KEY UPDATE OF b
"""
_SHORTEN = """
UPDATE bots b SET expires_at = t.until FROM unnest(%s::text[], %s::timestamptz[]) AS t(name, until)
WHERE b.name = t.name AND b.expires_at > t.until
"""


@dataclass(frozen=True, slots=True)
class HangUp:
    """A call that ended so that another must follow, and when. `call_id`: empty for the one that opened the
    session."""

    session_name: str
    call_id: str
    at: datetime


class HangUps:
    """Of this replica's calls. Any thread may use it: each method is dictionary work."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._noted: dict[str, HangUp] = {}

    def note(self, session_name: str, call_id: str) -> None:
        """The latest call of a session, as far as this replica knows, broke off or must be followed."""
        self._noted[session_name] = HangUp(session_name, call_id, self._clock())

    def called(self, sessions: Iterable[str]) -> None:
        """There are calls for these sessions."""
        if self._noted:
            for name in sessions:
                self._noted.pop(name, None)

    def settled(self) -> list[HangUp]:
        """Those that were not followed by another call for SETTLED; they are noted no more."""
        before = self._clock() - SETTLED
        found = [each for each in list(self._noted.values()) if each.at <= before]
        return [each for each in found if self._noted.pop(each.session_name, None) is each]

    def forget_all(self) -> None:
        """This replica stops: what breaks off is its own doing."""
        self._noted.clear()


def doubt(hang_ups: Sequence[HangUp]) -> Callable[[Statements, datetime, Effects], int]:
    """Let these sessions end GRACE after their calls did, unless others came since; returns how many."""

    def transaction(db: Statements, now: datetime, effects: Effects) -> int:
        until = {each.session_name: each.at + GRACE for each in hang_ups}
        rows = db.rows(_LOCK, ([h.session_name for h in hang_ups], [h.call_id for h in hang_ups]))
        names = [name for (name,) in rows]
        if names:
            db.execute(_SHORTEN, (names, [until[name] for name in names]))
        return len(names)

    return transaction
