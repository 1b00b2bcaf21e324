"""The lease machine: what a bot reports against what the database has, as pure functions.

One lease (`transition`), on a bot with one slot and on one with several:

| bot reports | database has | one slot | several slots | |
|---|---|---|---|---|
| no lease | nothing | IDLE | IDLE | |
| COMPLETED | nothing | ACCEPT | ACCEPT | an answer of ours was lost |
| CANCELLED | nothing | CLOSE | ACCEPT | it has let go of it already |
| anything else | nothing | CLOSE | TELL_CANCELLED | |
| no lease | PENDING | SEND | SEND | once more, if the answer was lost |
| no lease, BOT_TERMINATING | PENDING | HAND_BACK | HAND_BACK | never started: not the job's doing |
| no lease | ACTIVE | CLOSE | REQUEUE | |
| no lease | CANCELLED | FREE | FREE | |
| PENDING | PENDING | HEARTBEAT | HEARTBEAT | |
| ACTIVE | PENDING | ACTIVATE | ACTIVATE | |
| ACTIVE | ACTIVE | HEARTBEAT | HEARTBEAT | |
| COMPLETED | PENDING / ACTIVE | FINISH | FINISH | |
| COMPLETED, again | PENDING, not told | KEEP | KEEP | the attempt that ended is an earlier one |
| PENDING / ACTIVE | CANCELLED | TELL_CANCELLED | TELL_CANCELLED | |
| COMPLETED / CANCELLED | CANCELLED | FREE | FREE | the result is discarded |
| CANCELLED | PENDING / ACTIVE | CLOSE | REQUEUE | |
| any other pair | | CLOSE | REQUEUE | |

A session (`reconcile`) applies that by lease id, and knows three things that a single lease does not:

- With one slot, a lease id that the database does not have beside one that it has is a mismatch: CLOSE.
- A lease that this session has let go of, as COMPLETED or CANCELLED in its latest report, may be reported
  so again: ACCEPT.
- A suspect (see core.suspects) that its bot was not told of yet is not sent while anything else runs there:
  WAIT.
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
    """there is none"""
    ACCEPT = auto()
    """what is reported is known, or of no interest: say nothing of it"""
    SEND = auto()
    """tell it with its action; the job is EXECUTING"""
    HAND_BACK = auto()
    """the job waits again; against max_infra_attempts"""
    ACTIVATE = auto()
    """the bot has started"""
    HEARTBEAT = auto()
    """nothing changes"""
    FINISH = auto()
    """the attempt has ended: complete the job or retry it"""
    KEEP = auto()
    """leave it as it is, and say nothing of it in this answer"""
    WAIT = auto()
    """leave it as it is until the bot has nothing else"""
    TELL_CANCELLED = auto()
    """tell the bot to stop; the slot is taken until it has"""
    FREE = auto()
    """the lease goes, the job stays as it is"""
    REQUEUE = auto()
    """the lease is lost: the job waits again, or ends"""
    CLOSE = auto()
    """the session ends, and all its leases are lost"""

    @property
    def stays(self) -> bool:
        """Whether the lease takes a slot from now on."""
        return self in _STAY

    @property
    def told(self) -> bool:
        """Whether the answer speaks of the lease."""
        return self in _TOLD


_TOLD = frozenset(
    {Transition.SEND, Transition.ACTIVATE, Transition.HEARTBEAT, Transition.TELL_CANCELLED},
)
_STAY = _TOLD | {Transition.KEEP, Transition.WAIT}

_U, _P, _A = LeaseState.UNSPECIFIED, LeaseState.PENDING, LeaseState.ACTIVE
_D, _C = LeaseState.COMPLETED, LeaseState.CANCELLED
_T = Transition

TABLE: dict[tuple[LeaseState | None, LeaseState | None], tuple[Transition, Transition]] = {
    # (reported, in the database): (one slot, several slots)
    (None, None): (_T.IDLE, _T.IDLE),
    (_D, None): (_T.ACCEPT, _T.ACCEPT),
    (_C, None): (_T.CLOSE, _T.ACCEPT),
    (_U, None): (_T.CLOSE, _T.TELL_CANCELLED),
    (_P, None): (_T.CLOSE, _T.TELL_CANCELLED),
    (_A, None): (_T.CLOSE, _T.TELL_CANCELLED),
    (None, _P): (_T.SEND, _T.SEND),
    (None, _A): (_T.CLOSE, _T.REQUEUE),
    (None, _C): (_T.FREE, _T.FREE),
    (_P, _P): (_T.HEARTBEAT, _T.HEARTBEAT),
    (_A, _P): (_T.ACTIVATE, _T.ACTIVATE),
    (_A, _A): (_T.HEARTBEAT, _T.HEARTBEAT),
    (_D, _P): (_T.FINISH, _T.FINISH),
    (_D, _A): (_T.FINISH, _T.FINISH),
    (_P, _C): (_T.TELL_CANCELLED, _T.TELL_CANCELLED),
    (_A, _C): (_T.TELL_CANCELLED, _T.TELL_CANCELLED),
    (_D, _C): (_T.FREE, _T.FREE),
    (_C, _C): (_T.FREE, _T.FREE),
    (_C, _P): (_T.CLOSE, _T.REQUEUE),
    (_C, _A): (_T.CLOSE, _T.REQUEUE),
}
OTHERWISE = (_T.CLOSE, _T.REQUEUE)
"""any other pair"""


def transition(
    reported: LeaseState | None,
    held: LeaseState | None,
    *,
    capacity: int = 1,
    status: BotStatus = BotStatus.OK,
    again: bool = False,
    told: bool = True,
) -> Transition:
    """The cell of the table above for one lease; None is "no lease" and "nothing".

    `again`: the session reported this end before. `told`: the bot was told of the lease that is held.
    """
    if held is _P:
        if reported is None and status is BotStatus.BOT_TERMINATING:
            return Transition.HAND_BACK
        if reported is _D and again and not told:
            return Transition.KEEP
    one, several = TABLE.get((reported, held), OTHERWISE)
    return one if capacity == 1 else several


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
    untold: Collection[str] = (),
    suspects: Collection[str] = (),
) -> Verdict:
    """Hold what a bot reports against what the database has for its session.

    `completed_before` are the lease ids that the session let go of in its latest report. Of those that are
    held, the bot was never told of the `untold`, and the `suspects` have to be alone.
    """
    verdict: dict[str, Transition] = {}
    for job in {**held, **reported}:
        said, has = reported.get(job), held.get(job)
        again = job in completed_before
        if has is None and said in (_D, _C) and again:
            verdict[job] = Transition.ACCEPT
            continue
        if has is None and capacity == 1 and held:
            return Verdict(closed=f"lease {job} is reported, lease {next(iter(held))} is held")
        step = transition(said, has, capacity=capacity, status=status, again=again, told=job not in untold)
        if step is Transition.CLOSE:
            return Verdict(closed=f"lease {job} is reported as {_name(said)}, held as {_name(has)}")
        verdict[job] = step
    if capacity > 1 and suspects:
        _keep_apart(verdict, untold, suspects)
    return Verdict(leases=verdict)


def _keep_apart(verdict: dict[str, Transition], untold: Collection[str], suspects: Collection[str]) -> None:
    """Of the suspects that the bot was not told of, let the first go, once nothing else runs, and no more."""
    due = sorted(
        job for job, step in verdict.items() if step is Transition.SEND and job in untold and job in suspects
    )
    others = any(step.stays and job not in due for job, step in verdict.items())
    for job in due if others else due[1:]:
        verdict[job] = Transition.WAIT


def _name(state: LeaseState | None) -> str:
    return "absent" if state is None else state.name
