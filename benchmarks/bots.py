"""The process with all bots: they do nothing, at once, and report it as buildbox-worker would."""

import asyncio
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

import grpc.aio
from buildgrid_client.digests import digest_of
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Action, ActionResult, Digest
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2 import (
    ACTIVE,
    BOT_TERMINATING,
    COMPLETED,
    OK,
    PENDING,
    BotSession,
    CreateBotSessionRequest,
    Lease,
    UpdateBotSessionRequest,
)
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2_grpc import BotsStub
from buildgrid_protos.google.devtools.remoteworkers.v1test2.worker_pb2 import Device, Worker
from google.protobuf.timestamp_pb2 import Timestamp

from benchmarks.actions import PROPERTIES
from benchmarks.channels import RETRY_PAUSE, describe, is_retryable, open_channels
from benchmarks.options import LoadOptions
from benchmarks.tallies import BotTally

if TYPE_CHECKING:
    from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2_grpc import BotsAsyncStub

_DEADLINE = 60
_OPEN_DEADLINE = 5
"""Of the first call, which a server may hold as a long poll: short, so that all bots are soon there."""
_FAREWELL_DEADLINE = 3


class Bots:
    """All bots of a run, on shared connections."""

    def __init__(self, options: LoadOptions) -> None:
        self._channels = open_channels(options.endpoint, options.channels)
        stubs = [BotsStub(channel) for channel in self._channels]
        self._register = _Register()
        self._bots = [
            _Bot(stubs[number % len(stubs)], options, f"{options.run}-{number}", self._register)
            for number in range(options.bots)
        ]
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Opens all sessions and begins to work."""
        await asyncio.gather(*(bot.open() for bot in self._bots))
        self._tasks = [asyncio.create_task(bot.work()) for bot in self._bots]

    async def stop(self) -> BotTally:
        for task in self._tasks:
            task.cancel()
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome
        await asyncio.gather(*(bot.leave() for bot in self._bots))
        for channel in self._channels:
            await channel.close()
        return self._register.tally


class _Register:
    """What was handed out in this run, to any bot."""

    def __init__(self) -> None:
        self.tally = BotTally()
        self._leases: set[str] = set()
        self._actions: set[str] = set()

    def enter(self, lease: str, action: str) -> None:
        """Call for each lease that a bot did not hold already."""
        self.tally.leased_at.append(time.monotonic())
        if lease in self._leases or action in self._actions:
            self.tally.twice += 1
        self._leases.add(lease)
        self._actions.add(action)


class _Bot:
    def __init__(self, stub: "BotsAsyncStub", options: LoadOptions, bot_id: str, register: _Register) -> None:
        self._stub = stub
        self._options = options
        self._bot_id = bot_id
        self._register = register
        self._session = BotSession()

    async def open(self, timeout: float = _OPEN_DEADLINE) -> None:
        """Opens a session; tries again while the server is not there."""
        worker = Worker(devices=[Device(handle=self._bot_id, properties=_device_properties())])
        if self._options.slots > 1:
            worker.configs.add(key="capacity", value=str(self._options.slots))
        session = BotSession(bot_id=self._bot_id, status=OK, worker=worker)
        request = CreateBotSessionRequest(parent=self._options.instance, bot_session=session)
        answer = await self._stub.CreateBotSession(request, timeout=timeout, wait_for_ready=True)
        session.name = answer.name
        self._session = session
        self._advance(answer.leases)

    async def work(self) -> None:
        """Reports and waits for leases until cancelled."""
        while True:
            try:
                answer = await self._update(_DEADLINE)
            except grpc.aio.AioRpcError as error:
                await self._recover(error)
            else:
                self._advance(answer.leases)

    async def leave(self) -> None:
        """Tells the server that this bot goes, so that it is handed nothing more."""
        self._session.status = BOT_TERMINATING
        try:
            await self._update(_FAREWELL_DEADLINE)
        except grpc.aio.AioRpcError:
            return  # a courtesy: the session expires anyway

    async def _update(self, timeout: float) -> BotSession:
        request = UpdateBotSessionRequest(name=self._session.name, bot_session=self._session)
        return await self._stub.UpdateBotSession(request, timeout=timeout)

    async def _recover(self, error: grpc.aio.AioRpcError) -> None:
        tally = self._register.tally
        if is_retryable(error):
            # An idle poll that ran into its deadline is no failure; the same report goes out again.
            tally.retries += bool(self._session.leases)
            await asyncio.sleep(RETRY_PAUSE)
            return
        tally.errors[describe(error)] += 1
        await asyncio.sleep(RETRY_PAUSE)
        try:
            await self.open()
        except grpc.aio.AioRpcError as again:
            tally.errors[describe(again)] += 1

    def _advance(self, told: Iterable[Lease]) -> None:
        """Takes over what the server told, each lease one step further."""
        held = {lease.id for lease in self._session.leases}
        leases = [self._step(lease, held) for lease in told if lease.state in (PENDING, ACTIVE)]
        del self._session.leases[:]
        self._session.leases.extend(leases)

    def _step(self, lease: Lease, held: set[str]) -> Lease:
        action = _action_hash(lease)
        if lease.id not in held:
            self._register.enter(lease.id, action)
        if lease.state == PENDING and not self._options.one_step:
            return Lease(id=lease.id, payload=lease.payload, state=ACTIVE)
        completed = Lease(id=lease.id, payload=lease.payload, state=COMPLETED)
        completed.result.Pack(_result(action, self._bot_id))
        return completed


def _device_properties() -> list[Device.Property]:
    return [Device.Property(key=key, value=value) for key, value in PROPERTIES.items()]


def _action_hash(lease: Lease) -> str:
    if lease.payload.Is(Action.DESCRIPTOR):
        return digest_of(lease.payload.value).hash
    digest = Digest()
    lease.payload.Unpack(digest)
    return digest.hash


def _result(action: str, bot_id: str) -> ActionResult:
    """Success; the standard output is the action's hash, which the client compares."""
    now = Timestamp()
    now.GetCurrentTime()
    result = ActionResult(stdout_raw=action.encode())
    metadata = result.execution_metadata
    metadata.worker = bot_id
    for moment in (
        metadata.worker_start_timestamp,
        metadata.input_fetch_start_timestamp,
        metadata.input_fetch_completed_timestamp,
        metadata.execution_start_timestamp,
        metadata.execution_completed_timestamp,
        metadata.output_upload_start_timestamp,
        metadata.output_upload_completed_timestamp,
        metadata.worker_completed_timestamp,
    ):
        moment.CopyFrom(now)
    return result
