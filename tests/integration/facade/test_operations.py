"""Operations of the public Python API: sharing on purpose, who asked, and for what."""

import threading
from collections.abc import Callable

import pytest
from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb2
from buildgrid_protos.build.buildgrid.identity_pb2 import ClientIdentity
from buildgrid_scheduler import (
    Cancelled,
    ClientIdentityEntry,
    NotFound,
    ResourceExhausted,
    Scheduler,
    SqlProvider,
    instance_context,
)
from buildgrid_scheduler.store.schema import JobEntry
from google.rpc import code_pb2
from sqlalchemy import select

from tests.integration.facade.calls import (
    OK,
    Start,
    action,
    active,
    completed,
    give,
    metadata_of,
    queue,
    response_of,
)

METADATA = re_pb2.RequestMetadata(
    tool_details=re_pb2.ToolDetails(tool_name="bazel", tool_version="4.2.3"),
    action_id="a",
    tool_invocation_id="i",
    correlated_invocations_id="c",
    action_mnemonic="CppCompile",
    target_id="//:t",
    configuration_id="k8",
)


def someone(subject: str = "ann") -> ClientIdentityEntry:
    return ClientIdentityEntry(instance="team", workflow="ci", actor="bot", subject=subject)


def new(
    scheduler: Scheduler,
    word: str,
    response: re_pb2.ExecuteResponse | None = None,
    *,
    do_not_cache: bool = False,
) -> str:
    return scheduler.create_operation_for_new_job(
        action=re_pb2.Action(do_not_cache=do_not_cache),
        action_digest=action(word),
        command=re_pb2.Command(arguments=["make", word]),
        execute_response=response,
        platform_requirements={},
        property_label="unknown",
        priority=5,
        request_metadata=METADATA,
        client_identity=someone(),
    )


def share(scheduler: Scheduler, word: str, priority: int = 0) -> str | None:
    return scheduler.create_operation_for_existing_job(
        action_digest=action(word),
        priority=priority,
        request_metadata=METADATA,
        client_identity=someone("bob"),
    )


def test_what_a_client_said_is_read_back(scheduler: Scheduler) -> None:
    named = new(scheduler, "action")
    assert scheduler.get_operation_request_metadata_by_name(named) == METADATA
    assert scheduler.get_client_identity_by_operation(named) == ClientIdentity(
        workflow="ci", actor="bot", subject="ann"
    )
    job = scheduler.get_operation_job_name(named)
    assert job is not None
    anonymous = scheduler.create_operation(job)
    assert scheduler.get_operation_request_metadata_by_name(anonymous) is None
    assert scheduler.get_client_identity_by_operation(anonymous) is None
    other = scheduler.create_operation(job, request_metadata=METADATA, client_identity=someone("eve"))
    assert scheduler.get_operation_request_metadata_by_name(other) == METADATA
    identity = scheduler.get_client_identity_by_operation(other)
    assert identity is not None
    assert identity.subject == "eve"
    with instance_context("other"):
        assert scheduler.get_operation_request_metadata_by_name(named) is None
        assert scheduler.get_client_identity_by_operation(named) is None


def test_an_operation_on_the_running_job_of_an_action(scheduler: Scheduler) -> None:
    assert share(scheduler, "action") is None
    first = new(scheduler, "action")
    second = share(scheduler, "action")
    assert second is not None
    assert scheduler.get_operation_job_name(second) == scheduler.get_operation_job_name(first)
    session = scheduler.add_bot_entry(bot_session_id="bot", bot_session_status=OK)
    lease = give(scheduler, session)
    third = share(scheduler, "action")
    assert third is not None
    scheduler.synchronize_bot_lease(session, "bot", OK, completed(lease))
    for name in (first, second, third):
        assert response_of(scheduler.load_operation(name)).status.code == code_pb2.OK
    assert share(scheduler, "action") is None


def test_a_more_urgent_operation_pulls_the_job_forward(scheduler: Scheduler) -> None:
    new(scheduler, "one")
    slow = new(scheduler, "two")
    share(scheduler, "two", priority=1)
    share(scheduler, "one", priority=7)
    session = scheduler.add_bot_entry(bot_session_id="bot", bot_session_status=OK)
    assert give(scheduler, session).id == scheduler.get_operation_job_name(slow)


def test_what_must_not_be_cached_is_not_shared(scheduler: Scheduler) -> None:
    new(scheduler, "action", do_not_cache=True)
    assert share(scheduler, "action") is None


def test_a_new_job_is_made_whatever_runs_and_later_clients_share_the_newest(scheduler: Scheduler) -> None:
    first, second = new(scheduler, "action"), new(scheduler, "action")
    jobs = [scheduler.get_operation_job_name(name) for name in (first, second)]
    assert len(set(jobs)) == 2
    assert scheduler.get_operation_job_name(queue(scheduler, "action")) == jobs[1]


