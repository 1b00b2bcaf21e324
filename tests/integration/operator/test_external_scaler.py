"""KEDA's calls over gRPC: a real client, a real server, and what passes would have told."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import grpc.aio
import pytest
from buildgrid_operator.cluster.kinds import BOT_FLEET, SCHEDULER, Manifest, ObjectRef
from buildgrid_operator.keda.numbers import FleetNumbers
from buildgrid_operator.keda.service import ScalerServer
from buildgrid_operator.planner.plan import STALE_AFTER
from buildgrid_protos.externalscaler.externalscaler_pb2 import (
    GetMetricsRequest,
    IsActiveResponse,
    MetricSpec,
    MetricValue,
    ScaledObjectRef,
)
from buildgrid_protos.externalscaler.externalscaler_pb2_grpc import ExternalScalerStub

if TYPE_CHECKING:  # only the stub files have these names
    from buildgrid_protos.externalscaler.externalscaler_pb2_grpc import ExternalScalerAsyncStub

Keda: TypeAlias = "ExternalScalerAsyncStub"

LINUX = ObjectRef(BOT_FLEET, "builds", "linux")
OTHER = ObjectRef(BOT_FLEET, "builds", "other")
MAIN = ObjectRef(SCHEDULER, "builds", "main")
ABOUT = ScaledObjectRef(name="any", namespace="builds", scalerMetadata={"fleet": "linux"})
ASKED = GetMetricsRequest(scaledObjectRef=ABOUT, metricName="buildgrid-bots")
WITHIN = 20.0
"""seconds that an answer may take on a busy machine"""


class Cluster:
    """Two fleets, and their scheduler, which was heard of just now."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
        self.heard: datetime | None = self.now
        self.fleets = {ref: _fleet(ref, "External") for ref in (LINUX, OTHER)}
        self.blind: str | None = None
        self.numbers = FleetNumbers(self.fleets.get, self._heard, lambda: self.blind, self._clock)

    def _heard(self, scheduler: ObjectRef) -> datetime | None:
        return self.heard if scheduler == MAIN else None

    def _clock(self) -> datetime:
        return self.now

    def decide(self, bots: int | None, ref: ObjectRef = LINUX) -> None:
        """As a pass does, on a thread of its own."""
        self.numbers.decided(ref, MAIN, bots)


def _fleet(ref: ObjectRef, mode: str) -> Manifest:
    return {"metadata": {"namespace": ref.namespace, "name": ref.name}, "spec": {"scaling": {"mode": mode}}}


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
async def keda(cluster: Cluster) -> AsyncIterator[Keda]:
    server = ScalerServer("127.0.0.1:0", cluster.numbers)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield ExternalScalerStub(channel)
    await server.stop()


async def code_of(call: "grpc.aio.UnaryUnaryCall[Any, Any]") -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value.code()


async def test_an_hpa_that_divides_by_the_target_gets_the_planners_number(
    cluster: Cluster, keda: Keda
) -> None:
    cluster.decide(7)
    (spec,) = (await keda.GetMetricSpec(ABOUT, timeout=WITHIN)).metricSpecs
    (value,) = (await keda.GetMetrics(ASKED, timeout=WITHIN)).metricValues
    assert spec == MetricSpec(metricName="buildgrid-bots", targetSize=1, targetSizeFloat=1.0)
    assert value == MetricValue(metricName="buildgrid-bots", metricValue=7, metricValueFloat=7.0)
    assert cluster.numbers.known() == {LINUX: 7}


async def test_a_fleet_is_active_while_its_work_needs_a_bot(cluster: Cluster, keda: Keda) -> None:
    for bots in (0, 1):
        cluster.decide(bots)
        assert (await keda.IsActive(ABOUT, timeout=WITHIN)).result is bool(bots)


