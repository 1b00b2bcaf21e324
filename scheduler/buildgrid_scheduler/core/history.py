"""What happened to a job, told from its rows. Pure.

Only what cannot be read off the rows of a job otherwise is written down: the attempts after which it waited
again (`PastAttempt`). The attempt that completed it is in the job's own columns, the one that runs in its
lease. So a job that runs once costs nothing more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, cast

from google.rpc import code_pb2

from buildgrid_scheduler.core.attempts import Counted
from buildgrid_scheduler.core.completion import code_name

LONGEST_REASON = 1000  # characters; a bot may say anything


@dataclass(frozen=True, slots=True)
class PastAttempt:
    """An attempt that failed or was lost, and after which the job waited again."""

    bot: str
    assigned: datetime | None
    """when the bot was told of the lease; none if it never was"""
    started: datetime | None
    ended: datetime
    reason: str
    counted: Counted
    taken_over: str | None = None
    """the session that had the lease, where a new session of the same bot_id ended it (see core.takeovers)"""

    def to_json(self) -> dict[str, Any]:
        """As an entry of `jobs.attempts`."""
        entry = {
            "bot": _storable(self.bot),
            "assigned": _text(self.assigned),
            "started": _text(self.started),
            "ended": _text(self.ended),
            "reason": _storable(self.reason)[:LONGEST_REASON],
            "counted": self.counted,
        }
        return entry if self.taken_over is None else entry | {"taken_over": self.taken_over}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "PastAttempt":
        """The inverse of `to_json`."""
        ended = _moment(entry["ended"])
        if ended is None:
            raise ValueError(f"an attempt has no end: {entry!r}")
        return cls(
            entry["bot"],
            _moment(entry["assigned"]),
            _moment(entry["started"]),
            ended,
            entry["reason"],
            cast("Counted", entry["counted"]),
            entry.get("taken_over"),
        )


@dataclass(frozen=True, slots=True)
class LastAttempt:
    """The attempt that completed a job, or the one that is under way."""

    bot: str
    assigned: datetime | None
    started: datetime | None


@dataclass(frozen=True, slots=True)
class JobRecord:
    """What the rows of a job say."""

    name: str
    queued_at: datetime
    attempts: Sequence[PastAttempt] = ()
    last: LastAttempt | None = None
    """none while the job waits, and if no bot was ever told of it"""
    completed_at: datetime | None = None
    cancelled: bool = False
    status_code: int = 0
    """google.rpc code of the answer"""
    message: str = ""
    """what the answer says, where it is a failure"""


class EventKind(StrEnum):
    """What happened."""

    QUEUED = "queued"
    ASSIGNED = "assigned"
    STARTED = "started"
    RETRIED = "retried"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed out"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a job."""

    kind: EventKind
    at: datetime
    bot: str = ""
    reason: str = ""
    counted: Counted | None = None
    """of a retry: against which bound"""
    n_tries: int = 0
    """of a retry: the number of the attempt that follows, of those that count against max_job_attempts"""
    status: str = ""
    """of an end: the name of the google.rpc code of the answer"""

    @property
    def text(self) -> str:
        """A line for people."""
        match self.kind:
            case EventKind.ASSIGNED | EventKind.STARTED:
                return f"{self.kind} {'to' if self.kind is EventKind.ASSIGNED else 'on'} bot {self.bot}"
            case EventKind.RETRIED:
                bound = "" if self.counted == "try" else ", which does not count as a try"
                return f"retried (try {self.n_tries}{bound}): {self.reason}"
            case EventKind.COMPLETED:
                said = f": {self.reason}" if self.reason else ""
                return f"completed as {self.status}{said}"
            case EventKind.TIMED_OUT:
                return f"timed out: {self.reason}" if self.reason else "timed out"
            case _:
                return str(self.kind)


def history(job: JobRecord) -> list[Event]:
    """The events in the life of a job, in the order in which they followed each other.

    A bot's own clock tells when it started, so that a start may seem to lie before the assignment.
    """
    events = [Event(EventKind.QUEUED, job.queued_at)]
    n_tries = 1
    for attempt in job.attempts:
        events += _beginning(attempt)
        n_tries += attempt.counted == "try"
        events.append(
            Event(EventKind.RETRIED, attempt.ended, attempt.bot, attempt.reason, attempt.counted, n_tries)
        )
    if job.last is not None:
        events += _beginning(job.last)
    if job.completed_at is not None:
        kind = EventKind.COMPLETED
        if job.cancelled:
            kind = EventKind.CANCELLED
        elif job.status_code == code_pb2.DEADLINE_EXCEEDED:
            kind = EventKind.TIMED_OUT
        bot = job.last.bot if job.last is not None else ""
        status = code_name(job.status_code)
        events.append(Event(kind, job.completed_at, bot, job.message, status=status))
    return events


def _beginning(attempt: PastAttempt | LastAttempt) -> list[Event]:
    steps = ((EventKind.ASSIGNED, attempt.assigned), (EventKind.STARTED, attempt.started))
    return [Event(kind, at, attempt.bot) for kind, at in steps if at is not None]


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _storable(text: str) -> str:
    """PostgreSQL's JSON holds no NUL."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")
