"""Actions and results are kept through a real asset service, which may fail without harm."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from buildgrid_client.digests import digest_key, digest_of
from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb2
from buildgrid_scheduler.assets import AssetClient
from buildgrid_scheduler.assets.requests import uri_of
from buildgrid_scheduler.assets.retention import Retention, RetentionPeriods
from buildgrid_scheduler.core.errors import ResourceExhausted, SchedulerError
from buildgrid_scheduler.storage.memory import MemoryStorage

from tests.farm.waiting import eventually_sync
from tests.integration.integrations.grpc_servers import AssetServer

WITHIN = 20.0
NOW = datetime(2030, 1, 1, tzinfo=UTC)
EACH = RetentionPeriods(timedelta(hours=1), timedelta(hours=2), timedelta(hours=3))
ACTION = re_pb2.Action(command_digest=digest_of(b"command"), input_root_digest=digest_of(b"root"))
ACTION_DIGEST = digest_of(ACTION.SerializeToString())
Start = Callable[..., Retention]


def store(storage: MemoryStorage, blob: bytes) -> re_pb2.Digest:
    assert storage.write_many([(digest_of(blob), blob)]) == [None]
    return digest_of(blob)


@pytest.fixture
def start(asset_server: AssetServer, storage: MemoryStorage) -> Iterator[Start]:
    started: list[Retention] = []

    def start(
        periods: RetentionPeriods = EACH, *, instance: str | None = None, timeout: float = 10, **options: int
    ) -> Retention:
        client = AssetClient(asset_server.channel(), instance=instance, timeout=timeout)
        retention = Retention(client, storage, periods, clock=lambda: NOW, **options)
        retention.start()
        started.append(retention)
        return retention

    yield start
    for retention in started:
        retention.stop(0)


def queue(retention: Retention) -> None:
    retention.action_queued("team", digest_key(ACTION_DIGEST), ACTION.SerializeToString())


def test_a_queued_action_is_kept_for_as_long_as_configured(start: Start, asset_server: AssetServer) -> None:
    retention = start()
    queue(retention)
    retention.stop(WITHIN)
    (push,) = asset_server.pushed
    assert push.instance_name == "team"
    assert list(push.uris) == [uri_of(ACTION_DIGEST)]
    assert push.blob_digest == ACTION_DIGEST
    assert list(push.references_blobs) == [ACTION.command_digest]
    assert list(push.references_directories) == [ACTION.input_root_digest]
    assert push.expire_at.ToDatetime(UTC) == NOW + timedelta(hours=1)


def test_a_client_with_an_instance_of_its_own_pushes_there(start: Start, asset_server: AssetServer) -> None:
    retention = start(instance="assets")
    queue(retention)
    retention.stop(WITHIN)
    assert asset_server.pushed[0].instance_name == "assets"


def test_at_completion_the_action_and_its_result_are_kept(
    start: Start, asset_server: AssetServer, storage: MemoryStorage
) -> None:
    store(storage, ACTION.SerializeToString())
    file = re_pb2.FileNode(name="f", digest=digest_of(b"in a tree"))
    tree = store(storage, re_pb2.Tree(root=re_pb2.Directory(files=[file])).SerializeToString())
    result = re_pb2.ActionResult(
        output_files=[re_pb2.OutputFile(path="a", digest=digest_of(b"a"))],
        output_directories=[re_pb2.OutputDirectory(path="d", tree_digest=tree)],
        stdout_digest=digest_of(b"out"),
    )
    retention = start()
    retention.job_completed("team", digest_key(ACTION_DIGEST), result)
    retention.stop(WITHIN)
    action_push = asset_server.push_of(lambda push: push.blob_digest == ACTION_DIGEST)
    assert action_push.expire_at.ToDatetime(UTC) == NOW + timedelta(hours=2)
    result_push = asset_server.push_of(lambda push: push.blob_digest != ACTION_DIGEST)
    assert result_push.expire_at.ToDatetime(UTC) == NOW + timedelta(hours=3)
    assert {d.hash for d in result_push.references_blobs} == {
        digest_of(b"a").hash,
        digest_of(b"out").hash,
        tree.hash,
        digest_of(b"in a tree").hash,
    }
    stored = storage.read_one(result_push.blob_digest)
    assert stored is not None
    assert re_pb2.ActionResult.FromString(stored) == result


def test_a_job_that_ended_without_a_result_has_none_to_keep(
    start: Start, asset_server: AssetServer, storage: MemoryStorage
) -> None:
    store(storage, ACTION.SerializeToString())
    retention = start()
    retention.job_completed("team", digest_key(ACTION_DIGEST), None)
    retention.stop(WITHIN)
    assert [push.blob_digest for push in asset_server.pushed] == [ACTION_DIGEST]


def test_without_periods_nothing_is_pushed(start: Start, asset_server: AssetServer) -> None:
    retention = start(RetentionPeriods())
    queue(retention)
    retention.job_completed("team", digest_key(ACTION_DIGEST), re_pb2.ActionResult())
    retention.stop(WITHIN)
    assert asset_server.pushed == []
    assert retention.outbox.counts().sent == 0


def test_a_blob_that_is_no_tree_does_not_keep_the_rest_from_being_kept(
    start: Start, asset_server: AssetServer, storage: MemoryStorage, caplog: pytest.LogCaptureFixture
) -> None:
    odd = store(storage, b"\xff\xff")
    result = re_pb2.ActionResult(output_directories=[re_pb2.OutputDirectory(path="d", tree_digest=odd)])
    retention = start(RetentionPeriods(action_result=timedelta(hours=1)))
    retention.job_completed("team", digest_key(ACTION_DIGEST), result)
    retention.stop(WITHIN)
    assert list(asset_server.pushed[0].references_blobs) == [odd]
    assert "is no Tree" in caplog.text


def test_an_action_that_the_cas_has_lost_is_a_failure_that_is_logged(
    start: Start, asset_server: AssetServer, caplog: pytest.LogCaptureFixture
) -> None:
    retention = start()
    retention.job_completed("team", digest_key(ACTION_DIGEST), None)
    retention.stop(WITHIN)
    assert asset_server.pushed == []
    assert retention.outbox.counts().failed == 1
    assert "is not in the CAS any more" in caplog.text


class FullStorage(MemoryStorage):
    """Has no room."""

    def write_many(self, blobs: list[tuple[re_pb2.Digest, bytes]]) -> list[SchedulerError | None]:
        return [ResourceExhausted("the CAS is full")] * len(blobs)


def test_a_result_that_cannot_be_stored_is_not_pushed(
    asset_server: AssetServer, caplog: pytest.LogCaptureFixture
) -> None:
    periods = RetentionPeriods(action_result=timedelta(hours=1))
    retention = Retention(AssetClient(asset_server.channel()), FullStorage(), periods)
    retention.start()
    retention.job_completed("team", digest_key(ACTION_DIGEST), re_pb2.ActionResult())
    retention.stop(WITHIN)
    assert asset_server.pushed == []
    assert "retention: not sent: ResourceExhausted: the CAS is full" in caplog.text


def test_a_service_that_refuses_is_logged_and_the_next_push_succeeds(
    start: Start, asset_server: AssetServer, caplog: pytest.LogCaptureFixture
) -> None:
    retention = start()
    asset_server.mood.refusal = grpc.StatusCode.PERMISSION_DENIED
    queue(retention)
    eventually_sync(lambda: retention.outbox.counts().failed == 1, WITHIN, lambda: caplog.text)
    asset_server.mood.refusal = None
    queue(retention)
    retention.stop(WITHIN)
    assert len(asset_server.pushed) == 1
    assert "retention: not sent: PERMISSION_DENIED: not today" in caplog.text


def test_a_service_that_is_down_costs_pushes_and_nothing_else(
    start: Start, asset_server: AssetServer, caplog: pytest.LogCaptureFixture
) -> None:
    retention = start()
    asset_server.stop()
    for _ in range(3):
        queue(retention)
    eventually_sync(lambda: retention.outbox.counts().failed == 3, WITHIN, lambda: caplog.text)
    assert "retention: not sent: UNAVAILABLE" in caplog.text
    asset_server.start()

    def arrives() -> bool:
        queue(retention)
        return bool(asset_server.pushed)

    eventually_sync(arrives, WITHIN, lambda: caplog.text)


def test_a_service_that_hangs_holds_nobody_up_and_is_given_up_after_the_timeout(
    start: Start, asset_server: AssetServer, caplog: pytest.LogCaptureFixture
) -> None:
    retention = start(timeout=2.0)  # the time to connect included
    asset_server.mood.hang()
    queue(retention)
    assert asset_server.mood.reached.acquire(timeout=WITHIN)
    eventually_sync(lambda: retention.outbox.counts().failed == 1, WITHIN, lambda: caplog.text)
    assert "DEADLINE_EXCEEDED" in caplog.text


def test_more_than_can_wait_is_dropped_and_counted(
    start: Start, asset_server: AssetServer, caplog: pytest.LogCaptureFixture
) -> None:
    retention = start(capacity=2, threads=1, timeout=WITHIN)
    asset_server.mood.hang()
    queue(retention)
    assert asset_server.mood.reached.acquire(timeout=WITHIN)
    for _ in range(5):
        queue(retention)
    assert retention.outbox.counts().dropped == 3
    assert "retention: dropped: 2 items wait already" in caplog.text
    asset_server.mood.release()
    retention.stop(WITHIN)
    assert len(asset_server.pushed) == 3


def test_stopping_ends_calls_of_a_service_that_hangs(start: Start, asset_server: AssetServer) -> None:
    retention = start(timeout=600)
    asset_server.mood.hang()
    queue(retention)
    assert asset_server.mood.reached.acquire(timeout=WITHIN)
    began = time.monotonic()
    retention.stop(0.1)
    assert time.monotonic() - began < 60
    eventually_sync(lambda: retention.outbox.counts().failed == 1, WITHIN, lambda: "it still hangs")


def test_push_blob_is_a_door_of_its_own(asset_server: AssetServer) -> None:
    with AssetClient(asset_server.channel()) as client:
        client.push_blob(uris=["urn:x"], blob_digest=ACTION_DIGEST, expire_at=NOW, instance_name="team")
        asset_server.mood.refusal = grpc.StatusCode.NOT_FOUND
        with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
            client.push_blob(uris=["urn:x"], blob_digest=ACTION_DIGEST)
    (push,) = asset_server.pushed
    assert (push.instance_name, list(push.uris)) == ("team", ["urn:x"])
    assert push.expire_at.ToDatetime(UTC) == NOW
