"""Decisions about bots' reports: what each session's report changes, and what it is told."""

from dataclasses import dataclass, field
from datetime import datetime

from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.core.completion import Retry, end_of_attempt
from buildgrid_scheduler.core.errors import DataLoss, InvalidArgument, SchedulerError, Unavailable
from buildgrid_scheduler.core.job_state import JobState, Stage
from buildgrid_scheduler.core.lease_transition import LeaseState, Transition, reconcile
from buildgrid_scheduler.engine.items import Effects, Synchronize, Tell
from buildgrid_scheduler.engine.lease_ends import LeaseChanges, LeaseRow


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A row of `bots`, locked."""

    name: str
    instance: str
    bot_id: str
    capacity: int
    completed_leases: str
    latest_call: str


@dataclass(slots=True)
class SessionOutcome:
    """What one session's report came to."""

    item: Synchronize
    tells: list[Tell] = field(default_factory=list)
    payloads_wanted: list[str] = field(default_factory=list)
    """jobs whose Action must be in the answer"""
    completed: list[str] = field(default_factory=list)
    free_slots: int = 0
    error: SchedulerError | None = None
    closed: bool = False
    """delete the session"""
    at_once: bool = False
    """do not hold the call: there is a job that the bot may have, but not in this answer"""
    repeats: bool = False
    """a completion is reported that was reported before: its answer was lost"""


def unknown_session(name: str, bot_id: str) -> InvalidArgument:
    """The answer for a session that is not there, not of this instance, or not of this bot."""
    return InvalidArgument(f"bot session {name!r} of bot {bot_id!r} is not known; create a new session")


def taken_over() -> Unavailable:
    """The answer to a held call when the bot has called again since: it waits there no more."""
    return Unavailable("a later call of the same session took over")


def synchronize(
    item: Synchronize,
    session: SessionRow | None,
    leases: list[LeaseRow],
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
    by_job = {lease.job_name: lease for lease in leases}
    verdict = reconcile(
        reported={job: report.state for job, report in item.reports.items()},
        held={job: lease.state for job, lease in by_job.items()},
        capacity=session.capacity,
        status=item.status,
        completed_before=session.completed_leases.split(),
    )
    if verdict.closed is not None:
        reason = f"the session of bot {item.bot_id} was closed: {verdict.closed}"
        for lost in leases:
            changes.lose(lost, bot_id=item.bot_id, status=item.status, reason=reason)
        outcome.closed = True
        outcome.error = DataLoss(f"{reason}; create a new session")
        return outcome

    busy = 0
    before = session.completed_leases.split()
    for job, step in verdict.leases.items():
        lease = by_job.get(job)
        if step is Transition.FINISH and lease is not None and lease.told_at is None and job in before:
            # A repeat, and the job was leased to this session again: that attempt has not been told yet.
            outcome.at_once = True
            busy += 1
            continue
        busy += _apply(step, job, lease, outcome, changes, effects)
    # Still the latest completions: a repeat of that report may be on its way.
    outcome.completed += [j for j in before if j in item.reports and j not in outcome.completed]
    if item.status is BotStatus.OK:
        outcome.free_slots = max(0, session.capacity - busy)
    return outcome


def _apply(
    step: Transition,
    job: str,
    lease: LeaseRow | None,
    outcome: SessionOutcome,
    changes: LeaseChanges,
    effects: Effects,
) -> int:
    """Carry one transition out; returns how many slots the lease takes from now on."""
    item = outcome.item
    if lease is None:
        if step is Transition.ACCEPT and not item.woken:
            outcome.repeats = outcome.at_once = True
        if step is Transition.TELL_CANCELLED and item.reports[job].state is not LeaseState.CANCELLED:
            outcome.tells.append(Tell(job, LeaseState.CANCELLED))
            return 1  # until the bot has let go of it
        return 0
    report = item.reports.get(job)
    match step:
        case Transition.SEND:
            outcome.tells.append(Tell(job, LeaseState.PENDING))
            outcome.payloads_wanted.append(job)
            if lease.told_at is None:
                changes.updated.append((job, LeaseState.PENDING, None, None))
                effects.states[job] = JobState(Stage.EXECUTING, lease.action_digest)
            return 1
        case Transition.HEARTBEAT | Transition.ACTIVATE:
            if report is None:
                raise RuntimeError("a heartbeat needs a report")
            partial = report.partial_metadata
            if step is Transition.ACTIVATE or (partial and partial != lease.partial_metadata):
                started = _started(lease, report.state, changes.now)
                changes.updated.append((job, report.state, started, partial))
                effects.states[job] = JobState(Stage.EXECUTING, lease.action_digest, None, partial)
            outcome.tells.append(Tell(job, report.state))
            return 1
        case Transition.TELL_CANCELLED:
            outcome.tells.append(Tell(job, LeaseState.CANCELLED))
            return 1
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
            outcome.completed.append(job)
            outcome.at_once |= isinstance(end, Retry)
        case Transition.FREE:
            changes.freed.append(job)
            outcome.completed.append(job)
        case Transition.HAND_BACK | Transition.REQUEUE:
            reason = f"bot {item.bot_id} no longer had the lease"
            changes.lose(lease, bot_id=item.bot_id, status=item.status, reason=reason)
        case _:
            raise RuntimeError(f"{step} is not a transition of a lease that is held")
    return 0


def _started(lease: LeaseRow, reported: LeaseState, now: datetime) -> datetime | None:
    return lease.started_at or (now if reported is LeaseState.ACTIVE else None)
