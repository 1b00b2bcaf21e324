"""The lease machine: what a bot reports against what the database has, as pure functions.

One lease (`transition`):

| bot reports | database has | transition |
|---|---|---|
| no lease | nothing | IDLE |
| COMPLETED | nothing | ACCEPT: an answer of ours was lost |
| anything else | nothing | CLOSE |
| no lease | PENDING | SEND (again) |
| no lease, bot says BOT_TERMINATING | PENDING | HAND_BACK: never started, does not count as a try |
| no lease | ACTIVE | CLOSE |
| no lease | CANCELLED | FREE |
| ACTIVE | PENDING | ACTIVATE |
| same as database | PENDING / ACTIVE | HEARTBEAT |
| COMPLETED | PENDING / ACTIVE | FINISH |
| PENDING / ACTIVE | CANCELLED | TELL_CANCELLED |
| CANCELLED / COMPLETED | CANCELLED | FREE: the result is discarded |
| CANCELLED | PENDING / ACTIVE | CLOSE |
| any other pair | | CLOSE |

A session (`reconcile`) applies that by lease id. With a capacity of 1, a lease id that the database does
not have beside one that it has is a mismatch and closes the session. A lease that this session has let go
of before, as COMPLETED or CANCELLED, may be reported so again: that is accepted. With a capacity above 1
nothing closes the session for the sake of one lease: CLOSE of a known lease becomes REQUEUE of it alone,
an unknown lease is told CANCELLED, an unknown COMPLETED one is dropped.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum, auto

from buildgrid_scheduler.core.bot_status import BotStatus


class LeaseState(IntEnum):
    """Numbers are those of the wire (RWAPI, LeaseState)."""

    UNSPECIFIED = 0
    PENDING = 1
    ACTIVE = 2
    COMPLETED = 4
    CANCELLED = 5


class Transition(Enum):
    """What follows for one lease."""

    IDLE = auto()
    ACCEPT = auto()
    SEND = auto()
    HAND_BACK = auto()
    ACTIVATE = auto()
    HEARTBEAT = auto()
    FINISH = auto()
    TELL_CANCELLED = auto()
    FREE = auto()
    REQUEUE = auto()
    CLOSE = auto()


_P, _A, _D, _C = LeaseState.PENDING, LeaseState.ACTIVE, LeaseState.COMPLETED, LeaseState.CANCELLED

_TABLE: dict[tuple[LeaseState | None, LeaseState | None], Transition] = {
    # (reported, in the database)
    (None, None): Transition.IDLE,
    (_D, None): Transition.ACCEPT,
    (None, _P): Transition.SEND,
    (None, _C): Transition.FREE,
    (_A, _P): Transition.ACTIVATE,
    (_P, _P): Transition.HEARTBEAT,
    (_A, _A): Transition.HEARTBEAT,
    (_D, _P): Transition.FINISH,
    (_D, _A): Transition.FINISH,
    (_P, _C): Transition.TELL_CANCELLED,
    (_A, _C): Transition.TELL_CANCELLED,
    (_C, _C): Transition.FREE,
    (_D, _C): Transition.FREE,
}


def transition(
    reported: LeaseState | None, held: LeaseState | None, status: BotStatus = BotStatus.OK
) -> Transition:
    """The cell of the table above for one lease; None is "no lease" and "nothing"."""
    if status is BotStatus.BOT_TERMINATING and reported is None and held is _P:
        return Transition.HAND_BACK
    return _TABLE.get((reported, held), Transition.CLOSE)


@dataclass(frozen=True)
class Verdict:
    """What follows for a session: transitions by lease id, or, if `closed`, its end and why."""

    leases: dict[str, Transition] = field(default_factory=dict)
    closed: str | None = None


def reconcile(
    *,
    reported: Mapping[str, LeaseState],
    held: Mapping[str, LeaseState],
    capacity: int,
    status: BotStatus,
    completed_before: Collection[str],
) -> Verdict:
    """Hold what a bot reports against what the database has for its session.

    `completed_before` are the lease ids that the session completed in its latest report.
    """
    verdict: dict[str, Transition] = {}
    for job in {**held, **reported}:
        said, has = reported.get(job), held.get(job)
        if has is None and said in (_D, _C) and job in completed_before:
            verdict[job] = Transition.ACCEPT
            continue
        step = transition(said, has, status)
        if has is None and capacity == 1 and held:
            return Verdict(closed=f"lease {job} is reported, lease {next(iter(held))} is held")
        if step is Transition.CLOSE:
            if capacity == 1:
                return Verdict(closed=f"lease {job} is reported as {_name(said)}, held as {_name(has)}")
            step = Transition.TELL_CANCELLED if has is None else Transition.REQUEUE
        verdict[job] = step
    return Verdict(leases=verdict)


def _name(state: LeaseState | None) -> str:
    return "absent" if state is None else state.name
