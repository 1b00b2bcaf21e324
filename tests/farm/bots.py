"""Bots that do nothing: one that says what the test tells it to say, and one that works by itself."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import grpc
from buildgrid_client.digests import digest_of
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Action, ActionResult
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2 import (
    ACTIVE,
    CANCELLED,
    COMPLETED,
    OK,
    PENDING,
    BotSession,
    BotStatus,
    CreateBotSessionRequest,
    Lease,
    UpdateBotSessionRequest,
)
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2_grpc import BotsStub
from buildgrid_protos.google.devtools.remoteworkers.v1test2.worker_pb2 import Device, Worker

from tests.farm.clients import LOST

if TYPE_CHECKING:
    from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2_grpc import BotsAsyncStub

AT_ONCE = 3.7
"""A deadline, in seconds, with which a call is not held: 80 % of it are under 3 s."""
HELD = 30.0
"""One with which it is held."""
_RETRYABLE = (*LOST, grpc.StatusCode.DEADLINE_EXCEEDED)
_SESSION_GONE = (grpc.StatusCode.DATA_LOSS, grpc.StatusCode.INVALID_ARGUMENT)


def action_hash(lease: Lease) -> str:
    """Which action a lease is for."""
    assert lease.payload.Is(Action.DESCRIPTOR), lease
    return digest_of(lease.payload.value).hash


def active(lease: Lease) -> Lease:
    """The bot works on it."""
    return Lease(id=lease.id, payload=lease.payload, state=ACTIVE)


def cancelled(lease: Lease) -> Lease:
    """The bot has stopped, as told."""
    return Lease(id=lease.id, payload=lease.payload, state=CANCELLED)


def completed(lease: Lease, result: ActionResult | None = None) -> Lease:
    """Success. Without another result, the standard output is the hash of the action."""
    done = Lease(id=lease.id, payload=lease.payload, state=COMPLETED)
    done.result.Pack(result or ActionResult(stdout_raw=action_hash(lease).encode()))
    return done


def failed(lease: Lease, code: grpc.StatusCode, message: str = "") -> Lease:
    """The attempt failed, for other reasons than the command's own."""
    done = Lease(id=lease.id, payload=lease.payload, state=COMPLETED)
    done.status.code = code.value[0]
    done.status.message = message
    return done


