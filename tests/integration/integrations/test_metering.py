"""Metering through the real client and a real HTTP service, which may fail without harm."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from buildgrid_client.digests import digest_of
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    Digest,
    ExecutedActionMetadata,
)
from buildgrid_protos.build.buildbox.execution_stats_pb2 import ExecutionStatistics
from buildgrid_scheduler.core.errors import ResourceExhausted
from buildgrid_scheduler.core.metering import IdentityKey, MeteringThrottleAction
from buildgrid_scheduler.metering.metering import Metering
from buildgrid_scheduler.metering.package import service_client
from buildgrid_scheduler.storage.memory import MemoryStorage
from buildgrid_scheduler.store.provider import SqlProvider
from buildgrid_scheduler.store.schema import ClientIdentityEntry, OperationEntry
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration

from tests.farm.waiting import eventually_sync
from tests.integration.engine.replica import Replica
from tests.integration.integrations.metering_server import MeteringServer

# The client package calls a method of pydantic that is deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:The `dict` method is deprecated:DeprecationWarning")

WITHIN = 20.0
JO: IdentityKey = ("main/team", "build", "bazel", "jo")
JO_PATH = "main/team/build/bazel/jo"
Start = Callable[..., Metering]


@pytest.fixture
def start(metering_server: MeteringServer, storage: MemoryStorage, provider: SqlProvider) -> Iterator[Start]:
    started: list[Metering] = []

    def start(
        action: MeteringThrottleAction | None = None,
        *,
        token_file: Path | None = None,
        timeout: float = WITHIN,
        **options: float,
    ) -> Metering:
        client = service_client(metering_server.url, token_file, timeout)
        settings = {"bound": WITHIN, **options}
        metering = Metering(client, storage, provider, action=action, **settings)  # type: ignore[arg-type]
        metering.start()
        started.append(metering)
        return metering

    yield start
    for metering in started:
        metering.stop(0)


def test_a_throttled_client_stands_back_and_others_do_not(
    start: Start, metering_server: MeteringServer
) -> None:
    metering = start()
    metering_server.throttled = {JO_PATH}
    assert metering.checked_priority(JO, 0) == 1
    assert metering.checked_priority(JO, -3) == 1
    assert metering.checked_priority(("main/team", "build", "bazel", "ann"), 0) == 0
    assert metering.checked_priority(None, 0) == 0
    assert metering_server.asked == [JO_PATH, "main/team/build/bazel/ann"]


def test_who_stands_back_already_is_not_asked_about(start: Start, metering_server: MeteringServer) -> None:
    metering_server.throttled = {JO_PATH}
    assert start().checked_priority(JO, 4) == 4
    assert metering_server.asked == []


def test_a_throttled_client_may_be_refused(start: Start, metering_server: MeteringServer) -> None:
    metering = start(MeteringThrottleAction.REJECT)
    metering_server.throttled = {JO_PATH}
    with pytest.raises(ResourceExhausted, match="'jo'"):
        metering.checked_priority(JO, 4)
    with pytest.raises(ResourceExhausted, match="'jo'"):
        asyncio.run(metering.checked_priority_async(JO, 0))


async def test_coroutines_ask_the_same(start: Start, metering_server: MeteringServer) -> None:
    metering = start()
    metering_server.throttled = {JO_PATH}
    assert await metering.checked_priority_async(JO, 0) == 1
    assert await metering.checked_priority_async(None, 0) == 0


@pytest.mark.parametrize("status", [400, 401, 429, 500, 503])
def test_a_service_that_refuses_throttles_nobody(
    start: Start, metering_server: MeteringServer, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    metering = start(MeteringThrottleAction.REJECT)
    metering_server.throttled = {JO_PATH}
    metering_server.mood.refusal = status
    assert metering.checked_priority(JO, 0) == 0
    eventually_sync(
        lambda: f"MeteringServiceHTTPError: ({status}" in caplog.text, WITHIN, lambda: caplog.text
    )


def test_a_service_that_is_down_throttles_nobody(
    start: Start, metering_server: MeteringServer, caplog: pytest.LogCaptureFixture
) -> None:
    metering = start(MeteringThrottleAction.REJECT)
    metering_server.stop()
    assert metering.checked_priority(JO, 0) == 0
    eventually_sync(lambda: "throttling: not sent" in caplog.text, WITHIN, lambda: caplog.text)


def test_a_service_that_hangs_throttles_nobody_within_the_bound(
    start: Start, metering_server: MeteringServer, caplog: pytest.LogCaptureFixture
) -> None:
    metering = start(MeteringThrottleAction.REJECT, bound=0.1)
    metering_server.mood.hang()
    assert metering.checked_priority(JO, 0) == 0
    assert metering_server.mood.reached.acquire(timeout=WITHIN)
    assert "no answer within 0.1 s" in caplog.text


def test_each_operation_of_a_known_client_is_one_execution(
    start: Start, metering_server: MeteringServer
) -> None:
    metering = start()
    metering.operation_made(JO, "op-1")
    metering.operation_made(None, "op-2")
    metering.stop(WITHIN)
    assert metering_server.usages == [(JO_PATH, "op-1", {"rpc": {"execute": 1}})]


def test_usage_that_cannot_be_put_is_logged_and_the_next_arrives(
    start: Start, metering_server: MeteringServer, caplog: pytest.LogCaptureFixture
) -> None:
    metering = start()
    usages = metering.outboxes[-1]
    metering_server.mood.refusal = 503
    metering.operation_made(JO, "op-1")
    eventually_sync(lambda: usages.counts().failed == 1, WITHIN, lambda: caplog.text)
    metering_server.mood.refusal = None
    metering.operation_made(JO, "op-2")
    metering.stop(WITHIN)
    assert [operation for _, operation, _ in metering_server.usages] == ["op-2"]
    assert "metering: not sent: MeteringServiceHTTPError" in caplog.text


def test_a_service_that_hangs_is_given_up_after_the_timeout(
    start: Start, metering_server: MeteringServer, caplog: pytest.LogCaptureFixture
) -> None:
    metering = start(timeout=0.2)
    metering_server.mood.hang()
    metering.operation_made(JO, "op-1")
    eventually_sync(lambda: metering.outboxes[-1].counts().failed == 1, WITHIN, lambda: caplog.text)
    assert "timed out" in caplog.text


def test_more_usage_than_can_wait_is_dropped_and_counted(
    start: Start, metering_server: MeteringServer
) -> None:
    metering = start(capacity=2, threads=1)
    metering_server.mood.hang()
    metering.operation_made(JO, "op-0")
    assert metering_server.mood.reached.acquire(timeout=WITHIN)
    for number in range(1, 6):
        metering.operation_made(JO, f"op-{number}")
    assert metering.outboxes[-1].counts().dropped == 3
    metering_server.mood.release()
    metering.stop(WITHIN)
    assert [operation for _, operation, _ in metering_server.usages] == ["op-0", "op-1", "op-2"]


def measured(storage: MemoryStorage) -> ExecutedActionMetadata:
    """Metadata of a result whose statistics are in the CAS."""
    rusage = ExecutionStatistics.ProcessResourceUsage(
        utime=Duration(seconds=3), stime=Duration(nanos=250_000_000), maxrss=5, inblock=6, oublock=7
    )
    packed = Any()
    packed.Pack(ExecutionStatistics(command_rusage=rusage))
    blob = packed.SerializeToString()
    storage.write_many([(digest_of(blob), blob)])
    metadata = ExecutedActionMetadata()
    metadata.auxiliary_metadata.add().Pack(digest_of(blob))
    return metadata


USED = {"computing": {"utime": 3000, "stime": 250, "maxrss": 5, "inblock": 6, "oublock": 7}}


def own(provider: SqlProvider, operation: str, subject: str) -> None:
    """Let an operation be somebody's."""
    with provider.session() as session:
        entry = ClientIdentityEntry(instance="main/team", workflow="build", actor="bazel", subject=subject)
        session.add(entry)
        session.flush()
        session.get_one(OperationEntry, operation).client_identity_id = entry.id


