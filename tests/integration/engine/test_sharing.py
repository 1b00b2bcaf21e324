"""Clients of one action share its job, on whichever replica they ask; and what cancelling means then."""

import dataclasses
import random
import threading
from collections.abc import Callable
from datetime import datetime

import pytest
from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb2
from buildgrid_scheduler.core.errors import Cancelled, NotFound, ResourceExhausted, Unavailable
from buildgrid_scheduler.core.job_state import Stage
from buildgrid_scheduler.engine.items import Effects, Enqueued
from buildgrid_scheduler.engine.operations import attach, cancel, create
from buildgrid_scheduler.store.hot_connection import Statements
from buildgrid_scheduler.store.provider import SqlProvider

from tests.integration.engine.conftest import StartReplica
from tests.integration.engine.faults import (
    ERRANDS,
    Interrupted,
    first_commit_unheard,
    stopped_after_commit,
)
from tests.integration.engine.replica import (
    ACTIVE,
    CANCELLED,
    Replica,
    Report,
    check_invariants,
    counts,
    enqueue,
    result,
    success,
)


def at_once(*actions: Callable[..., object]) -> None:
    """Run these on threads of their own that start together."""
    barrier = threading.Barrier(len(actions))
    failures: list[BaseException] = []

    def run(action: Callable[..., object]) -> None:
        barrier.wait()
        try:
            action()
        except BaseException as error:  # noqa: BLE001 - raised again below
            failures.append(error)

    threads = [threading.Thread(target=run, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def test_two_replicas_asked_for_the_same_actions_at_once_make_one_job_of_each(
    replica: Replica, other: Replica, provider: SqlProvider
) -> None:
    jobs: dict[str, set[str]] = {}
    lock = threading.Lock()

    def ask(at: Replica, seed: int) -> None:
        words = [f"action {n}" for n in range(60)]
        random.Random(seed).shuffle(words)
        for word in words:
            job = at.enqueue(word).job_name
            with lock:
                jobs.setdefault(word, set()).add(job)

    at_once(*(lambda at=at, seed=seed: ask(at, seed) for seed, at in enumerate([replica, other] * 3)))

    assert all(len(names) == 1 for names in jobs.values())
    assert counts(provider, "jobs") == counts(provider, "queue") == 60
    assert counts(provider, "operations") == 6 * 60


def test_clients_who_ask_in_one_batch_share_too(
    replica: Replica, provider: SqlProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [enqueue("action", priority=priority) for priority in (3, -2, 5)]
    with stopped_after_commit(monkeypatch) as gate:
        replica.submit(enqueue("what keeps the writer busy"))
        gate.wait_until_reached()
        for item in items:
            replica.submit(item)
    answers: list[Enqueued] = [result(item) for item in items]
    assert len({answer.job_name for answer in answers}) == 1
    assert counts(provider, "jobs") == 2
    replica.enqueue("less urgent", priority=-1)
    assert replica.take(replica.open()) == answers[0].job_name, "the most urgent of those who ask decides"


def test_a_more_urgent_client_moves_the_shared_job_forward(replica: Replica, other: Replica) -> None:
    replica.enqueue("first")
    second = replica.enqueue("second")
    assert other.enqueue("second", priority=-5).shared
    assert replica.take(replica.open()) == second.job_name


def test_a_less_urgent_client_does_not_move_the_shared_job_back(replica: Replica) -> None:
    first = replica.enqueue("first", priority=-5)
    replica.enqueue("second", priority=-4)
    assert replica.enqueue("first", priority=9).shared
    assert replica.take(replica.open()) == first.job_name


@pytest.mark.parametrize(
    "options", [{"do_not_cache": True}, {"instance": "elsewhere"}], ids=["not to be cached", "other instance"]
)
def test_what_is_not_to_be_shared_is_a_job_of_its_own(replica: Replica, options: dict[str, object]) -> None:
    first = replica.enqueue("action")
    second = replica.enqueue("action", **options)
    assert not second.shared
    assert second.job_name != first.job_name


def test_a_finished_job_is_not_shared(replica: Replica) -> None:
    first = replica.enqueue("action")
    session = replica.open()
    job = replica.take(session)
    replica.sync(session, reports={job: success()}, offer=None)
    second = replica.enqueue("action")
    assert not second.shared
    assert replica.stage(first.operation_name) is Stage.COMPLETED
    assert replica.stage(second.operation_name) is Stage.QUEUED


def test_a_client_who_comes_as_the_job_completes_has_its_answer_or_a_job_of_its_own(
    replica: Replica, other: Replica
) -> None:
    session = replica.open()
    for n in range(25):
        first = replica.enqueue(f"action {n}")
        job = replica.take(session)
        late: list[Enqueued] = []
        at_once(
            lambda job=job: replica.sync(session, reports={job: success()}, offer=None),
            lambda n=n, late=late: late.append(other.enqueue(f"action {n}")),
        )
        if late[0].shared:
            assert late[0].job_name == first.job_name
            assert other.stage(late[0].operation_name) is Stage.COMPLETED
        else:
            assert other.take(session) == late[0].job_name
            other.sync(session, reports={late[0].job_name: success()}, offer=None)


def test_a_job_that_is_born_complete_is_not_shared_by_those_who_come_later(replica: Replica) -> None:
    cached = re_pb2.ExecuteResponse(cached_result=True).SerializeToString()
    born = replica.enqueue("action", response=cached)
    assert born.state is not None
    assert born.state.stage is Stage.COMPLETED
    answer = replica.response(born.operation_name)
    assert answer is not None
    assert answer.cached_result
    assert not replica.enqueue("action").shared


@pytest.mark.parametrize("cached_first", [True, False])
def test_who_refuses_cached_results_does_not_get_one_for_asking_in_the_same_batch(
    replica: Replica, monkeypatch: pytest.MonkeyPatch, cached_first: bool
) -> None:
    cached = enqueue("action", response=re_pb2.ExecuteResponse(cached_result=True).SerializeToString())
    fresh = enqueue("action")
    with stopped_after_commit(monkeypatch) as gate:
        replica.submit(enqueue("what keeps the writer busy"))
        gate.wait_until_reached()
        for item in (cached, fresh) if cached_first else (fresh, cached):
            replica.submit(item)
    assert replica.stage(result(fresh).operation_name) is Stage.QUEUED
    result(cached)


def test_an_enqueue_whose_commit_was_unheard_is_not_done_twice(
    replica: Replica, provider: SqlProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    with first_commit_unheard(monkeypatch):
        enqueued = replica.enqueue("action")
    assert counts(provider, "jobs") == counts(provider, "operations") == counts(provider, "queue") == 1
    assert replica.load(enqueued.operation_name).job_name == enqueued.job_name


def test_an_enqueue_that_is_run_again_after_its_job_was_done_does_not_say_that_it_waits(
    replica: Replica, other: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = other.open()
    item = enqueue("action")
    replica.submit(item)
    result(item)
    job = other.take(session)
    other.sync(session, reports={job: success()}, offer=None)
    again = enqueue("action")
    again.operation_name, again.job, again.tried = item.operation_name, item.job, True
    replica.submit(again)
    enqueued: Enqueued = result(again)
    assert enqueued.state is None or enqueued.state.stage is Stage.COMPLETED
    assert replica.stage(item.operation_name) is Stage.COMPLETED


def test_an_enqueue_that_shared_is_not_a_job_of_its_own_when_it_is_run_again(
    replica: Replica, other: Replica, provider: SqlProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job that it shared came to its end before the transaction was run again."""
    other.enqueue("action")
    session = other.open()
    job = other.take(session)
    with stopped_after_commit(monkeypatch) as gate, first_commit_unheard(monkeypatch):
        item = enqueue("action")
        replica.submit(item)
        gate.wait_until_reached()
        other.sync(session, reports={job: success()}, offer=None)
    assert result(item).job_name == job
    assert replica.stage(item.operation_name) is Stage.COMPLETED
    assert counts(provider, "jobs") == 1


# --- cancelling


def test_a_cancelled_job_stays_out_of_the_queue_and_is_told_as_cancelled(replica: Replica) -> None:
    enqueued = replica.enqueue("action")
    replica.cancel(enqueued.operation_name)
    answer = replica.response(enqueued.operation_name)
    assert answer is not None
    assert answer.status.code == 1
    assert not replica.sync(replica.open()).leases
    replica.cancel(enqueued.operation_name)  # and again: a no-op


def test_an_operation_that_is_cancelled_leaves_the_job_to_the_others(replica: Replica) -> None:
    mine, theirs = replica.enqueue("action"), replica.enqueue("action")
    replica.cancel(mine.operation_name)
    assert replica.stage(mine.operation_name) is Stage.COMPLETED
    assert replica.stage(theirs.operation_name) is Stage.QUEUED
    session = replica.open()
    job = replica.take(session)
    replica.sync(session, reports={job: success()}, offer=None)
    answer, other_answer = replica.response(mine.operation_name), replica.response(theirs.operation_name)
    assert answer is not None and answer.status.code == 1, "it stays cancelled"
    assert other_answer is not None and other_answer.status.code == 0


def test_the_bot_is_told_to_stop_a_cancelled_job_and_its_result_is_discarded(replica: Replica) -> None:
    enqueued = replica.enqueue("action")
    session = replica.open()
    job = replica.take(session)
    replica.sync(session, reports={job: Report(ACTIVE)})
    replica.cancel(enqueued.operation_name)
    (tell,) = replica.sync(session, reports={job: Report(ACTIVE)}).leases
    assert (tell.job_name, tell.state) == (job, CANCELLED)
    replica.sync(session, reports={job: success()})
    answer = replica.response(enqueued.operation_name)
    assert answer is not None
    assert answer.status.code == 1


def test_cancelling_what_is_finished_changes_nothing(replica: Replica) -> None:
    enqueued = replica.enqueue("action")
    session = replica.open()
    job = replica.take(session)
    replica.sync(session, reports={job: success()})
    replica.cancel(enqueued.operation_name)
    answer = replica.response(enqueued.operation_name)
    assert answer is not None
    assert answer.status.code == 0


def test_cancelling_what_is_unknown_or_of_another_instance_is_not_found(replica: Replica) -> None:
    enqueued = replica.enqueue("action", instance="theirs")
    with pytest.raises(NotFound, match="execute the action again"):
        replica.cancel("no such operation")
    with pytest.raises(NotFound):
        replica.cancel(enqueued.operation_name, instance="mine")
    assert replica.stage(enqueued.operation_name) is Stage.QUEUED


def test_nobody_joins_a_job_that_is_being_cancelled(
    replica: Replica, other: Replica, provider: SqlProvider
) -> None:
    for n in range(40):
        mine = replica.enqueue(f"action {n}")
        late: list[Enqueued] = []
        at_once(
            lambda mine=mine: replica.cancel(mine.operation_name),
            lambda n=n, late=late: late.append(other.enqueue(f"action {n}")),
        )
        assert other.stage(late[0].operation_name) is Stage.QUEUED
        check_invariants(provider)


def test_who_asks_between_the_steps_of_a_cancellation_gets_a_job_of_its_own(
    replica: Replica, other: Replica
) -> None:
    """Held open at its last step: the enqueue has to wait for it, and then must not find the job."""
    mine = replica.enqueue("action")
    late = enqueue("action")

    def transaction(db: Statements, now: datetime, effects: Effects) -> None:
        statements = Interrupted(db, {"DELETE FROM in_flight": lambda: other.submit(late)})
        cancel("", mine.operation_name)(statements, now, effects)
        assert not statements.left

    replica.call(transaction)
    assert not result(late).shared
    assert other.stage(late.operation_name) is Stage.QUEUED


def test_a_cancellation_and_a_completion_at_once_leave_one_final_answer(
    replica: Replica, other: Replica, provider: SqlProvider
) -> None:
    session = replica.open()
    for n in range(25):
        mine = replica.enqueue(f"action {n}")
        job = replica.take(session)
        at_once(
            lambda mine=mine: other.cancel(mine.operation_name),
            lambda job=job: replica.sync(session, reports={job: success()}, offer=None),
        )
        first, second = replica.response(mine.operation_name), other.response(mine.operation_name)
        assert first is not None
        assert first == second
        assert first.status.code in (0, 1)
        check_invariants(provider)
        assert counts(provider, "leases") == 0


def test_a_cancellation_and_a_claim_at_once_never_lease_a_cancelled_job(
    replica: Replica, other: Replica, provider: SqlProvider
) -> None:
    session = replica.open()
    for n in range(25):
        mine = replica.enqueue(f"action {n}")
        at_once(
            lambda mine=mine: other.cancel(mine.operation_name),
            lambda: replica.sync(session),
        )
        check_invariants(provider)
        for tell in replica.sync(session, offer=None).leases:
            assert tell.state is not ACTIVE
        replica.sync(session, offer=None)
        assert counts(provider, "leases") == 0, "the bot has let go of it"


def test_a_job_that_is_requeued_while_it_is_being_cancelled_is_not_leased_anew(
    replica: Replica, other: Replica, provider: SqlProvider
) -> None:
    mine = replica.enqueue("action")
    first, second = replica.open("first"), other.open("second")
    job = replica.take(first, "first")

    def requeue() -> None:
        other.call(other.engine.sessions.close("", first, "it is gone"))

    def claim() -> None:
        assert other.sync(second, "second").leases == (), f"{job} is held by the cancellation"

    def transaction(db: Statements, now: datetime, effects: Effects) -> None:
        statements = Interrupted(db, {"FROM leases WHERE job_name": requeue, "DELETE FROM queue": claim})
        cancel("", mine.operation_name)(statements, now, effects)
        assert not statements.left
        assert effects.sessions == set()

    replica.call(transaction)
    assert replica.stage(mine.operation_name) is Stage.COMPLETED
    assert other.sync(second, "second").leases == ()
    check_invariants(provider)


def test_a_cancellation_whose_commit_was_unheard_is_not_an_error(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueued = replica.enqueue("action")
    with first_commit_unheard(monkeypatch, ERRANDS):
        replica.cancel(enqueued.operation_name)
    assert replica.stage(enqueued.operation_name) is Stage.COMPLETED


def test_another_operation_on_a_job_needs_a_job_that_is_not_cancelled(replica: Replica) -> None:
    enqueued = replica.enqueue("action")
    replica.call(attach("", "another", enqueued.job_name, metadata=None, identity_id=None))
    replica.cancel(enqueued.operation_name)
    assert replica.stage("another") is Stage.QUEUED
    replica.cancel("another")
    with pytest.raises(Cancelled):
        replica.call(attach("", "too late", enqueued.job_name, metadata=None, identity_id=None))
    with pytest.raises(NotFound):
        replica.call(attach("", "no", "no such job", metadata=None, identity_id=None))
    with pytest.raises(NotFound):
        replica.call(attach("theirs", "no", enqueued.job_name, metadata=None, identity_id=None))


# --- the limit of the queue


def test_above_the_queue_limit_new_jobs_are_refused_and_shared_ones_are_not(
    start_replica: StartReplica,
) -> None:
    replica = start_replica(max_queue_size=2)
    replica.enqueue("one")
    replica.enqueue("two")
    with pytest.raises(ResourceExhausted, match="max_queue_size"):
        replica.enqueue("three")
    assert replica.enqueue("two").shared
    replica.enqueue("of another label", label="large")
    replica.enqueue("of another instance", instance="theirs")
    born = replica.enqueue("from the cache", response=re_pb2.ExecuteResponse().SerializeToString())
    assert replica.stage(born.operation_name) is Stage.COMPLETED
    replica.take(replica.open())
    replica.enqueue("three")


def test_a_cache_hit_is_not_refused_for_a_full_queue(start_replica: StartReplica) -> None:
    replica = start_replica(max_queue_size=1)
    replica.enqueue("cached")
    session = replica.open()
    replica.sync(session, reports={replica.take(session): success()}, offer=None)
    replica.enqueue("one")
    assert replica.enqueue("cached", look_up=True).cached is not None
    with pytest.raises(ResourceExhausted):
        replica.enqueue("cached", look_up=False)
    with pytest.raises(ResourceExhausted):
        replica.enqueue("not cached", look_up=True)


def test_the_queue_limit_holds_within_one_batch(
    start_replica: StartReplica, monkeypatch: pytest.MonkeyPatch, provider: SqlProvider
) -> None:
    replica = start_replica(max_queue_size=3)
    items = [enqueue(word) for word in ("a", "b", "a", "c", "d", "d")]
    with stopped_after_commit(monkeypatch) as gate:
        replica.submit(enqueue("what keeps the writer busy"))
        gate.wait_until_reached()
        for item in items:
            replica.submit(item)
    for item in items[:3]:
        result(item)
    for item in items[3:]:
        with pytest.raises(ResourceExhausted):
            result(item)
    assert counts(provider, "queue") == 3
    assert counts(provider, "operations") == 4


# --- a farm that is being shut down


def test_without_new_jobs_what_is_there_is_shared_and_finished(
    start_replica: StartReplica, provider: SqlProvider
) -> None:
    before = start_replica()
    before.enqueue("cached")
    session = before.open()
    before.sync(session, reports={before.take(session): success()}, offer=None)
    before.enqueue("waits")
    replica = start_replica(accept_new_jobs=False, max_queue_size=1)
    with pytest.raises(Unavailable, match=r"being shut down.*scheduler\.accept_new_jobs"):
        replica.enqueue("new")
    with pytest.raises(Unavailable):
        replica.enqueue("waits", do_not_cache=True)
    with pytest.raises(Unavailable):
        replica.enqueue("cached")
    assert counts(provider, "operations") == 2
    assert replica.enqueue("cached", look_up=True).cached is not None
    assert replica.enqueue("waits").shared
    born = replica.enqueue("from the cache", response=re_pb2.ExecuteResponse().SerializeToString())
    assert replica.stage(born.operation_name) is Stage.COMPLETED
    shared = replica.enqueue("waits").operation_name
    bot = replica.open("bot-2")
    replica.sync(bot, bot_id="bot-2", reports={replica.take(bot, "bot-2"): success()}, offer=None)
    assert replica.stage(shared) is Stage.COMPLETED


def test_without_new_jobs_a_job_is_refused_and_with_them_it_is_not_on_a_replica_that_runs(
    replica: Replica,
) -> None:
    engine = replica.engine
    engine.reconfigure(engine.policy, dataclasses.replace(engine.settings, accept_new_jobs=False))
    with pytest.raises(Unavailable):
        replica.enqueue("new")
    with pytest.raises(Unavailable):
        replica.call(create(enqueue("new"), 0, None, accept_new_jobs=False))
    replica.call(create(enqueue("hit", response=b""), 0, None, accept_new_jobs=False))
    engine.reconfigure(engine.policy, dataclasses.replace(engine.settings, accept_new_jobs=True))
    assert not replica.enqueue("new").shared