class Bot:
    """Says what it is told to say. Keeps nothing but its session's name and expiry."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        instance: str,
        bot_id: str,
        *,
        properties: Mapping[str, str] | None = None,
        worker_properties: Mapping[str, str] | None = None,
        capacity: int = 1,
        long_poll: bool = False,
        long_poll_full: bool = False,
    ) -> None:
        self.stub: BotsAsyncStub = BotsStub(channel)
        self.instance = instance
        self.bot_id = bot_id
        self.name = ""
        self.expires = datetime.min.replace(tzinfo=UTC)
        device = Device(handle=bot_id)
        for key, value in (properties or {}).items():
            device.properties.add(key=key, value=value)
        self._worker = Worker(devices=[device])
        for key, value in (worker_properties or {}).items():
            self._worker.properties.add(key=key, value=value)
        if capacity > 1:
            self._worker.configs.add(key="capacity", value=str(capacity))
        if long_poll_full:
            self._worker.configs.add(key="long-poll-full", value="always")
        if long_poll:
            self._worker.configs.add(key="long-poll", value="always")

    async def open(self, timeout: float = AT_ONCE, status: BotStatus.ValueType = OK) -> list[Lease]:
        """Open a session; returns the leases that come with it."""
        session = BotSession(bot_id=self.bot_id, status=status, worker=self._worker)
        request = CreateBotSessionRequest(parent=self.instance, bot_session=session)
        return self._take(await self.stub.CreateBotSession(request, timeout=timeout))

    async def update(
        self, *leases: Lease, timeout: float = AT_ONCE, status: BotStatus.ValueType = OK
    ) -> list[Lease]:
        """Report exactly these leases; returns what the server tells."""
        session = BotSession(
            name=self.name, bot_id=self.bot_id, status=status, worker=self._worker, leases=leases
        )
        request = UpdateBotSessionRequest(name=self.name, bot_session=session)
        return self._take(await self.stub.UpdateBotSession(request, timeout=timeout))

    def _take(self, answer: BotSession) -> list[Lease]:
        self.name = answer.name
        self.expires = answer.expire_time.ToDatetime(tzinfo=UTC)
        return list(answer.leases)

    async def take_lease(self) -> Lease:
        """Open a session if need be, and ask; there must be exactly one lease, which is new."""
        told = [] if self.name else await self.open()
        (lease,) = told or await self.update()
        assert lease.state == PENDING
        return lease

    async def take_again(self, within: float = 60) -> Lease:
        """A job that the bot could not do, when the pause is over after which it may have it again."""
        async with asyncio.timeout(within):
            while not (told := await self.update(timeout=HELD)):
                pass
        (lease,) = told
        assert lease.state == PENDING
        return lease


class Handouts:
    """What a group of bots was handed out."""

    def __init__(self) -> None:
        self.leases: list[str] = []
        self.actions: list[str] = []
        self.running = 0
        """leases that were acknowledged as ACTIVE"""
        self.completed = 0
        self.changed = asyncio.Condition()

    async def until_running(self, number: int, within: float = 20) -> None:
        """Return when so many leases were acknowledged as ACTIVE."""
        async with asyncio.timeout(within), self.changed:
            await self.changed.wait_for(lambda: self.running >= number)

    async def until_completed(self, number: int, within: float = 20) -> None:
        """Return when so many completions were accepted."""
        async with asyncio.timeout(within), self.changed:
            await self.changed.wait_for(lambda: self.completed >= number)

    @property
    def twice(self) -> set[str]:
        """Leases and actions that were handed out more than once."""
        both = (self.leases, self.actions)
        return {name for names in both for name in names if names.count(name) > 1}


class WorkingBot:
    """Takes what it is given and completes it when `may_finish` is set; retries, as real ones do."""

    def __init__(self, bots: Sequence[Bot], handouts: Handouts, may_finish: asyncio.Event | None = None):
        """`bots` are the same bot, on one replica each: it turns to the next when one fails."""
        self._bots = bots
        self._turn = 0
        self._handouts = handouts
        self._may_finish = may_finish
        self.sessions_lost = 0

    async def run(self) -> None:
        """Work until cancelled."""
        await self._open()
        told: list[Lease] = []
        while True:
            report = [await self._step(lease) for lease in told]
            told = await self._tell(report)

    async def _open(self) -> None:
        while True:
            try:
                await self._bots[self._turn].open()
            except grpc.aio.AioRpcError as error:
                await self._recover(error)
            else:
                return

    async def _step(self, lease: Lease) -> Lease:
        if lease.state == PENDING:
            self._handouts.leases.append(lease.id)
            self._handouts.actions.append(action_hash(lease))
            return active(lease)
        if lease.state == CANCELLED:
            return cancelled(lease)
        if self._may_finish is not None:
            await self._may_finish.wait()
        return completed(lease)

    async def _tell(self, report: list[Lease]) -> list[Lease]:
        while True:
            try:
                told = await self._bots[self._turn].update(*report, timeout=HELD)
            except grpc.aio.AioRpcError as error:
                if error.code() in _SESSION_GONE:
                    self.sessions_lost += 1
                    await self._open()
                    return []
                await self._recover(error)
                continue
            async with self._handouts.changed:
                self._handouts.running += sum(lease.state == ACTIVE for lease in report)
                self._handouts.completed += sum(lease.state == COMPLETED for lease in report)
                self._handouts.changed.notify_all()
            return told

    async def _recover(self, error: grpc.aio.AioRpcError) -> None:
        if error.code() not in _RETRYABLE:
            raise error
        name = self._bots[self._turn].name
        self._turn = (self._turn + 1) % len(self._bots)
        self._bots[self._turn].name = name
        await asyncio.sleep(0.05)