def test_a_job_may_be_born_complete(scheduler: Scheduler) -> None:
    response = re_pb2.ExecuteResponse(result=re_pb2.ActionResult(exit_code=3), message="hello")
    response.status.code = code_pb2.ABORTED
    name = new(scheduler, "action", response)
    loaded = scheduler.load_operation(name)
    assert response_of(loaded) == response
    assert metadata_of(loaded).stage == re_pb2.ExecutionStage.COMPLETED
    assert share(scheduler, "action") is None
    session = scheduler.add_bot_entry(bot_session_id="bot", bot_session_status=OK)
    assert scheduler.synchronize_bot_lease(session, "bot", OK, None) is None


def test_the_queue_limit_holds_for_jobs_that_are_made_on_purpose(start: Start) -> None:
    scheduler = start(max_queue_size=1)
    with instance_context("team"):
        new(scheduler, "one")
        with pytest.raises(ResourceExhausted, match="max_queue_size"):
            new(scheduler, "two")
        assert share(scheduler, "one") is not None


def test_a_cancelled_job_takes_no_more_operations(scheduler: Scheduler) -> None:
    name = new(scheduler, "action")
    job = scheduler.get_operation_job_name(name)
    assert job is not None
    scheduler.cancel_operation(name)
    with pytest.raises(Cancelled):
        scheduler.create_operation(job)
    assert share(scheduler, "action") is None
    with pytest.raises(NotFound):
        scheduler.create_operation("no such job")


def test_a_session_is_extended_without_a_report(start: Start, scheduler: Scheduler) -> None:
    session = scheduler.add_bot_entry(bot_session_id="bot", bot_session_status=OK)
    before = scheduler.refresh_bot_expiry_time(session, "bot")
    after = scheduler.refresh_bot_expiry_time(session, "bot")
    assert after > before
    assert after.tzinfo is not None
    refusals: list[Callable[[], object]] = [
        lambda: scheduler.refresh_bot_expiry_time("unknown", "bot"),
        lambda: scheduler.refresh_bot_expiry_time(session, "another"),
    ]
    for call in refusals:
        with pytest.raises(Exception, match="not known; create a new session"):
            call()


def test_bots_are_told_of_their_leases_and_of_no_others(scheduler: Scheduler) -> None:
    new(scheduler, "action")
    session = scheduler.add_bot_entry(bot_session_id="bot", bot_session_status=OK)
    lease = give(scheduler, session)
    partial = re_pb2.ExecutedActionMetadata(worker="w")
    scheduler.synchronize_bot_lease(session, "bot", OK, active(lease), {lease.id: partial})
    stranger = type(lease)(id="stranger")
    ((key, value),) = scheduler.get_metadata_for_leases([stranger, lease])
    assert key == "executeoperationmetadata-bin"
    told = re_pb2.ExecuteOperationMetadata.FromString(value)
    assert told.stage == re_pb2.ExecutionStage.EXECUTING
    assert told.action_digest == action("action")
    assert told.partial_execution_metadata == partial
    with instance_context("other"):
        assert scheduler.get_metadata_for_leases([lease]) == []


def test_when_a_job_was_queued_started_and_done(scheduler: Scheduler, provider: SqlProvider) -> None:
    def metadata() -> re_pb2.ExecutedActionMetadata:
        with provider.session() as session:
            return scheduler.get_execute_action_metadata(session.execute(select(JobEntry)).scalar_one())

    new(scheduler, "action")
    assert metadata().HasField("queued_timestamp")
    assert not metadata().HasField("worker_start_timestamp")
    session = scheduler.add_bot_entry(bot_session_id="bot", bot_session_status=OK)
    lease = give(scheduler, session)
    scheduler.synchronize_bot_lease(session, "bot", OK, active(lease))
    scheduler.synchronize_bot_lease(session, "bot", OK, completed(lease))
    done = metadata()
    assert done.worker == "bot"
    assert (
        done.queued_timestamp.ToNanoseconds()
        <= done.worker_start_timestamp.ToNanoseconds()
        <= done.worker_completed_timestamp.ToNanoseconds()
    )


def test_shared_rows_are_inserted_by_the_caller_once(scheduler: Scheduler, provider: SqlProvider) -> None:
    with pytest.raises(RuntimeError, match="rolled back"), provider.session() as session:
        scheduler.get_or_create_client_identity_in_store(session, someone())
        scheduler.get_or_create_request_metadata_in_store(session, METADATA)
        raise RuntimeError("rolled back")
    ids: list[int] = []
    hashes: list[str] = []

    def insert() -> None:
        with provider.session() as session:
            ids.append(scheduler.get_or_create_client_identity_in_store(session, someone()).id)
            hashes.append(scheduler.get_or_create_request_metadata_in_store(session, METADATA).hash)

    with provider.session() as session:
        ids.append(scheduler.get_or_create_client_identity_in_store(session, someone()).id)
        hashes.append(scheduler.get_or_create_request_metadata_in_store(session, METADATA).hash)
        waiting = threading.Thread(target=insert)
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()  # until this transaction is over
    waiting.join(30)
    assert len(ids) == 2
    assert len(set(ids)) == 1
    assert len(set(hashes)) == 1
