"""The Fleet service as who looks after the farm calls it."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import grpc
from buildgrid_protos.buildgrid.fleet.v1.fleet_pb2 import (
    DrainRequest,
    FleetState,
    GetStateRequest,
    UndrainRequest,
    WatchRequest,
)
from buildgrid_protos.buildgrid.fleet.v1.fleet_pb2_grpc import FleetStub

from tests.farm.clients import WITHIN


class FleetClient:
    """Of one instance, by one server."""

    def __init__(self, channel: grpc.aio.Channel, instance: str = "") -> None:
        self.stub: Any = FleetStub(channel)
        self.instance = instance

    async def state(self) -> FleetState:
        """What it tells now."""
        request = GetStateRequest(instance_names=[self.instance])
        state: FleetState = await self.stub.GetState(request, timeout=WITHIN)
        return state

    async def drain_when_idle(self, *bots: str, **options: Any) -> list[str]:
        """Which of them are marked then."""
        return await self.drain(DrainRequest.WHEN_IDLE, bots, **options)

    async def drain_if_idle(self, *bots: str, **options: Any) -> list[str]:
        """Which of them are marked then."""
        return await self.drain(DrainRequest.IF_IDLE, bots, **options)

    async def drain(
        self, mode: DrainRequest.Mode.ValueType, bots: Sequence[str], **options: Any
    ) -> list[str]:
        """Which bots are marked then."""
        request = DrainRequest(instance_name=self.instance, mode=mode, bot_ids=bots, **options)
        return list((await self.stub.Drain(request, timeout=WITHIN)).bot_ids)

    async def undrain(self, *bots: str, owner: str = "") -> list[str]:
        """Which of them had a mark."""
        request = UndrainRequest(instance_name=self.instance, bot_ids=bots, owner=owner)
        return list((await self.stub.Undrain(request, timeout=WITHIN)).bot_ids)

    def watch(self) -> "Watching":
        """Follow the state."""
        return Watching(self.stub.Watch(WatchRequest(instance_names=[self.instance])))


class Watching:
    """A stream of states."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self.told: list[FleetState] = []

    async def next(self) -> FleetState:
        """The next message; EOFError at the end of the stream."""
        async with asyncio.timeout(WITHIN):
            state = await self._call.read()
        if state is grpc.aio.EOF:
            raise EOFError(f"the stream ended after {len(self.told)} messages")
        self.told.append(state)
        assert isinstance(state, FleetState)
        return state

    async def until(self, condition: Callable[[FleetState], bool]) -> FleetState:
        """The first message from now on of which this is true."""
        async with asyncio.timeout(WITHIN):
            while not condition(state := await self.next()):
                pass
        return state

    async def failure(self) -> tuple[grpc.StatusCode, str]:
        """How it ends, whatever it tells until then."""
        try:
            while True:
                await self.next()
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details() or ""

    def hang_up(self) -> None:
        """Stop following."""
        self._call.cancel()
