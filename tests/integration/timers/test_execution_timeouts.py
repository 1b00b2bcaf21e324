"""What executes for too long ends: once, whoever sees it first, and its bot stops."""

from datetime import timedelta

import pytest
from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb2
from buildgrid_scheduler.core.job_state import Stage
from buildgrid_scheduler.engine.expiring import end_overlong
from buildgrid_scheduler.store.action_cache import PostgresActionCache
from buildgrid_scheduler.store.provider import SqlProvider
from google.rpc import code_pb2

from tests.integration.engine.faults import every_first_try_fails
from tests.integration.engine.replica import (
    ACTIVE,
    CANCELLED,
    COMPLETED,
    Replica,
    Report,
    counts,
    digest_of,
    failure,
    result,
    success,
)
from tests.integration.timers.jobs import POLICY, Transaction, held_open, one, running

LIMIT, GRACE = timedelta(hours=2), timedelta(seconds=60)
MOMENT = timedelta(seconds=1)


def overlong(at_once: int = 100) -> Transaction[int]:
    return end_overlong(LIMIT, grace=GRACE, at_once=at_once, policy=POLICY)


def test_only_after_limit_and_grace_from_the_start_at_the_bot(
    replica: Replica, provider: SqlProvider
) -> None:
    enqueued = replica.enqueue("action")
    replica.clock.advance(LIMIT * 2)  # in the queue
    session = replica.open()
    job = replica.take(session)
    replica.clock.advance(LIMIT * 2)  # told, not begun
    replica.sync(session, reports={job: Report(ACTIVE)})
    started = replica.clock()
    replica.clock.advance(LIMIT + GRACE - MOMENT)
    assert replica.call(overlong()) == 0
    assert replica.stage(enqueued.operation_name) is Stage.EXECUTING
    replica.clock.advance(MOMENT * 2)
    assert replica.call(overlong()) == 1
    answer = replica.response(enqueued.operation_name)
    assert answer is not None
    assert answer.status.code == code_pb2.DEADLINE_EXCEEDED
    assert "executed for more than 2h" in answer.status.message
    assert answer.message == f"http://browser/action/{digest_of('action')}/"
    assert not answer.HasField("result")
    row = "SELECT array[status_code::text, worker_name, cancelled::text] FROM jobs"
    assert one(provider, row) == ["4", "bot", "false"]
    assert one(provider, "SELECT worker_start_at FROM jobs") - started < MOMENT
    assert one(provider, "SELECT completed_at - worker_start_at FROM jobs") > LIMIT + GRACE
    assert one(provider, "SELECT assigned_at < worker_start_at FROM jobs")


def test_the_bot_is_told_to_stop_and_what_it_still_reports_is_discarded(
    replica: Replica, provider: SqlProvider
) -> None:
    enqueued, session = running(replica, "action")
    replica.clock.advance(LIMIT * 2)
    assert replica.call(overlong()) == 1
    job = enqueued.job_name
    (tell,) = replica.sync(session, reports={job: Report(ACTIVE)}).leases
    assert (tell.job_name, tell.state) == (job, CANCELLED)
    assert replica.sync(session, reports={job: success()}).leases == ()
    answer = replica.response(enqueued.operation_name)
    assert answer is not None
    assert answer.status.code == code_pb2.DEADLINE_EXCEEDED
    hash_, _, size = digest_of("action").partition("/")
    assert PostgresActionCache(provider).get("", re_pb2.Digest(hash=hash_, size_bytes=int(size))) is None
    assert counts(provider, "leases") == counts(provider, "in_flight") == 0
    replica.enqueue("next")
    assert replica.take(session)


@pytest.mark.parametrize("report", [Report(CANCELLED), failure(), Report(COMPLETED, status_code=1)])
def test_it_is_not_tried_again_whatever_the_bot_says(
    replica: Replica, provider: SqlProvider, report: Report
) -> None:
    enqueued, session = running(replica, "action")
    replica.clock.advance(LIMIT * 2)
    assert replica.call(overlong()) == 1
    replica.sync(session, reports={enqueued.job_name: report})
    assert counts(provider, "queue") == counts(provider, "leases") == 0


