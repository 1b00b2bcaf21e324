"""The public Python API: synchronous, from many threads, for the ambient instance."""

import inspect
import threading
from collections.abc import Callable
from datetime import timedelta

import buildgrid_scheduler
import pytest
from buildgrid_client.digests import digest_of
from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb2
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2 import Lease, LeaseState
from buildgrid_scheduler import (
    BotStatus,
    Cancelled,
    DataLoss,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    Scheduler,
    SqlProvider,
    Unavailable,
    instance_context,
    requirement_hash,
)
from buildgrid_scheduler.storage.memory import MemoryActionCache, MemoryStorage
from buildgrid_scheduler.store.action_cache import PostgresActionCache

from tests.integration.facade.calls import (
    OK,
    PROPERTIES,
    Start,
    Time,
    action,
    active,
    completed,
    give,
    metadata_of,
    queue,
    response_of,
)

# --- the life of a job


def test_a_job_goes_from_a_client_through_a_bot_to_its_answer(scheduler: Scheduler) -> None:
    name = queue(scheduler, "action")
    loaded = scheduler.load_operation(name)
    assert loaded.name == f"team/{name}"
    assert metadata_of(loaded).stage == re_pb2.ExecutionStage.QUEUED
    session = scheduler.add_bot_entry(bot_session_id="bot", bot_session_status=OK)
    lease = give(scheduler, session)
    packed = re_pb2.Action()
    assert lease.payload.Unpack(packed)
    assert packed.salt == b"action"
    assert lease.id == scheduler.get_operation_job_name(name)

    partial = re_pb2.ExecutedActionMetadata(worker="w")
    told = scheduler.synchronize_bot_lease(session, "bot", OK, active(lease), {lease.id: partial})
    assert told is not None
    assert told.state == LeaseState.ACTIVE
    running = metadata_of(scheduler.load_operation(name))
    assert running.stage == re_pb2.ExecutionStage.EXECUTING
    assert running.partial_execution_metadata.worker == "w"

    assert scheduler.synchronize_bot_lease(session, "bot", OK, completed(lease)) is None
    assert response_of(scheduler.load_operation(name)).result.execution_metadata.worker == "bot"


def test_a_lease_of_a_cancelled_operation_is_told_cancelled(scheduler: Scheduler) -> None:
    name = queue(scheduler, "action")
    session = scheduler.add_bot_entry(bot_session_id="bot", bot_session_status=OK)
    lease = give(scheduler, session)
    scheduler.cancel_operation(name)
    told = scheduler.synchronize_bot_lease(session, "bot", OK, active(lease))
    assert told is not None
    assert told.state == LeaseState.CANCELLED
    assert scheduler.synchronize_bot_lease(session, "bot", OK, told) is None
    assert response_of(scheduler.load_operation(name)).status.code == 1
    scheduler.cancel_operation(name)


def test_another_operation_on_a_job(scheduler: Scheduler) -> None:
    name = queue(scheduler, "action")
    job = scheduler.get_operation_job_name(name)
    assert job is not None
    other = scheduler.create_operation(job)
    assert scheduler.get_operation_job_name(other) == job
    for operation in (name, other):
        scheduler.cancel_operation(operation)
    with pytest.raises(Cancelled):
        scheduler.create_operation(job)
    with pytest.raises(NotFound):
        scheduler.create_operation("no such job")


def test_what_is_unknown_is_not_found(scheduler: Scheduler) -> None:
    with pytest.raises(NotFound):
        scheduler.load_operation("unknown")
    with pytest.raises(NotFound):
        scheduler.cancel_operation("unknown")
    assert scheduler.get_operation_job_name("unknown") is None
    scheduler.close_bot_sessions("unknown")


def test_the_queue_limit(start: Start) -> None:
    scheduler = start(max_queue_size=1)
    with instance_context(""):
        queue(scheduler, "one")
        with pytest.raises(ResourceExhausted):
            queue(scheduler, "two")


# --- the action cache


