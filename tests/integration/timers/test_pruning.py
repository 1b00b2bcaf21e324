"""What ended long ago is deleted, with all that belongs to it, and nothing else is."""

from datetime import timedelta

import pytest
from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb2
from buildgrid_scheduler.core.errors import NotFound
from buildgrid_scheduler.core.job_state import Stage
from buildgrid_scheduler.core.request_metadata import metadata_row
from buildgrid_scheduler.engine import known
from buildgrid_scheduler.engine.expiring import end_overlong, end_unserved
from buildgrid_scheduler.engine.items import Call, Enqueued, LoadOperation
from buildgrid_scheduler.engine.operations import attach, delete
from buildgrid_scheduler.engine.pruning import prune, prune_metadata
from buildgrid_scheduler.notifier.delivery import Ticket
from buildgrid_scheduler.store.provider import SqlProvider

from tests.integration.engine.conftest import StartReplica
from tests.integration.engine.faults import every_first_try_fails
from tests.integration.engine.replica import (
    CANCELLED,
    Replica,
    Report,
    counts,
    digest_of,
    enqueue,
    result,
    success,
    synchronize,
)
from tests.integration.timers.jobs import (
    POLICY,
    change,
    held,
    held_open,
    interrupted,
    one,
    running,
    wait_for_a_lock,
)

AGE = timedelta(days=30)
MOMENT = timedelta(seconds=1)
OF_JOBS = ("jobs", "operations", "leases", "queue", "in_flight")


def pruned(replica: Replica, at_once: int = 100) -> int:
    return replica.call(prune(AGE, at_once=at_once))


def done(replica: Replica, word: str, bot_id: str = "bot") -> Enqueued:
    """A job that a bot has brought to its end."""
    enqueued, session = running(replica, word, bot_id)
    replica.sync(session, bot_id, reports={enqueued.job_name: success()}, offer=None)
    return enqueued


def with_metadata(replica: Replica, word: str, invocation: str) -> Enqueued:
    """A job of an invocation."""
    item = enqueue(word)
    item.request_metadata = metadata_row(re_pb2.RequestMetadata(tool_invocation_id=invocation))
    replica.submit(item)
    enqueued: Enqueued = result(item)
    return enqueued


def test_only_once_it_ended_long_enough_ago_and_then_with_everything(
    replica: Replica, provider: SqlProvider
) -> None:
    enqueued = replica.enqueue("action")
    replica.clock.advance(AGE * 2)  # in the queue
    session = replica.open()
    job = replica.take(session)
    replica.clock.advance(AGE * 2)  # at the bot
    replica.sync(session, reports={job: success()})
    replica.clock.advance(AGE - MOMENT)
    assert pruned(replica) == 0
    replica.clock.advance(MOMENT * 2)
    assert pruned(replica) == 1
    assert {table: counts(provider, table) for table in OF_JOBS} == dict.fromkeys(OF_JOBS, 0)
    with pytest.raises(NotFound, match="it may have been pruned"):
        replica.cancel(enqueued.operation_name)
    item = LoadOperation(Ticket(), enqueued.operation_name)
    replica.engine.submit(item)
    assert item.ticket.future.result(10) is None  # type: ignore[call-arg]


def test_all_kinds_of_ends_are_pruned(replica: Replica, provider: SqlProvider) -> None:
    done(replica, "done")
    replica.cancel(replica.enqueue("cancelled").operation_name)
    running(replica, "overlong", "slow bot")
    replica.enqueue("unserved", needs={"Pool": ["none"]})
    replica.enqueue("from the cache", response=b"")
    forgotten = done(replica, "forgotten", "last bot")
    replica.call(delete("", forgotten.operation_name))
    replica.clock.advance(timedelta(days=1))
    assert replica.call(end_overlong(timedelta(hours=1), at_once=10, policy=POLICY)) == 1
    assert replica.call(end_unserved(timedelta(hours=1), at_once=10, policy=POLICY)) == 1
    replica.clock.advance(AGE * 2)
    assert pruned(replica) == 6
    assert {table: counts(provider, table) for table in OF_JOBS} == dict.fromkeys(OF_JOBS, 0)


def test_what_is_not_done_stays_however_old(replica: Replica) -> None:
    waits = replica.enqueue("waits", needs={"Pool": ["none"]})
    runs, _ = running(replica, "runs")
    replica.clock.advance(AGE * 10)
    assert pruned(replica) == 0
    assert replica.stage(waits.operation_name) is Stage.QUEUED
    assert replica.stage(runs.operation_name) is Stage.EXECUTING


