"""Decisions about bots' reports: what each session's report changes, and what it is told."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.core.completion import Retry, end_of_attempt
from buildgrid_scheduler.core.errors import DataLoss, SchedulerError, Unavailable, UnknownSession
from buildgrid_scheduler.core.job_state import JobState, Stage
from buildgrid_scheduler.core.lease_transition import LeaseState, Transition, reconcile
from buildgrid_scheduler.core.requirements import Offer
from buildgrid_scheduler.core.slots import MOST_NEW_LEASES, Slots, slots_of
from buildgrid_scheduler.core.suspects import is_suspect, with_alone
from buildgrid_scheduler.engine.items import Effects, Synchronize, Tell
from buildgrid_scheduler.engine.lease_ends import Holder, LeaseChanges, LeaseRow

_NO_SLOTS = Slots(free=0, held=False, empty=False)


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A row of `bots`, locked."""

    name: str
    instance: str
    bot_id: str
    capacity: int
    completed_leases: str
    latest_call: str
    capacity_class: str
    avoided_until: datetime | None
    drained: bool
    disrupted: bool | None
    """whether the mark of a drained bot says so; none: there is no mark, or it was not seen"""

    def holder(self, status: BotStatus) -> Holder:
        """As leases are lost by it."""
        return Holder(self.bot_id, status, self.capacity, self.capacity_class, bool(self.disrupted))


@dataclass(slots=True)
class SessionOutcome:
    """What one session's report came to."""

    item: Synchronize
    tells: list[Tell] = field(default_factory=list)
    payloads_wanted: list[str] = field(default_factory=list)
    """jobs whose Action must be in the answer"""
    completed: list[str] = field(default_factory=list)
    slots: Slots = _NO_SLOTS
    given: int = 0
    """leases of waiting jobs that the session got in this round"""
    capacity: int = 1
    capacity_class: str = ""
    avoided_bot: str = ""
    """its bot_id while there may be jobs that avoid it; empty otherwise"""
    error: SchedulerError | None = None
    closed: bool = False
    """delete the session"""
    leaving: bool = False
    """the bot has announced its end, and has nothing left to do: its session ends within moments"""
    at_once: bool = False
    """do not hold the call: there is a job that the bot may have, but not in this answer"""
    unknown: bool = False
    """a lease is reported that the database does not have: its job may wait, and not be for this answer"""

    @property
    def asks_for(self) -> Offer | None:
        """What jobs it may be handed now require a part of this; none: it is to get nothing."""
        offer = self.item.offer
        return with_alone(offer) if offer is not None and self.slots.free and self.error is None else None

    @property
    def wakes_for(self) -> Offer | None:
        """What jobs it is woken for while it is held.

        Not for suspects while something else runs there: there may be a bot that can start them at once. When
        it calls by itself and one still waits, there is none.
        """
        return self.asks_for if self.slots.empty else self.item.offer if self.slots.free else None

    @property
    def kind(self) -> str:
        """Jobs that avoid one bot avoid all of its kind: of its class, or it alone."""
        return kind_of_bot(self.capacity_class, self.avoided_bot)

    def set_aside(self) -> None:
        """It was given a suspect, and until that is done nothing else."""
        self.slots = replace(self.slots, free=0)


def kind_of_bot(capacity_class: str, avoided_bot: str) -> str:
    """For `WaitingBots`, where it stands for a capacity class. No class has a NUL."""
    return f"{capacity_class}\0{avoided_bot}" if avoided_bot else capacity_class


def unknown_session(name: str, bot_id: str) -> UnknownSession:
    """The answer for a session that is not there, not of this instance, or not of this bot."""
    return UnknownSession(f"bot session {name!r} of bot {bot_id!r} is not known; create a new session")


def taken_over() -> Unavailable:
    """The answer to a held call when the bot has called again since: it waits there no more."""
    return Unavailable("a later call of the same session took over")


