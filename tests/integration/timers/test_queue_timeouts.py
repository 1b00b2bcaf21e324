"""What no bot takes ends, and says which bot it would have needed."""

from datetime import timedelta

import pytest
from buildgrid_scheduler.core.job_state import Stage
from buildgrid_scheduler.engine.expiring import end_unserved
from buildgrid_scheduler.store.provider import SqlProvider
from google.rpc import code_pb2

from tests.integration.engine.faults import every_first_try_fails
from tests.integration.engine.replica import ACTIVE, Replica, Report, counts, digest_of, failure, success
from tests.integration.timers.jobs import POLICY, Transaction, held, held_open, one

LIMIT = timedelta(hours=1)
MOMENT = timedelta(seconds=1)


def unserved(at_once: int = 100) -> Transaction[int]:
    return end_unserved(LIMIT, at_once=at_once, policy=POLICY)


def test_a_job_that_waits_for_too_long_ends_and_names_what_it_needs(
    replica: Replica, provider: SqlProvider
) -> None:
    enqueued = replica.enqueue("action", needs={"Pool": ["gpu"]}, label="gpu", instance="team/main")
    replica.clock.advance(LIMIT - MOMENT)
    assert replica.call(unserved()) == 0
    assert replica.stage(enqueued.operation_name) is Stage.QUEUED
    replica.clock.advance(MOMENT * 2)
    assert replica.call(unserved()) == 1
    answer = replica.response(enqueued.operation_name)
    assert answer is not None
    assert answer.status.code == code_pb2.UNAVAILABLE
    assert "no bot took the action within 1h" in answer.status.message
    assert "are there bots with Pool=gpu" in answer.status.message
    assert "label 'gpu'" in answer.status.message
    assert answer.message == f"http://browser/action/{digest_of('action')}/"
    assert counts(provider, "queue") == counts(provider, "in_flight") == 0
    assert one(provider, "SELECT worker_name IS NULL AND worker_start_at IS NULL FROM jobs")


def test_nobody_is_given_it_afterwards_and_who_asks_again_gets_a_new_job(replica: Replica) -> None:
    enqueued = replica.enqueue("action")
    replica.clock.advance(LIMIT * 2)
    assert replica.call(unserved()) == 1
    session = replica.open()
    replica.look()
    assert replica.sync(session).leases == ()
    again = replica.enqueue("action")
    assert not again.shared
    assert replica.take(session) == again.job_name != enqueued.job_name


def test_what_a_bot_has_does_not_wait(replica: Replica) -> None:
    replica.enqueue("action")
    session = replica.open()
    replica.take(session)
    replica.clock.advance(LIMIT * 2)
    assert replica.call(unserved()) == 0


def test_a_job_that_was_tried_has_waited_since_the_attempt_ended(replica: Replica) -> None:
    enqueued = replica.enqueue("action")
    session = replica.open()
    job = replica.take(session)
    replica.sync(session, reports={job: Report(ACTIVE)})
    replica.clock.advance(LIMIT * 3)
    replica.sync(session, reports={job: failure()}, offer=None)
    replica.clock.advance(LIMIT / 2)
    assert replica.call(unserved()) == 0, "it ran for most of the time"
    replica.clock.advance(LIMIT / 2)
    assert replica.call(unserved()) == 1
    assert replica.stage(enqueued.operation_name) is Stage.COMPLETED


def test_jobs_that_were_tried_do_not_stand_in_the_way_of_those_that_were_not(replica: Replica) -> None:
    tried = [replica.enqueue(f"tried {n}") for n in range(3)]
    session = replica.open(capacity=3)
    replica.look()
    replica.sync(session)
    running = {e.job_name: Report(ACTIVE) for e in tried}
    replica.sync(session, reports=running)
    waits = replica.enqueue("waits", needs={"Pool": ["none"]})
    younger = replica.enqueue("younger")
    replica.clock.advance(LIMIT * 2)
    replica.sync(session, reports=dict.fromkeys(running, failure()), offer=None)
    assert replica.call(unserved(1)) == replica.call(unserved(1)) == 1
    assert replica.call(unserved(1)) == 0
    for e in (waits, younger):
        assert replica.stage(e.operation_name) is Stage.COMPLETED


def test_at_most_so_many_at_once_of_all_kinds_and_instances(replica: Replica, provider: SqlProvider) -> None:
    for number in range(3):
        for kind in ("a", "b"):
            for instance in ("", "theirs"):
                replica.enqueue(f"{kind} {number}", needs={"Pool": [kind]}, instance=instance)
    replica.clock.advance(LIMIT * 2)
    assert [replica.call(unserved(5)) for _ in range(4)] == [5, 5, 2, 0]
    assert counts(provider, "queue") == 0


def test_the_oldest_of_a_kind_goes_first(replica: Replica) -> None:
    first = replica.enqueue("first", priority=5)
    replica.clock.advance(MOMENT)
    second = replica.enqueue("second", priority=-5)
    replica.clock.advance(LIMIT * 2)
    assert replica.call(unserved(1)) == 1
    assert replica.stage(first.operation_name) is Stage.COMPLETED
    assert replica.stage(second.operation_name) is Stage.QUEUED


def test_another_replica_neither_waits_for_what_this_one_holds_nor_does_it_again(
    replica: Replica, other: Replica, provider: SqlProvider
) -> None:
    for number in range(5):
        replica.enqueue(f"action {number}")
    replica.clock.advance(LIMIT * 2)
    with held_open(provider, unserved(2), replica.clock()) as mine:
        assert mine == 2
        assert other.call(unserved()) == 3
    assert other.call(unserved()) == 0
    assert one(provider, "SELECT count(*) FROM jobs WHERE status_code = 14") == 5


def test_a_job_that_is_being_handed_out_is_left_alone(
    replica: Replica, other: Replica, provider: SqlProvider
) -> None:
    enqueued = replica.enqueue("action")
    replica.clock.advance(LIMIT * 2)
    with held(provider, "SELECT 1 FROM queue WHERE job_name = %s FOR UPDATE", (enqueued.job_name,)):
        assert other.call(unserved()) == 0
    session = replica.open()
    job = replica.take(session)
    assert other.call(unserved()) == 0
    replica.sync(session, reports={job: success()})
    answer = replica.response(enqueued.operation_name)
    assert answer is not None
    assert answer.status.code == code_pb2.OK


@pytest.mark.parametrize("committed", [False, True], ids=["rolled back", "commit unheard"])
def test_it_may_be_run_twice(replica: Replica, monkeypatch: pytest.MonkeyPatch, committed: bool) -> None:
    enqueued = replica.enqueue("action")
    replica.clock.advance(LIMIT * 2)
    with every_first_try_fails(monkeypatch, committed=committed):
        assert replica.call(unserved()) == (0 if committed else 1)
    answer = replica.response(enqueued.operation_name)
    assert answer is not None
    assert answer.status.code == code_pb2.UNAVAILABLE