def test_a_cancelled_lease_of_which_the_bot_never_let_go_goes_with_its_job(
    replica: Replica, provider: SqlProvider
) -> None:
    enqueued, session = running(replica, "action")
    replica.cancel(enqueued.operation_name)
    replica.clock.advance(AGE * 2)
    assert pruned(replica) == 1
    assert counts(provider, "leases") == 0
    replica.enqueue("next")
    replica.look()
    (tell,) = replica.sync(session).leases
    assert tell.action == b"next"


def test_a_row_that_is_left_in_flight_goes_with_its_job(replica: Replica, provider: SqlProvider) -> None:
    enqueued, session = running(replica, "action")
    digest = digest_of("action")
    with held(provider, "SELECT 1 FROM in_flight WHERE action_digest = %s FOR UPDATE", (digest,)):
        replica.sync(session, reports={enqueued.job_name: success()})
    assert counts(provider, "in_flight") == 1, "it could not be deleted then"
    replica.clock.advance(AGE * 2)
    assert pruned(replica) == 1
    assert counts(provider, "in_flight") == 0
    again = replica.enqueue("action")
    assert not again.shared
    assert replica.take(session) == again.job_name


def test_a_job_that_somebody_may_be_about_to_share_is_left_for_later(
    replica: Replica, provider: SqlProvider
) -> None:
    enqueued, session = running(replica, "action")
    digest = digest_of("action")
    with held(provider, "SELECT 1 FROM in_flight WHERE action_digest = %s FOR UPDATE", (digest,)):
        replica.sync(session, reports={enqueued.job_name: success()})
        replica.clock.advance(AGE * 2)
        assert pruned(replica) == 0
    assert replica.stage(enqueued.operation_name) is Stage.COMPLETED
    assert pruned(replica) == 1


def test_a_job_whose_bot_just_lets_go_of_it_is_left_for_later(
    replica: Replica, other: Replica, provider: SqlProvider
) -> None:
    enqueued, session = running(replica, "action")
    replica.cancel(enqueued.operation_name)
    replica.clock.advance(AGE * 2)
    stopped = synchronize(session, reports={enqueued.job_name: Report(CANCELLED)}, offer=None)

    def bot_lets_go() -> None:
        other.submit(stopped)  # takes the lease, and waits for the job, which is held here
        wait_for_a_lock(provider)

    assert replica.call(interrupted(prune(AGE, at_once=10), {"DELETE FROM leases": bot_lets_go})) == 0
    result(stopped)
    assert counts(provider, "leases") == 0
    assert pruned(replica) == 1


def test_an_operation_cannot_be_attached_to_a_job_that_is_being_pruned(
    replica: Replica, other: Replica, provider: SqlProvider
) -> None:
    enqueued = done(replica, "action")
    replica.clock.advance(AGE * 2)
    late: Call[None] = Call(Ticket(), attach("", "late", enqueued.job_name))
    acts = {"DELETE FROM operations": lambda: other.submit(late)}
    assert replica.call(interrupted(prune(AGE, at_once=10), acts)) == 1
    with pytest.raises(NotFound):
        result(late)
    assert counts(provider, "operations") == 0


def test_at_most_so_many_at_once_the_oldest_first_of_all_instances(
    replica: Replica, provider: SqlProvider
) -> None:
    for number in range(3):
        for instance in ("", "theirs"):
            replica.enqueue(f"action {number}", response=b"", instance=instance)
        replica.clock.advance(MOMENT)
    replica.clock.advance(AGE)
    assert pruned(replica, 2) == 2
    assert one(provider, "SELECT array_agg(instance_name ORDER BY queued_at) FROM jobs") == [
        "theirs",
        "theirs",
        "",
        "theirs",
    ]
    assert [pruned(replica, 3) for _ in range(3)] == [3, 1, 0]


def test_another_replica_neither_waits_for_what_this_one_holds_nor_does_it_again(
    replica: Replica, other: Replica, provider: SqlProvider
) -> None:
    for number in range(5):
        replica.enqueue(f"action {number}", response=b"")
    replica.clock.advance(AGE * 2)
    with held_open(provider, prune(AGE, at_once=2), replica.clock()) as mine:
        assert mine == 2
        assert pruned(other) == 3
    assert pruned(other) == 0
    assert counts(provider, "jobs") == counts(provider, "operations") == 0


