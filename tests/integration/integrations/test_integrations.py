"""All services around a scheduler together: what each is told of a job's life."""

import subprocess
import sys
from datetime import UTC, timedelta

import pytest
from buildgrid_client.digests import digest_key, digest_of
from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb2
from buildgrid_scheduler.core.completed_job import CompletedJob
from buildgrid_scheduler.integrations import build_integrations
from buildgrid_scheduler.storage.memory import MemoryStorage
from buildgrid_scheduler.store.provider import SqlProvider

from tests.integration.engine.replica import Replica
from tests.integration.integrations.conftest import Build
from tests.integration.integrations.executions import (
    ACTION,
    ACTION_DIGEST,
    JO,
    NOW,
    WITHIN,
    executed,
    queued_seconds,
)
from tests.integration.integrations.grpc_servers import AssetServer
from tests.integration.integrations.metering_server import MeteringServer
from tests.integration.integrations.test_metering import own

# The client package of metering calls a method of pydantic that is deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:The `dict` method is deprecated:DeprecationWarning")


def completed(job: str, response: re_pb2.ExecuteResponse) -> CompletedJob:
    return ended(job, response.SerializeToString(), response.status.code)


def ended(job: str, response: bytes, code: int = 0) -> CompletedJob:
    return CompletedJob(job, "team", digest_key(ACTION_DIGEST), "linux", response, code, NOW)


def test_a_job_that_succeeds_is_kept_measured_and_charged(
    build: Build,
    storage: MemoryStorage,
    provider: SqlProvider,
    replica: Replica,
    asset_server: AssetServer,
    metering_server: MeteringServer,
) -> None:
    integrations = build()
    assert integrations.checked_priority(JO, 0) == 0
    enqueued = replica.enqueue("compile")
    own(provider, enqueued.operation_name, "jo")
    integrations.operation_made(JO, enqueued.operation_name)
    integrations.job_queued("team", digest_key(ACTION_DIGEST), ACTION.SerializeToString())
    storage.write_many([(ACTION_DIGEST, ACTION.SerializeToString())])
    result = re_pb2.ActionResult(stdout_digest=digest_of(b"out"), execution_metadata=executed(storage))
    integrations.jobs_completed([completed(enqueued.job_name, re_pb2.ExecuteResponse(result=result))])
    integrations.stop(WITHIN)
    assert sorted(p.expire_at.ToDatetime(UTC) - NOW for p in asset_server.pushed) == [
        timedelta(hours=1),
        timedelta(hours=2),
        timedelta(hours=3),
    ]
    who = "main/team/build/bazel/jo"
    usages = [usage for identity, _, usage in metering_server.usages if identity == who]
    assert {"rpc": {"execute": 1}} in usages
    assert {"computing": {"utime": 3000}} in usages
    assert queued_seconds(integrations) == 4
    assert [outbox.counts().failed + outbox.counts().dropped for outbox in integrations.outboxes] == [0] * 6


def test_a_job_that_fails_without_a_result_is_kept_for_those_who_look_into_it(
    build: Build, storage: MemoryStorage, asset_server: AssetServer, metering_server: MeteringServer
) -> None:
    storage.write_many([(ACTION_DIGEST, ACTION.SerializeToString())])
    integrations = build()
    response = re_pb2.ExecuteResponse()
    response.status.code = 13
    integrations.jobs_completed([completed("job", response)])
    integrations.stop(WITHIN)
    assert [push.blob_digest for push in asset_server.pushed] == [ACTION_DIGEST]
    assert metering_server.usages == []
    assert queued_seconds(integrations) is None


def test_a_service_that_fails_takes_nothing_from_the_others(
    build: Build,
    storage: MemoryStorage,
    provider: SqlProvider,
    replica: Replica,
    asset_server: AssetServer,
    metering_server: MeteringServer,
) -> None:
    integrations = build()
    asset_server.stop()
    enqueued = replica.enqueue("compile")
    own(provider, enqueued.operation_name, "jo")
    result = re_pb2.ActionResult(execution_metadata=executed(storage))
    integrations.jobs_completed([completed(enqueued.job_name, re_pb2.ExecuteResponse(result=result))])
    integrations.stop(WITHIN)
    assert [usage for *_, usage in metering_server.usages] == [{"computing": {"utime": 3000}}]
    assert queued_seconds(integrations) == 4


def test_a_response_that_cannot_be_read_does_not_end_the_thread(
    build: Build, storage: MemoryStorage, caplog: pytest.LogCaptureFixture
) -> None:
    integrations = build()
    odd = ended("odd", b"\xff\xff")
    good = re_pb2.ExecuteResponse(result=re_pb2.ActionResult(execution_metadata=executed(storage)))
    integrations.jobs_completed([odd, completed("good", good)])
    integrations.stop(WITHIN)
    assert "completions: not sent: DecodeError" in caplog.text
    assert queued_seconds(integrations) == 4


async def test_streams_of_a_new_lease_are_in_the_database_before_its_bot_is_answered(
    build: Build, replica: Replica
) -> None:
    integrations = build()
    operation = replica.enqueue("compile").operation_name
    session = replica.open()
    job = replica.take(session)
    assert integrations.lease_streams is not None
    streams = await integrations.lease_streams.of_new_leases("", session, [job])
    assert replica.load(operation).state.stdout_stream_name == streams[job].stdout_read


def test_without_services_only_durations_are_observed(storage: MemoryStorage, provider: SqlProvider) -> None:
    integrations = build_integrations(storage, provider, lambda *_: True)
    integrations.start()
    assert integrations.checked_priority(JO, 0) == 0
    integrations.operation_made(JO, "operation")
    integrations.job_queued("team", digest_key(ACTION_DIGEST), b"")
    result = re_pb2.ActionResult(execution_metadata=executed(storage))
    integrations.jobs_completed([completed("job", re_pb2.ExecuteResponse(result=result))])
    integrations.stop(WITHIN)
    assert integrations.lease_streams is None
    assert queued_seconds(integrations) == 4
    assert len(integrations.outboxes) == 1


def test_without_the_metering_package_everything_else_can_be_imported() -> None:
    program = (
        "import sys; sys.modules['buildgrid_metering'] = None; "
        "import buildgrid_scheduler.integrations, buildgrid_scheduler.server.integrations"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
