"""The service externalscaler.ExternalScaler, on a port of its own, in the event loop of whoever starts it."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, TypeAlias, TypeVar

import grpc
import grpc.aio
from buildgrid_protos.externalscaler.externalscaler_pb2 import (
    GetMetricSpecResponse,
    GetMetricsRequest,
    GetMetricsResponse,
    IsActiveResponse,
    MetricSpec,
    MetricValue,
    ScaledObjectRef,
)
from buildgrid_protos.externalscaler.externalscaler_pb2_grpc import (
    ExternalScalerServicer,
    add_ExternalScalerServicer_to_server,
)

from buildgrid_operator.keda.answers import (
    METRIC,
    TARGET,
    Refused,
    Target,
    Why,
    check_metric,
    is_active,
    target_of,
)
from buildgrid_operator.keda.numbers import FleetNumbers

T = TypeVar("T")
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
_log = logging.getLogger(__name__)
_CODES = {
    Why.BAD_TRIGGER: grpc.StatusCode.INVALID_ARGUMENT,
    Why.NO_FLEET: grpc.StatusCode.NOT_FOUND,
    Why.NOT_EXTERNAL: grpc.StatusCode.FAILED_PRECONDITION,
    Why.NOT_KNOWN: grpc.StatusCode.UNAVAILABLE,
}
_MOST_CALLS = 1000
"""at once, open streams included: each ScaledObject has one of them"""


class ScalerService(ExternalScalerServicer):
    """Answers what `numbers` has. Codes: see `_CODES`."""

    def __init__(self, numbers: FleetNumbers) -> None:
        self._numbers = numbers

    async def IsActive(self, request: ScaledObjectRef, context: Context) -> IsActiveResponse:
        """Whether there should be a bot."""
        return IsActiveResponse(result=is_active(await self._bots(request, context)))

    async def StreamIsActive(
        self, request: ScaledObjectRef, context: Context
    ) -> AsyncIterator[IsActiveResponse]:
        """The same, now and at each change. While it is not known nothing is said, and the stream stays open:
        KEDA waits longer after each stream that fails, up to a minute, and would then miss the change.
        """
        target = await _or_abort(context, lambda: _target(request))
        loop, news = asyncio.get_running_loop(), asyncio.Event()

        def changed() -> None:
            with suppress(RuntimeError):  # the loop ended with the process
                loop.call_soon_threadsafe(news.set)

        told: bool | None = None
        with self._numbers.listening(target, changed):
            await context.send_initial_metadata(())
            while True:
                news.clear()
                active = await _or_abort(context, lambda: self._activity(target))
                if active is not None and active != told:
                    told = active
                    yield IsActiveResponse(result=active)
                await news.wait()

    async def GetMetricSpec(self, request: ScaledObjectRef, context: Context) -> GetMetricSpecResponse:
        """Always one metric, and one bot for each of it; also while the number is not known."""
        await _or_abort(context, lambda: self._numbers.check(_target(request)))
        spec = MetricSpec(metricName=METRIC, targetSize=TARGET, targetSizeFloat=TARGET)
        return GetMetricSpecResponse(metricSpecs=[spec])

    async def GetMetrics(self, request: GetMetricsRequest, context: Context) -> GetMetricsResponse:
        """Bots that the fleet's work needs."""
        await _or_abort(context, lambda: check_metric(request.metricName))
        bots = await self._bots(request.scaledObjectRef, context)
        value = MetricValue(metricName=METRIC, metricValue=bots, metricValueFloat=bots)
        return GetMetricsResponse(metricValues=[value])

    async def _bots(self, request: ScaledObjectRef, context: Context) -> int:
        return await _or_abort(context, lambda: self._numbers.bots(_target(request)))

    def _activity(self, target: Target) -> bool | None:
        """None: not known at the moment."""
        try:
            return is_active(self._numbers.bots(target))
        except Refused as refused:
            if refused.why is Why.NOT_KNOWN:
                return None
            raise


class ScalerServer:
    """Listens from `start` to `stop`, and not before: see docs/design."""

    def __init__(self, address: str, numbers: FleetNumbers) -> None:
        """`address` is HOST:PORT; all addresses with an empty host. Port 0: any that is free."""
        self._address = address
        self._numbers = numbers
        self._server: grpc.aio.Server | None = None
        self.port = 0
        """where it listens"""

    async def start(self) -> None:
        """Raises OSError for an address that cannot be listened at."""
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)], maximum_concurrent_rpcs=_MOST_CALLS)
        add_ExternalScalerServicer_to_server(ScalerService(self._numbers), server)
        try:
            self.port = server.add_insecure_port(_everywhere(self._address))
        except RuntimeError as error:
            words = f"--external-scaler-listen: cannot listen at {self._address}; give another HOST:PORT"
            raise OSError(words) from error
        await server.start()
        self._server = server
        _log.info("KEDA is answered on port %d", self.port)

    async def stop(self) -> None:
        """At once: whoever asks again finds the next operator."""
        server, self._server = self._server, None
        if server is not None:
            await server.stop(None)


def _target(request: ScaledObjectRef) -> Target:
    return target_of(request.namespace, request.scalerMetadata)


async def _or_abort(context: Context, ask: Callable[[], T]) -> T:
    try:
        return ask()
    except Refused as refused:
        await context.abort(_CODES[refused.why], str(refused))


def _everywhere(address: str) -> str:
    host, _, port = address.rpartition(":")
    if host:
        return address
    return f"[::]:{port}" if socket.has_dualstack_ipv6() else f"0.0.0.0:{port}"