@pytest.mark.parametrize("committed", [False, True], ids=["rolled back", "commit unheard"])
def test_it_may_be_run_twice(
    replica: Replica, provider: SqlProvider, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    replica.enqueue("action", response=b"")
    replica.clock.advance(AGE * 2)
    with every_first_try_fails(monkeypatch, committed=committed):
        assert pruned(replica) == (0 if committed else 1)
    assert counts(provider, "jobs") == 0


# --- request metadata


def age_metadata(provider: SqlProvider) -> None:
    change(provider, "UPDATE request_metadata SET created_at = now() - interval '1 day'")


def end_of(replica: Replica, enqueued: Enqueued) -> None:
    replica.cancel(enqueued.operation_name)


def test_request_metadata_goes_with_the_last_operation_that_refers_to_it(
    replica: Replica, provider: SqlProvider
) -> None:
    end_of(replica, with_metadata(replica, "old", "an invocation"))
    replica.clock.advance(AGE / 2)
    young = with_metadata(replica, "young", "an invocation")
    end_of(replica, young)
    end_of(replica, with_metadata(replica, "of another", "another invocation"))
    age_metadata(provider)
    replica.clock.advance(AGE / 2 + MOMENT)
    assert pruned(replica) == 1
    assert counts(provider, "request_metadata") == 2
    replica.clock.advance(AGE)
    assert pruned(replica) == 2
    assert counts(provider, "request_metadata") == 0


def test_request_metadata_that_replicas_may_remember_stays(
    replica: Replica, other: Replica, provider: SqlProvider
) -> None:
    end_of(replica, with_metadata(replica, "action", "nightly"))
    replica.clock.advance(AGE * 2)
    assert pruned(other) == 1
    end_of(replica, with_metadata(replica, "action", "nightly"))
    missing = """
    SELECT count(*) FROM operations o LEFT JOIN request_metadata m ON m.hash = o.request_metadata_hash
    WHERE m.hash IS NULL"""
    assert one(provider, missing) == 0


def test_a_replica_that_comes_across_metadata_keeps_it_from_being_pruned(
    replica: Replica, start_replica: StartReplica, provider: SqlProvider
) -> None:
    end_of(replica, with_metadata(replica, "action", "nightly"))
    age_metadata(provider)
    late = start_replica(clock=replica.clock)
    replica.clock.advance(AGE * 2)
    operation = with_metadata(late, "action", "nightly")
    assert pruned(replica) == 1
    end_of(late, operation)
    replica.clock.advance(AGE * 2)
    assert pruned(replica) == 1
    assert counts(provider, "request_metadata") == 1, "the late replica believes it to be there"


@pytest.mark.parametrize("remembered", [True, False])
def test_a_replica_writes_what_it_has_not_written_for_long_again(
    replica: Replica, provider: SqlProvider, monkeypatch: pytest.MonkeyPatch, remembered: bool
) -> None:
    if not remembered:
        monkeypatch.setattr(known, "REMEMBERED_FOR", 0.0)
    end_of(replica, with_metadata(replica, "action", "nightly"))
    age_metadata(provider)
    end_of(replica, with_metadata(replica, "action", "nightly"))
    marked = "SELECT created_at > now() - interval '1 hour' FROM request_metadata"
    assert one(provider, marked) is not remembered


def test_request_metadata_without_an_operation_is_found_page_by_page(
    replica: Replica, provider: SqlProvider
) -> None:
    for number in range(5):
        enqueued = with_metadata(replica, f"action {number}", f"invocation {number}")
        end_of(replica, enqueued)
        if number != 2:
            replica.call(delete("", enqueued.operation_name))
    age_metadata(provider)
    after, pages = "", 0
    while True:
        after = replica.call(prune_metadata(timedelta(), after=after, page=2))
        pages += 1
        if not after:
            break
    assert pages == 3
    assert one(provider, "SELECT array_agg(invocation_id) FROM request_metadata") == ["invocation 2"]


def test_request_metadata_that_is_not_old_is_not_left_behind_yet(
    replica: Replica, provider: SqlProvider
) -> None:
    enqueued = with_metadata(replica, "action", "invocation")
    end_of(replica, enqueued)
    replica.call(delete("", enqueued.operation_name))
    assert replica.call(prune_metadata(timedelta(), after="", page=10)) == ""
    assert counts(provider, "request_metadata") == 1