def test_a_bot_that_vanishes_then_takes_its_lease_with_it(replica: Replica, provider: SqlProvider) -> None:
    enqueued, session = running(replica, "action")
    replica.clock.advance(LIMIT * 2)
    assert replica.call(overlong()) == 1
    replica.call(replica.engine.sessions.close("", session, "the end"))
    assert counts(provider, "leases") == counts(provider, "queue") == 0
    assert replica.stage(enqueued.operation_name) is Stage.COMPLETED


def test_a_held_call_of_the_bot_is_answered_at_once(replica: Replica) -> None:
    enqueued = replica.enqueue("action")
    session = replica.open(capacity=2)
    job = replica.take(session)
    reports = {job: Report(ACTIVE)}
    replica.sync(session, reports=reports)
    call = replica.submitted_sync(session, reports=reports, hold=True)
    replica.settle()
    assert not call.ticket.future.done()
    replica.clock.advance(LIMIT * 2)
    assert replica.call(overlong()) == 1
    assert [(t.job_name, t.state) for t in result(call).leases] == [(enqueued.job_name, CANCELLED)]


def test_who_asks_for_the_action_afterwards_gets_a_new_job(replica: Replica) -> None:
    enqueued, _ = running(replica, "action")
    replica.clock.advance(LIMIT * 2)
    assert replica.call(overlong()) == 1
    again = replica.enqueue("action")
    assert not again.shared
    assert again.job_name != enqueued.job_name


def test_a_cancelled_operation_stays_cancelled_and_the_others_hear_the_deadline(replica: Replica) -> None:
    enqueued, _ = running(replica, "action")
    patient = replica.enqueue("action")
    replica.cancel(enqueued.operation_name)
    replica.clock.advance(LIMIT * 2)
    assert replica.call(overlong()) == 1
    codes = []
    for operation in (enqueued.operation_name, patient.operation_name):
        answer = replica.response(operation)
        assert answer is not None
        codes.append(answer.status.code)
    assert codes == [code_pb2.CANCELLED, code_pb2.DEADLINE_EXCEEDED]


def test_what_waits_is_told_but_not_begun_or_is_done_does_not_execute(replica: Replica) -> None:
    told = replica.enqueue("told")
    replica.take(replica.open())
    done, session = running(replica, "done", "other bot")
    replica.sync(session, "other bot", reports={done.job_name: success()}, offer=None)
    replica.enqueue("waits")
    replica.clock.advance(LIMIT * 2)
    assert replica.call(overlong()) == 0
    assert replica.stage(told.operation_name) is Stage.EXECUTING


def test_at_most_so_many_at_once(replica: Replica) -> None:
    for number in range(5):
        running(replica, f"action {number}", f"bot {number}")
    replica.clock.advance(LIMIT * 2)
    assert [replica.call(overlong(2)) for _ in range(4)] == [2, 2, 1, 0]


def test_another_replica_neither_waits_for_what_this_one_holds_nor_does_it_again(
    replica: Replica, other: Replica, provider: SqlProvider
) -> None:
    jobs = {running(replica, f"action {n}", f"bot {n}", instance="")[0].job_name for n in range(5)}
    replica.clock.advance(LIMIT * 2)
    with held_open(provider, overlong(2), replica.clock()) as mine:
        assert mine == 2
        assert other.call(overlong()) == 3
        assert other.call(overlong()) == 0
    assert other.call(overlong()) == 0
    assert one(provider, "SELECT count(*) FROM jobs WHERE status_code = 4") == len(jobs)


@pytest.mark.parametrize("committed", [False, True], ids=["rolled back", "commit unheard"])
def test_it_may_be_run_twice(
    replica: Replica, provider: SqlProvider, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    enqueued, session = running(replica, "action")
    replica.clock.advance(LIMIT * 2)
    with every_first_try_fails(monkeypatch, committed=committed):
        assert replica.call(overlong()) == (0 if committed else 1)
    assert replica.stage(enqueued.operation_name) is Stage.COMPLETED
    (tell,) = replica.sync(session, reports={enqueued.job_name: Report(ACTIVE)}).leases
    assert tell.state is CANCELLED