@pytest.mark.parametrize("kind", ["postgres", "elsewhere"])
def test_a_result_is_cached_and_found_unless_the_client_refuses(
    start: Start, provider: SqlProvider, kind: str
) -> None:
    cache = PostgresActionCache(provider) if kind == "postgres" else MemoryActionCache()
    scheduler = start(action_cache=cache)
    with instance_context("team"):
        queue(scheduler, "action")
        queue(scheduler, "secret", do_not_cache=True)
        session = scheduler.add_bot_entry(bot_session_id="bot", bot_session_status=OK)
        for _ in range(2):
            scheduler.synchronize_bot_lease(session, "bot", OK, completed(give(scheduler, session)))
        hit = response_of(scheduler.load_operation(queue(scheduler, "action")))
        assert hit.cached_result
        for again in (
            queue(scheduler, "action", skip_cache_lookup=True),
            queue(scheduler, "secret", do_not_cache=True),
        ):
            assert not scheduler.load_operation(again).done
    with instance_context("another"):
        assert not scheduler.load_operation(queue(scheduler, "action")).done


def test_a_cached_result_whose_outputs_are_gone_is_not_used(start: Start) -> None:
    cache = MemoryActionCache()
    scheduler = start(action_cache=cache)
    cache.update_many("", [(action("action"), re_pb2.ActionResult(stdout_digest=digest_of(b"evicted")))])
    with instance_context(""):
        assert not scheduler.load_operation(queue(scheduler, "action")).done


class FailingCache(MemoryActionCache):
    """Neither reads nor writes."""

    def get_many(self, instance: str, digests: list[re_pb2.Digest]) -> list[re_pb2.ActionResult | None]:
        raise OSError("the cache is on fire")

    def update_many(self, instance: str, entries: list[tuple[re_pb2.Digest, re_pb2.ActionResult]]) -> None:
        raise OSError("the cache is on fire")


