"""What a server exports of its finished jobs: a stream, oldest first."""

from datetime import UTC, datetime

import grpc
import pytest
from buildgrid_protos.buildgrid.fleet.v1.fleet_pb2 import ExportHistoryRequest, FinishedJob
from buildgrid_protos.buildgrid.fleet.v1.fleet_pb2_grpc import FleetStub
from google.protobuf.timestamp_pb2 import Timestamp

from tests.farm.bots import Bot, active, completed
from tests.farm.clients import WITHIN, Client
from tests.integration.server.conftest import OpenChannel, StartServer
from tests.integration.server.server_process import Server

GPU = {"OSFamily": "linux", "Pool": "gpu"}
BEGINNING = Timestamp(seconds=0)


def export(
    server: Server, *instances: str, start: Timestamp | None = None, end: Timestamp | None = None
) -> list[FinishedJob]:
    """All of the stream."""
    request = ExportHistoryRequest(instance_names=instances, start_time=start, end_time=end)
    with grpc.insecure_channel(server.endpoint) as channel:
        return list(FleetStub(channel).ExportHistory(request, timeout=WITHIN))


async def do_a_job(server: Server, channels: OpenChannel, name: str, instance: str = "") -> None:
    client, bot = Client(channels(server), instance), Bot(channels(server), instance, name, properties=GPU)
    execution = await client.queue(await client.add_action(name, platform=GPU), priority=3)
    lease = await bot.take_lease()
    await bot.update(active(lease))
    await bot.update(completed(lease))
    await execution.response()


async def test_finished_jobs_of_all_instances_are_told_oldest_first(
    start_server: StartServer, channels: OpenChannel
) -> None:
    server = start_server(instances=["", "other"])
    began = datetime.now(UTC)
    await do_a_job(server, channels, "first", "other")
    await do_a_job(server, channels, "second")
    await do_a_job(server, channels, "third", "other")
    client = Client(channels(server))
    await client.queue(await client.add_action("waits", platform=GPU))
    dropped = await client.queue(await client.add_action("dropped"))
    await client.cancel(dropped.name)

    jobs = export(server)
    assert [job.instance_name for job in jobs] == ["other", "", "other", ""]
    first, *_, last = jobs
    assert 0 <= (first.queued_time.ToDatetime(tzinfo=UTC) - began).total_seconds() < WITHIN
    assert [(p.key, p.value) for p in first.properties] == [("OSFamily", "linux"), ("Pool", "gpu")]
    assert (first.property_label, first.priority, first.status_code) == ("gpu", 3, 0)
    assert first.HasField("duration") and 0 <= first.duration.ToTimedelta().total_seconds() < WITHIN
    assert (last.HasField("duration"), last.status_code) == (False, grpc.StatusCode.CANCELLED.value[0])

    assert export(server, "other") == [first, jobs[2]]
    assert export(server, start=jobs[1].queued_time, end=last.queued_time) == jobs[1:3]
    assert export(server, start=BEGINNING) == jobs
    assert export(server, end=BEGINNING) == []


def test_a_range_that_is_none_is_an_invalid_argument(start_server: StartServer) -> None:
    server = start_server()
    later = Timestamp(seconds=5)
    for start, end, message in (
        (later, BEGINNING, r"start_time 1970-01-01T00:00:05.* is after end_time .*; exchange the two"),
        (Timestamp(seconds=2**60), None, r"start_time is no time: seconds 1152921504606846976"),
        (None, Timestamp(nanos=-1), r"end_time is no time: seconds 0, nanos -1; leave it out"),
    ):
        with pytest.raises(grpc.RpcError, match=message) as refused:
            export(server, start=start, end=end)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.RpcError, match="instance_name 'nobody' is not known here"):
        export(server, "nobody")
