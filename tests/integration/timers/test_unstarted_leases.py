"""A bot that calls and calls but never starts what it was given: the job goes to another."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from buildgrid_scheduler.core.attempts import AttemptLimits
from buildgrid_scheduler.core.errors import DataLoss
from buildgrid_scheduler.core.job_state import Stage
from buildgrid_scheduler.core.requirements import requirement_hash
from buildgrid_scheduler.engine.assigning import assign_waiting
from buildgrid_scheduler.engine.items import Enqueued
from buildgrid_scheduler.engine.timed_rounds import TimedRounds
from buildgrid_scheduler.engine.unstarted import take_back_unstarted
from buildgrid_scheduler.store.provider import SqlProvider
from buildgrid_scheduler.timers.options import TimerSettings
from google.rpc import code_pb2

from tests.integration.engine.conftest import StartReplica
from tests.integration.engine.faults import every_first_try_fails
from tests.integration.engine.replica import (
    ACTIVE,
    CANCELLED,
    PENDING,
    Replica,
    Report,
    Transaction,
    counts,
    result,
    success,
)
from tests.integration.timers.jobs import POLICY, held, held_open, interrupted, one, running

LIMIT = timedelta(minutes=30)
SPARE = timedelta(seconds=1)


def take_back(at_once: int = 100) -> Transaction[int]:
    return take_back_unstarted(LIMIT, at_once=at_once, policy=POLICY, store_results=True)


def given(
    replica: Replica, word: str = "action", bot_id: str = "bot", capacity: int = 1
) -> tuple[Enqueued, str]:
    """A job that a bot was told of, and the session."""
    enqueued = replica.enqueue(word)
    session = replica.open(bot_id, capacity=capacity)
    assert replica.take(session, bot_id) == enqueued.job_name
    return enqueued, session


def alive_until_late(replica: Replica, session: str, reports: dict[str, Report]) -> None:
    """The bot calls often enough."""
    for _ in range(6):
        replica.clock.advance(LIMIT / 6 + SPARE)
        replica.sync(session, reports=reports)
        assert replica.reap() == 0


def test_a_job_that_its_bot_reports_as_pending_for_ever_comes_back(
    replica: Replica, provider: SqlProvider
) -> None:
    enqueued, session = given(replica)
    assert replica.call(take_back()) == 0
    alive_until_late(replica, session, {enqueued.job_name: Report(PENDING)})
    assert replica.call(take_back()) == 1
    assert replica.stage(enqueued.operation_name) is Stage.QUEUED
    assert one(provider, "SELECT n_infra_tries FROM jobs") == 1
    assert one(provider, "SELECT n_tries FROM jobs") == 1
    reason = one(provider, "SELECT attempts -> 0 ->> 'reason' FROM jobs")
    assert reason == "bot bot did not start it within 30min (lease_start_timeout)"
    other = replica.open("other")
    job = replica.take(other, "other")
    replica.sync(other, "other", reports={job: success()})
    assert replica.stage(enqueued.operation_name) is Stage.COMPLETED


def test_so_does_a_job_that_its_bot_never_speaks_of(replica: Replica) -> None:
    enqueued, session = given(replica)
    alive_until_late(replica, session, {})
    assert replica.call(take_back()) == 1
    assert replica.stage(enqueued.operation_name) is Stage.QUEUED


def test_a_bot_with_one_slot_hears_that_its_session_is_closed(replica: Replica) -> None:
    enqueued, session = given(replica)
    replica.clock.advance(LIMIT + SPARE)
    assert replica.call(take_back()) == 1
    with pytest.raises(DataLoss):
        replica.sync(session, reports={enqueued.job_name: Report(PENDING)})
    assert replica.stage(enqueued.operation_name) is Stage.QUEUED


def test_a_bot_with_several_slots_is_told_to_stop_and_goes_on_with_the_rest(replica: Replica) -> None:
    busy, session = given(replica, "busy", capacity=3)
    stuck = replica.enqueue("stuck")
    replica.look()
    reports = {busy.job_name: Report(ACTIVE)}
    replica.sync(session, reports=reports)
    reports[stuck.job_name] = Report(PENDING)
    replica.clock.advance(LIMIT + SPARE)
    assert replica.call(take_back()) == 1
    told = {t.job_name: t.state for t in replica.sync(session, reports=reports).leases}
    assert told == {busy.job_name: ACTIVE, stuck.job_name: CANCELLED}
    reports[stuck.job_name] = Report(CANCELLED)
    told = {t.job_name: t.state for t in replica.sync(session, reports=reports).leases}
    assert told == {busy.job_name: ACTIVE}
    del reports[stuck.job_name]
    replica.look()
    told = {t.job_name: t.state for t in replica.sync(session, reports=reports).leases}
    assert told == {busy.job_name: ACTIVE, stuck.job_name: PENDING}


def test_a_held_call_of_the_bot_is_answered_at_once(replica: Replica) -> None:
    enqueued, session = given(replica, capacity=2)
    reports = {enqueued.job_name: Report(PENDING)}
    call = replica.submitted_sync(session, reports=reports, hold=True)
    replica.settle()
    assert not call.ticket.future.done()
    replica.clock.advance(LIMIT + SPARE)
    assert replica.call(take_back()) == 1
    assert [(t.job_name, t.state) for t in result(call).leases] == [(enqueued.job_name, CANCELLED)]


def test_a_job_that_nobody_ever_starts_ends_after_max_infra_attempts(start_replica: StartReplica) -> None:
    replica = start_replica(limits=AttemptLimits(max_infra_attempts=2))
    enqueued, _ = given(replica)
    for number in range(2):
        replica.clock.advance(LIMIT + SPARE)
        policy = replica.engine.policy
        assert replica.call(take_back_unstarted(LIMIT, at_once=1, policy=policy, store_results=True)) == 1
        if not number:
            replica.take(replica.open())
    answer = replica.response(enqueued.operation_name)
    assert answer is not None
    assert answer.status.code == code_pb2.UNAVAILABLE
    assert "lease_start_timeout" in answer.status.message


def test_what_runs_waits_is_cancelled_or_not_told_yet_is_left_alone(replica: Replica) -> None:
    running(replica, "runs", "runner")
    cancelled, _ = given(replica, "cancelled", "stopped")
    replica.cancel(cancelled.operation_name)
    replica.enqueue("not told")
    session = replica.open("by name")
    assign = assign_waiting("", requirement_hash({}), [session], by_age=True)
    assert replica.call(assign) == [session]
    replica.enqueue("waits")
    replica.clock.advance(LIMIT + SPARE)
    assert replica.call(take_back()) == 0


def test_the_time_counts_from_when_the_bot_was_told(replica: Replica) -> None:
    enqueued = replica.enqueue("action")
    replica.clock.advance(LIMIT * 2)
    replica.take(replica.open())
    replica.clock.advance(LIMIT - SPARE)
    assert replica.call(take_back()) == 0
    replica.clock.advance(2 * SPARE)
    assert replica.call(take_back()) == 1
    assert replica.stage(enqueued.operation_name) is Stage.QUEUED


@pytest.mark.parametrize("meanwhile", ["starts", "is done", "is cancelled"])
def test_a_lease_that_moves_on_at_the_last_moment_is_left_alone(
    replica: Replica, other: Replica, provider: SqlProvider, meanwhile: str
) -> None:
    enqueued, session = given(replica)
    job = enqueued.job_name
    acts: dict[str, Callable[[], object]] = {
        "starts": lambda: other.sync(session, reports={job: Report(ACTIVE)}),
        "is done": lambda: other.sync(session, reports={job: success()}),
        "is cancelled": lambda: other.cancel(enqueued.operation_name),
    }
    replica.clock.advance(LIMIT + SPARE)
    assert replica.call(interrupted(take_back(), {"SELECT name, bot_id, status": acts[meanwhile]})) == 0
    assert counts(provider, "queue") == 0


def test_at_most_so_many_at_once(replica: Replica) -> None:
    for number in range(5):
        given(replica, f"action {number}", f"bot {number}")
    replica.clock.advance(LIMIT + SPARE)
    assert [replica.call(take_back(2)) for _ in range(4)] == [2, 2, 1, 0]


def test_another_replica_neither_waits_for_what_this_one_holds_nor_does_it_again(
    replica: Replica, other: Replica, provider: SqlProvider
) -> None:
    for number in range(5):
        given(replica, f"action {number}", f"bot {number}")
    replica.clock.advance(LIMIT + SPARE)
    with held_open(provider, take_back(2), replica.clock()) as mine:
        assert mine == 2
        assert other.call(take_back()) == 3
    assert other.call(take_back()) == 0
    assert one(provider, "SELECT sum(n_infra_tries) FROM jobs") == 5


def test_a_session_that_somebody_deals_with_is_left_to_the_next_round(
    replica: Replica, provider: SqlProvider
) -> None:
    _, session = given(replica)
    replica.clock.advance(LIMIT + SPARE)
    with held(provider, "SELECT 1 FROM bots WHERE name = %s FOR NO KEY UPDATE", (session,)):
        assert replica.call(take_back()) == 0
    assert replica.call(take_back()) == 1


@pytest.mark.parametrize("committed", [False, True], ids=["rolled back", "commit unheard"])
def test_it_may_be_run_twice(
    replica: Replica, provider: SqlProvider, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    enqueued, _ = given(replica)
    replica.clock.advance(LIMIT + SPARE)
    with every_first_try_fails(monkeypatch, committed=committed):
        replica.call(take_back())
    assert replica.stage(enqueued.operation_name) is Stage.QUEUED
    assert one(provider, "SELECT n_infra_tries FROM jobs") == 1


def test_the_execution_timer_does_both(replica: Replica, provider: SqlProvider) -> None:
    overlong, _ = running(replica, "runs", "runner")
    stuck, _ = given(replica, "stuck", "stuck bot")
    settings = TimerSettings(
        max_execution_timeout=LIMIT, execution_grace=timedelta(), lease_start_timeout=LIMIT
    )
    rounds = TimedRounds(replica.engine, replica.engine.following, settings)
    assert sum(rounds.execution_timeouts()) == 0
    replica.clock.advance(LIMIT + SPARE)
    assert sum(rounds.execution_timeouts()) == 2
    assert replica.stage(overlong.operation_name) is Stage.COMPLETED
    assert replica.stage(stuck.operation_name) is Stage.QUEUED


def test_without_a_limit_a_bot_may_take_for_ever(replica: Replica) -> None:
    given(replica)
    replica.clock.advance(timedelta(days=1000))
    settings = TimerSettings(max_execution_timeout=LIMIT)
    assert sum(TimedRounds(replica.engine, replica.engine.following, settings).execution_timeouts()) == 0