async def test_a_change_is_pushed_and_nothing_else_is(cluster: Cluster, keda: Keda) -> None:
    cluster.decide(0)
    stream = keda.StreamIsActive(ABOUT, timeout=WITHIN)
    assert await stream.read() == IsActiveResponse(result=False)
    cluster.decide(0)
    cluster.decide(9, OTHER)
    await asyncio.to_thread(cluster.decide, 3)
    assert await stream.read() == IsActiveResponse(result=True)
    cluster.decide(5)
    cluster.decide(0)
    assert await stream.read() == IsActiveResponse(result=False)
    stream.cancel()


async def test_a_stream_says_nothing_while_it_is_not_known_and_stays_open(
    cluster: Cluster, keda: Keda
) -> None:
    cluster.decide(None)
    stream = keda.StreamIsActive(ABOUT, timeout=WITHIN)
    await stream.wait_for_connection()
    cluster.decide(None)
    cluster.decide(2)
    assert await stream.read() == IsActiveResponse(result=True)
    cluster.decide(None)
    cluster.decide(0)
    assert await stream.read() == IsActiveResponse(result=False)
    stream.cancel()


async def test_a_stream_ends_with_its_fleet(cluster: Cluster, keda: Keda) -> None:
    cluster.decide(0)
    stream = keda.StreamIsActive(ABOUT, timeout=WITHIN)
    await stream.read()
    del cluster.fleets[LINUX]
    cluster.numbers.gone(LINUX)
    with pytest.raises(grpc.aio.AioRpcError):
        await stream.read()
    assert await stream.code() is grpc.StatusCode.NOT_FOUND


async def test_nothing_stale_is_told_and_the_targets_are_told_all_the_same(
    cluster: Cluster, keda: Keda
) -> None:
    cluster.decide(7)
    cluster.now += STALE_AFTER + timedelta(seconds=1)
    assert await code_of(keda.GetMetrics(ASKED, timeout=WITHIN)) is grpc.StatusCode.UNAVAILABLE
    assert await code_of(keda.IsActive(ABOUT, timeout=WITHIN)) is grpc.StatusCode.UNAVAILABLE
    assert cluster.numbers.known() == {}
    assert len((await keda.GetMetricSpec(ABOUT, timeout=WITHIN)).metricSpecs) == 1
    cluster.heard = cluster.now
    assert (await keda.IsActive(ABOUT, timeout=WITHIN)).result


async def test_who_asks_wrongly_is_told_what_to_do(cluster: Cluster, keda: Keda) -> None:
    cluster.decide(1)
    nobody = ScaledObjectRef(name="any", namespace="builds")
    missing = ScaledObjectRef(namespace="builds", scalerMetadata={"fleet": "none"})
    other = GetMetricsRequest(scaledObjectRef=ABOUT, metricName="jobs")
    assert await code_of(keda.IsActive(nobody, timeout=WITHIN)) is grpc.StatusCode.INVALID_ARGUMENT
    assert await code_of(keda.GetMetrics(other, timeout=WITHIN)) is grpc.StatusCode.INVALID_ARGUMENT
    assert await code_of(keda.GetMetricSpec(missing, timeout=WITHIN)) is grpc.StatusCode.NOT_FOUND
    cluster.fleets[LINUX] = _fleet(LINUX, "Auto")
    assert await code_of(keda.IsActive(ABOUT, timeout=WITHIN)) is grpc.StatusCode.FAILED_PRECONDITION


async def test_before_the_cluster_is_listed_no_fleet_is_called_missing(cluster: Cluster, keda: Keda) -> None:
    cluster.fleets.clear()
    cluster.blind = "it was not listed yet"
    assert await code_of(keda.IsActive(ABOUT, timeout=WITHIN)) is grpc.StatusCode.UNAVAILABLE


async def test_a_port_that_is_taken_is_an_error(cluster: Cluster) -> None:
    first = ScalerServer("127.0.0.1:0", cluster.numbers)
    await first.start()
    with pytest.raises(OSError, match=f"^--external-scaler-listen: cannot listen at 127.0.0.1:{first.port}"):
        await ScalerServer(f"127.0.0.1:{first.port}", cluster.numbers).start()
    await first.stop()
