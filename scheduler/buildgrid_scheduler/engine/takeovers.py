"""Calls under the name of a session that is not there: whether another one of the same bot_id took its place.

If so, two bots use one bot_id, and each opens its session anew when the other has closed it. That cannot be
seen when a session is opened: a bot that was started again does the same. The proof is that the bot of the
old session calls once more, or that a call of it was still held. Both end here, outside of the hot path.
"""

import json
import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime

from buildgrid_scheduler.core.attempts import AttemptLimits, Tries
from buildgrid_scheduler.core.errors import Cause, DataLoss, InvalidArgument, SchedulerError
from buildgrid_scheduler.core.history import PastAttempt
from buildgrid_scheduler.core.takeovers import acquit
from buildgrid_scheduler.engine.items import Effects
from buildgrid_scheduler.store.hot_connection import CONFLICT_BACKOFF, DatabaseBusyError, Statements

log = logging.getLogger(__name__)

BOT_ID_TAKEN_OVER = "BOT_ID_TAKEN_OVER"
"""the reason, for programs"""
WARN_EVERY = 60.0
"""Seconds between two warnings of one bot_id."""
_MOST_WARNED = 1000

_SUCCESSOR = "SELECT name, opened_from FROM bots WHERE instance_name = %s AND bot_id = %s AND name <> %s"
_BLAMED = """
SELECT name FROM jobs WHERE name = ANY(%s) AND instance_name = %s AND attempts @> %s::jsonb
"""
# No lock is waited for while others are held: the hot path takes those of a batch in whatever order. What is
# locked by others is waited for alone, when the transaction is run again.
_WAIT = "SELECT name FROM jobs WHERE name = %s FOR NO KEY UPDATE"
_LOCK = """
SELECT name, n_tries, n_infra_tries, attempts FROM jobs WHERE name = ANY(%s) ORDER BY name
FOR NO KEY UPDATE SKIP LOCKED
"""
_ACQUIT = """
UPDATE jobs j SET n_tries = t.tries, n_infra_tries = t.infra, attempts = t.attempts::jsonb
FROM unnest(%s::text[], %s::int4[], %s::int4[], %s::text[]) AS t(job, tries, infra, attempts)
WHERE j.name = t.job
"""


@dataclass(frozen=True, slots=True)
class Takeover:
    """A bot lives whose session another one of the same bot_id has closed."""

    instance: str
    bot_id: str
    session: str
    """the one that was closed"""
    successor: str
    opened_from: str
    """the network address that the successor was opened from; empty if that is not known"""

    def error(self, *, was_open: bool) -> SchedulerError:
        """What the bot is told. `was_open`: its session was when it made this call."""
        message = (
            f"bot session {self.session!r} was closed: {self._what}; if that was not the same bot, give each "
            f"bot a bot_id of its own, otherwise create a new session"
        )
        error: SchedulerError = DataLoss(message) if was_open else InvalidArgument(message)
        error.cause = Cause(
            BOT_ID_TAKEN_OVER,
            {"bot_id": self.bot_id, "instance": self.instance, "opened_from": self.opened_from},
        )
        return error

    @property
    def warning(self) -> str:
        """For the log."""
        return (
            f"two bots use one bot_id: {self._what}, and closed that of a bot which lives; give each bot a "
            "bot_id of its own"
        )

    @property
    def _what(self) -> str:
        where = f" from {self.opened_from}" if self.opened_from else ""
        return f"another session of bot_id {self.bot_id!r} in instance {self.instance!r} was opened{where}"


def find_takeover(
    instance: str, session: str, bot_id: str, jobs: Collection[str], limits: AttemptLimits
) -> Callable[[Statements, datetime, Effects], Takeover | None]:
    """See who has the place of the session, which is not there and whose bot has just called; None: nobody.

    `jobs`: what the bot reports. Those that a takeover took from it were counted as if the bot had vanished,
    perhaps because of them. It did not: they are counted as the farm's losses.
    """

    contended: list[str] = []

    def transaction(db: Statements, now: datetime, effects: Effects) -> Takeover | None:
        if jobs:  # whether or not the successor has ended meanwhile
            _acquit(db, instance, session, jobs, limits, contended)
        found = db.rows(_SUCCESSOR, (instance, bot_id, session))
        if not found:
            return None
        successor, opened_from = found[0]
        return Takeover(instance, bot_id, session, successor, opened_from)

    return transaction


def _acquit(
    db: Statements,
    instance: str,
    session: str,
    jobs: Collection[str],
    limits: AttemptLimits,
    contended: list[str],
) -> None:
    if contended:
        db.execute(_WAIT, (contended[0],))
    blamed_by_it = json.dumps([{"taken_over": session, "counted": "try"}])
    blamed = [name for (name,) in db.rows(_BLAMED, (list(jobs), instance, blamed_by_it))]
    if not blamed:
        return
    rows = db.rows(_LOCK, (blamed,))
    if len(rows) < len(blamed):
        contended[:] = sorted(set(blamed) - {row[0] for row in rows})
        raise DatabaseBusyError("a job is just being changed", CONFLICT_BACKOFF)
    changed = []
    for name, n_tries, n_infra_tries, attempts in rows:
        past = [PastAttempt.from_json(entry) for entry in attempts]
        verdict = acquit(past, Tries(n_tries, n_infra_tries), session, limits)
        if verdict is not None:
            noted = json.dumps([attempt.to_json() for attempt in verdict.attempts])
            changed.append((name, verdict.tries.n_tries, verdict.tries.n_infra_tries, noted))
    if changed:
        db.execute(_ACQUIT, tuple(list(column) for column in zip(*changed, strict=True)))


class TakeoverWarnings:
    """Logs that two bots use one bot_id, each at most once in WARN_EVERY seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: seconds."""
        self._clock = clock
        self._warned: dict[tuple[str, str], float] = {}

    def note(self, takeover: Takeover) -> None:
        """It happened, perhaps again. From any thread: at worst two of them log it both."""
        now, key = self._clock(), (takeover.instance, takeover.bot_id)
        if now - self._warned.get(key, float("-inf")) < WARN_EVERY:
            return
        if len(self._warned) >= _MOST_WARNED:
            self._warned = {k: at for k, at in list(self._warned.items()) if now - at < WARN_EVERY}
        self._warned[key] = now
        fields = {"bot": takeover.bot_id, "session": takeover.session, "instance": takeover.instance}
        log.warning("%s", takeover.warning, extra=fields)