def synchronize(
    item: Synchronize,
    session: SessionRow | None,
    leases: Sequence[LeaseRow],
    changes: LeaseChanges,
    effects: Effects,
) -> SessionOutcome:
    """Apply the lease table to one session: notes in `changes` what to write, in `effects` what to tell."""
    outcome = SessionOutcome(item)
    if session is None or session.instance != item.instance or session.bot_id != item.bot_id:
        outcome.error = unknown_session(item.session_name, item.bot_id)
        return outcome
    if item.woken and session.latest_call != item.call_id:
        outcome.error = taken_over()
        return outcome
    outcome.capacity, outcome.capacity_class = session.capacity, session.capacity_class
    if session.avoided_until is not None and session.avoided_until > changes.now:
        outcome.avoided_bot = item.bot_id
    holder = session.holder(item.status)
    by_job = {lease.job_name: lease for lease in leases}
    before = session.completed_leases.split()
    suspects = [job for job, lease in by_job.items() if is_suspect(lease.requirement_hash)]
    verdict = reconcile(
        reported={job: report.state for job, report in item.reports.items()},
        held={job: lease.state for job, lease in by_job.items()},
        capacity=session.capacity,
        status=item.status,
        completed_before=before,
        untold=[job for job, lease in by_job.items() if lease.told_at is None],
        suspects=suspects,
    )
    if verdict.closed is not None:
        reason = f"the session of bot {item.bot_id} was closed: {verdict.closed}"
        for lost in leases:
            changes.lose(lost, holder, reason=reason, vanished=True)
        outcome.closed = True
        outcome.error = DataLoss(f"{reason}; create a new session")
        return outcome

    for job, step in verdict.leases.items():
        lease = by_job.get(job)
        if lease is None:
            _answer_unknown(step, job, outcome)
        else:
            _apply(step, lease, holder, outcome, changes, effects)
    # Still the latest completions: a repeat of that report may be on its way.
    outcome.completed += [j for j in before if j in item.reports and j not in outcome.completed]
    outcome.slots = slots_of(
        verdict.leases,
        capacity=session.capacity,
        status=item.status,
        drained=session.drained,
        suspects=suspects,
        hold_full=item.hold_full,
    )
    outcome.leaving = item.status.announces_end and not any(step.stays for step in verdict.leases.values())
    return outcome


def _answer_unknown(step: Transition, job: str, outcome: SessionOutcome) -> None:
    """A lease that the database does not have."""
    match step:
        case Transition.TELL_CANCELLED:
            outcome.tells.append(Tell(job, LeaseState.CANCELLED))
            outcome.unknown = True
        case Transition.ACCEPT if not outcome.item.woken:
            outcome.unknown = outcome.at_once = True
        case Transition.ACCEPT:
            pass
        case _:
            raise RuntimeError(f"{step} is not a transition of a lease that is not there")


def _apply(
    step: Transition,
    lease: LeaseRow,
    holder: Holder,
    outcome: SessionOutcome,
    changes: LeaseChanges,
    effects: Effects,
) -> None:
    """Carry out the transition of a lease that the session has."""
    item, job = outcome.item, lease.job_name
    report = item.reports.get(job)
    match step:
        case Transition.SEND if len(outcome.payloads_wanted) >= MOST_NEW_LEASES:
            pass  # No room for its Action in this answer. The bot will not report it, so it is sent again.
        case Transition.SEND:
            outcome.tells.append(Tell(job, LeaseState.PENDING))
            outcome.payloads_wanted.append(job)
            if lease.told_at is None:
                changes.updated.append((job, LeaseState.PENDING, None, None))
                effects.states[job] = JobState(Stage.EXECUTING, lease.action_digest)
        case Transition.HEARTBEAT | Transition.ACTIVATE:
            if report is None:
                raise RuntimeError("a heartbeat needs a report")
            partial = report.partial_metadata
            if step is Transition.ACTIVATE or (partial and partial != lease.partial_metadata):
                started = _started(lease, report.state, changes.now)
                changes.updated.append((job, report.state, started, partial))
                effects.states[job] = JobState(Stage.EXECUTING, lease.action_digest, None, partial)
            outcome.tells.append(Tell(job, report.state))
        case Transition.TELL_CANCELLED:
            outcome.tells.append(Tell(job, LeaseState.CANCELLED))
        case Transition.KEEP:
            outcome.at_once = True
        case Transition.WAIT:
            pass
        case Transition.FINISH:
            if report is None:
                raise RuntimeError("a completion needs a report")
            end = end_of_attempt(
                lease.attempt,
                status_code=report.status_code,
                status_message=report.status_message,
                status_details=report.status_details,
                result=report.result,
                bot_id=item.bot_id,
                now=changes.now,
                policy=changes.policy,
            )
            changes.end(lease, end, item.bot_id)
            if isinstance(end, Retry):
                outcome.avoided_bot = item.bot_id
            outcome.completed.append(job)
            outcome.at_once |= isinstance(end, Retry)
        case Transition.FREE:
            changes.free(lease, item.bot_id)
            outcome.completed.append(job)
        case Transition.HAND_BACK | Transition.REQUEUE:
            reason = f"bot {item.bot_id} no longer had the lease"
            if step is Transition.HAND_BACK:
                reason = f"bot {item.bot_id} ended before it started the action"
            changes.lose(lease, holder, reason=reason, vanished=False)
        case _:
            raise RuntimeError(f"{step} is not a transition of a lease that is held")


def _started(lease: LeaseRow, reported: LeaseState, now: datetime) -> datetime | None:
    return lease.started_at or (now if reported is LeaseState.ACTIVE else None)