def test_at_completion_each_client_of_the_job_is_charged(
    start: Start,
    metering_server: MeteringServer,
    storage: MemoryStorage,
    provider: SqlProvider,
    replica: Replica,
) -> None:
    first, second, anonymous = (replica.enqueue("compile") for _ in range(3))
    assert first.job_name == second.job_name == anonymous.job_name
    own(provider, first.operation_name, "jo")
    own(provider, second.operation_name, "ann")
    metering = start()
    metering.job_completed(first.job_name, measured(storage))
    metering.stop(WITHIN)
    assert sorted(metering_server.usages) == sorted(
        [
            ("main/team/build/bazel/jo", first.operation_name, USED),
            ("main/team/build/bazel/ann", second.operation_name, USED),
        ]
    )


def test_a_job_without_statistics_is_not_charged(
    start: Start, metering_server: MeteringServer, provider: SqlProvider, replica: Replica
) -> None:
    enqueued = replica.enqueue("compile")
    own(provider, enqueued.operation_name, "jo")
    evicted = ExecutedActionMetadata()
    evicted.auxiliary_metadata.add().Pack(Digest(hash="a" * 64, size_bytes=3))
    metering = start()
    metering.job_completed(enqueued.job_name, ExecutedActionMetadata())
    metering.job_completed(enqueued.job_name, evicted)
    metering.stop(WITHIN)
    assert metering_server.usages == []
    assert [outbox.counts().failed for outbox in metering.outboxes] == [0, 0, 0]
    assert metering.outboxes[1].counts().sent == 1  # nothing to look for without a digest


def test_the_token_in_the_file_is_sent_and_followed(
    start: Start, metering_server: MeteringServer, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    metering = start(token_file=token, fresh_for=0)
    metering.checked_priority(JO, 0)
    token.write_text("the second\n")
    metering.checked_priority(JO, 0)
    assert metering_server.tokens == ["Bearer first", "Bearer the second"]