def test_a_failing_cache_is_logged_and_fails_no_job(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    scheduler = start(action_cache=FailingCache())
    with instance_context(""):
        name = queue(scheduler, "action")
        session = scheduler.add_bot_entry(bot_session_id="bot", bot_session_status=OK)
        scheduler.synchronize_bot_lease(session, "bot", OK, completed(give(scheduler, session)))
        assert response_of(scheduler.load_operation(name)).status.code == 0
    assert len([record for record in caplog.records if "on fire" in record.message]) == 2


# --- bots


def test_a_new_session_of_a_bot_closes_the_old_one(scheduler: Scheduler) -> None:
    name = queue(scheduler, "action")
    old = scheduler.add_bot_entry(bot_session_id="bot", bot_session_status=OK)
    lease = give(scheduler, old)
    new = scheduler.add_bot_entry(bot_session_id="bot", bot_session_status=OK)
    assert new != old
    with pytest.raises(InvalidArgument):
        scheduler.synchronize_bot_lease(old, "bot", OK, completed(lease))
    assert not scheduler.load_operation(name).done
    assert give(scheduler, new).id == lease.id
    scheduler.close_bot_sessions(new)
    with pytest.raises(InvalidArgument):
        scheduler.synchronize_bot_lease(new, "bot", OK, None)


def test_a_report_that_makes_no_sense_closes_the_session(scheduler: Scheduler) -> None:
    session = scheduler.add_bot_entry(bot_session_id="bot", bot_session_status=OK)
    with pytest.raises(DataLoss):
        scheduler.synchronize_bot_lease(session, "bot", OK, Lease(id="x", state=LeaseState.ACTIVE))


def test_every_status_is_counted_in_its_instance(scheduler: Scheduler) -> None:
    assert scheduler.count_bots_by_status() == dict.fromkeys(BotStatus, 0)
    for n, status in enumerate([BotStatus.OK, BotStatus.OK, BotStatus.UNHEALTHY]):
        scheduler.add_bot_entry(bot_session_id=f"bot {n}", bot_session_status=int(status))
    with instance_context("another"):
        scheduler.add_bot_entry(bot_session_id="bot 0", bot_session_status=int(BotStatus.HOST_REBOOTING))
    counts = scheduler.count_bots_by_status()
    assert counts == {**dict.fromkeys(BotStatus, 0), BotStatus.OK: 2, BotStatus.UNHEALTHY: 1}


def test_a_status_or_state_that_the_protocol_does_not_know_is_the_callers_fault(scheduler: Scheduler) -> None:
    with pytest.raises(InvalidArgument, match="99"):
        scheduler.add_bot_entry(bot_session_id="bot", bot_session_status=99)
    session = scheduler.add_bot_entry(bot_session_id="bot", bot_session_status=OK)
    with pytest.raises(InvalidArgument, match="99"):
        scheduler.synchronize_bot_lease(session, "bot", 99, None)
    with pytest.raises(InvalidArgument, match="3"):
        scheduler.synchronize_bot_lease(session, "bot", OK, Lease(id="x", state=3))  # type: ignore[arg-type]


def test_sessions_of_all_instances_are_reaped_in_handfuls(start: Start) -> None:
    time = Time()
    scheduler = start(clock=time)
    for n in range(15):
        with instance_context(f"instance {n % 2}"):
            scheduler.add_bot_entry(bot_session_id=f"bot {n}", bot_session_status=OK)
    assert not scheduler.reap_expired_sessions()
    time.now += timedelta(seconds=601)
    assert scheduler.reap_expired_sessions()
    assert scheduler.reap_expired_sessions()
    assert not scheduler.reap_expired_sessions()


def test_jobs_are_assigned_by_priority_or_by_age_to_the_named_bots(scheduler: Scheduler) -> None:
    for word in ("one", "two"):
        queue(scheduler, word, Pool="large")
    sessions = [scheduler.add_bot_entry(bot_session_id=f"bot {n}", bot_session_status=OK) for n in range(3)]
    large = requirement_hash({"Pool": ["large"]})
    assert scheduler.assign_n_leases_by_age(capability_hash=requirement_hash({}), bot_names=sessions) == []
    got = scheduler.assign_n_leases_by_age(capability_hash=large, bot_names=sessions[:1])
    assert got == sessions[:1]
    assert scheduler.assign_n_leases_by_priority(capability_hash=large, bot_names=sessions) == sessions[1:2]
    assert scheduler.assign_n_leases_by_priority(capability_hash=large, bot_names=[]) == []


# --- instances


def test_outside_an_instance_context_the_methods_refuse(start: Start) -> None:
    scheduler = start()
    calls: list[Callable[[], object]] = [
        lambda: queue(scheduler, "action"),
        lambda: scheduler.create_operation("job"),
        lambda: scheduler.load_operation("operation"),
        lambda: scheduler.get_operation_job_name("operation"),
        lambda: scheduler.cancel_operation("operation"),
        lambda: scheduler.add_bot_entry(bot_session_id="bot", bot_session_status=OK),
        lambda: scheduler.close_bot_sessions("session"),
        lambda: scheduler.synchronize_bot_lease("session", "bot", OK, None),
        lambda: scheduler.assign_n_leases_by_priority(capability_hash="h", bot_names=["session"]),
        lambda: scheduler.assign_n_leases_by_age(capability_hash="h", bot_names=["session"]),
        lambda: scheduler.count_bots_by_status(),
    ]
    for call in calls:
        with pytest.raises(InvalidArgument, match="instance_context"):
            call()
    assert scheduler.reap_expired_sessions() is False, "timers act for all instances"


def test_one_instance_sees_nothing_of_another(scheduler: Scheduler) -> None:
    name = queue(scheduler, "action")
    session = scheduler.add_bot_entry(bot_session_id="bot", bot_session_status=OK)
    job = scheduler.get_operation_job_name(name)
    assert job is not None
    with instance_context("another"):
        with pytest.raises(NotFound):
            scheduler.load_operation(name)
        with pytest.raises(NotFound):
            scheduler.cancel_operation(name)
        with pytest.raises(NotFound):
            scheduler.create_operation(job)
        with pytest.raises(InvalidArgument):
            scheduler.synchronize_bot_lease(session, "bot", OK, None)
        assert scheduler.get_operation_job_name(name) is None
        assert queue(scheduler, "action") != name
        scheduler.close_bot_sessions(session)
        hash_ = requirement_hash({})
        assert scheduler.assign_n_leases_by_age(capability_hash=hash_, bot_names=[session]) == []
    assert give(scheduler, session).id == job


# --- many threads, two replicas


def test_clients_and_bots_on_many_threads_and_two_replicas(start: Start) -> None:
    replicas = [start(), start()]
    operations: list[str] = []
    failures: list[BaseException] = []
    lock = threading.Lock()
    all_asked = threading.Barrier(9)

    def on_thread(act: Callable[[Scheduler, int], None], n: int) -> threading.Thread:
        def run() -> None:
            try:
                with instance_context("team"):
                    act(replicas[n % 2], n)
            except BaseException as error:  # noqa: BLE001 - shown by the assertion
                failures.append(error)

        return threading.Thread(target=run)

    def client(at: Scheduler, n: int) -> None:
        for word in range(20):
            name = queue(at, f"action {(word + n) % 20}")
            with lock:
                operations.append(name)
        all_asked.wait(30)

    def bot(at: Scheduler, n: int) -> None:
        bot_id = f"bot {n}"
        session = at.add_bot_entry(bot_session_id=bot_id, bot_session_status=OK)
        all_asked.wait(30)
        lease: Lease | None = None
        hash_ = requirement_hash({})
        while at.assign_n_leases_by_priority(capability_hash=hash_, bot_names=[session]):
            lease = at.synchronize_bot_lease(session, bot_id, OK, None)
            assert lease is not None
            at.synchronize_bot_lease(session, bot_id, OK, active(lease))
            assert at.synchronize_bot_lease(session, bot_id, OK, completed(lease)) is None

    threads = [on_thread(client, n) for n in range(6)] + [on_thread(bot, n) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    with instance_context("team"):
        # A bot that saw nothing while the others held what was left went home early.
        last = replicas[0].add_bot_entry(bot_session_id="the last", bot_session_status=OK)
        while replicas[0].assign_n_leases_by_age(capability_hash=requirement_hash({}), bot_names=[last]):
            lease = replicas[0].synchronize_bot_lease(last, "the last", OK, None)
            assert lease is not None
            replicas[0].synchronize_bot_lease(last, "the last", OK, completed(lease))
        assert len({replicas[1].get_operation_job_name(name) for name in operations}) == 20
        assert all(response_of(replicas[1].load_operation(name)).status.code == 0 for name in operations)


# --- starting and stopping


def test_several_may_start_it_and_the_last_stop_stops_it(provider: SqlProvider) -> None:
    scheduler = Scheduler(provider, MemoryStorage(), property_set=PROPERTIES)
    with scheduler, instance_context(""):
        scheduler.start()
        scheduler.stop()
        queue(scheduler, "action")
    with instance_context(""), pytest.raises(Unavailable, match="shutting down"):
        queue(scheduler, "action")


def test_while_the_database_is_away_calls_are_unavailable_and_assigning_gives_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nowhere = SqlProvider("postgresql://nobody@/none?host=/nonexistent")
    scheduler = Scheduler(nowhere, MemoryStorage(), property_set=PROPERTIES, session_expiry_timer_interval=0)
    for batcher in (scheduler.engine._writer, scheduler.engine._errands, scheduler.engine._reader):
        monkeypatch.setattr(batcher, "_patience", 0.01)
    with scheduler, instance_context(""):
        assert scheduler.assign_n_leases_by_age(capability_hash="h", bot_names=["session"]) == []
        for call in (
            lambda: scheduler.load_operation("operation"),
            lambda: scheduler.reap_expired_sessions(),
            lambda: scheduler.count_bots_by_status(),
        ):
            with pytest.raises(Unavailable):
                call()
    nowhere.close()


def test_the_retryable_codes_are_those_of_the_specification() -> None:
    assert Scheduler.RETRYABLE_STATUS_CODES == (13, 14)


def test_what_is_exported_is_there_and_documented() -> None:
    for name in buildgrid_scheduler.__all__:
        assert getattr(buildgrid_scheduler, name) is not None
    for name, method in inspect.getmembers(Scheduler, inspect.isfunction):
        if not name.startswith("_"):
            assert method.__doc__, f"{name} has no docstring"
