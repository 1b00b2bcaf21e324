"""A bot's conversation with the server: one session, one call at a time, actions beside it."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import grpc
from buildgrid_client.connection_trouble import explained
from buildgrid_client.retries import backoff
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    Action,
    ExecutedActionMetadata,
)
from buildgrid_protos.google.devtools.remoteworkers.v1test2 import bots_pb2
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2_grpc import BotsStub
from google.rpc.status_pb2 import Status

from buildgrid_bot.action import Outcome
from buildgrid_bot.pacing import (
    AT_ONCE,
    HEARTBEAT,
    LostSessions,
    heartbeat_within,
    patience,
    pause_after_answer,
)
from buildgrid_bot.session_state import HeldLeases, Orders, Report
from buildgrid_bot.stream_names import StreamNames, names_of_leases
from buildgrid_bot.takeover import Takeover, Takeovers, takeover_of
from buildgrid_bot.trouble import REFUSED_FOR, SessionRefused, Trouble

_log = logging.getLogger(__name__)

# The server holds a call for 80 % of its deadline while there is no work.
POLL_DEADLINE = 60.0
# A call with so little time is not held: the session's name arrives at once, and with it the means to say
# goodbye.
OPEN_DEADLINE = 3.0
# How long a bot that leaves without work tries to say so.
GOODBYE_SECONDS = 5.0
# How long it tries to report what it has done to a server that does not answer.
UNREPORTED_SECONDS = 8.0
_SESSION_GONE = frozenset(
    {grpc.StatusCode.DATA_LOSS, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
)

RunAction = Callable[
    [str, Action, Callable[[ExecutedActionMetadata], None], StreamNames | None], Awaitable[Outcome]
]


class _Answer(NamedTuple):
    """What the server says, and what it says beside it."""

    session: bots_pb2.BotSession
    trailers: tuple[tuple[str, str | bytes], ...]


class BotSession:
    """Keeps a session open, and runs what it is handed with `run_action(lease_id, action, running, streams)`.

    `description` carries bot_id, worker and version. `run` returns after `terminate`, once everything that
    was started has ended and been reported. It raises SessionRefused when the server has refused to open a
    session for `refused_for` seconds, and when another bot with this bot_id takes them over: see Takeovers.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        instance_name: str,
        description: bots_pb2.BotSession,
        slots: int,
        run_action: RunAction,
        *,
        poll_deadline: float = POLL_DEADLINE,
        heartbeat: float = HEARTBEAT,
        refused_for: float = REFUSED_FOR,
        endpoint: str = "",
    ) -> None:
        self._stub = BotsStub(channel)
        self._endpoint = endpoint
        self._instance = instance_name
        self._description = description
        self._run_action = run_action
        self._poll_deadline = poll_deadline
        self._heartbeat = heartbeat
        self._held = HeldLeases(slots)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._streams: dict[str, StreamNames] = {}
        self._handed_back: list[asyncio.Task[None]] = []
        self._news = asyncio.Event()
        self._status: bots_pb2.BotStatus.ValueType = bots_pb2.OK
        self._unwanted_by: set[str] = set()
        self._name = ""
        self._trouble = Trouble(refused_for=refused_for)
        self._lost = LostSessions()
        self._takeovers = Takeovers()
        self._leave_at = float("inf")

    @property
    def running(self) -> int:
        """Actions that have not ended."""
        return self._held.running

    def take_work(self, wanted: bool, whose: str = "disk") -> None:
        """Whether to take anything new. If not, the bot says UNHEALTHY, and finishes what it has.

        It takes work again when all of those want it again who did not.
        """
        if wanted:
            self._unwanted_by.discard(whose)
        else:
            self._unwanted_by.add(whose)
        status = bots_pb2.UNHEALTHY if self._unwanted_by else bots_pb2.OK
        if not self._leaving and status != self._status:
            self._status = status
            self._news.set()

    def terminate(self) -> None:
        """Take nothing new, hand back what has not started, finish what runs, then leave."""
        if self._status != bots_pb2.BOT_TERMINATING:
            self._status = bots_pb2.BOT_TERMINATING
            unstarted = self._held.hand_back()
            for lease_id in unstarted:
                task = self._tasks.pop(lease_id)
                task.cancel()
                self._handed_back.append(task)
            _log.info(
                "leaving: %d actions that have not started are handed back, %d are finished first",
                len(unstarted),
                self._held.running,
            )
            self._leave_at = time.monotonic() + GOODBYE_SECONDS
            self._news.set()

    async def run(self) -> None:
        """Until terminated. When cancelled, the actions are stopped first."""
        try:
            while not self._leaving:
                report, answer = await self._open()
                if answer is None:
                    return
                self._name = answer.session.name
                _log.info("session %s is open", self._name)
                opened = time.monotonic()
                lost = await self._converse(report, answer)
                if lost is None:
                    return
                lasted = time.monotonic() - opened
                await self._stop_all()
                await self._after_loss(lost, takeover_of(lost), lasted)
        finally:
            await self._stop_all()

    @property
    def _leaving(self) -> bool:
        return self._status == bots_pb2.BOT_TERMINATING

    async def _open(self) -> tuple[Report, _Answer | None]:
        """A new session; None when the bot is to leave before there is one."""
        attempt = 0
        while not self._leaving:
            report = self._held.report(self._status)
            request = bots_pb2.CreateBotSessionRequest(
                parent=self._instance, bot_session=self._as_message("", report)
            )
            deadline = min(self._poll_deadline, OPEN_DEADLINE * 2.0 ** min(attempt, 8))
            try:
                answer = await self._interruptible(
                    self._stub.CreateBotSession(request, timeout=deadline), report, only_leaving=True
                )
            except grpc.aio.AioRpcError as error:
                if takeover := takeover_of(error):  # while this call waited for work
                    await self._after_loss(error, takeover, 0.0)
                    continue
                attempt += 1
                await self._after_failure("open a session", error, opening=True)
            else:
                self._recovered()
                return report, answer
        return self._held.report(self._status), None

    async def _converse(self, report: Report, answer: _Answer) -> grpc.aio.AioRpcError | None:
        """Updates until the bot may leave; the error that says so when the session is gone."""
        empty_answers = interrupted = 0
        unheard_since: float | None = None
        heartbeat = self._heartbeat_after(answer.session)
        orders = self._take_in(report, answer)
        while True:
            pause = pause_after_answer(
                full=self._held.full,
                new_work=bool(orders.start),
                empty_answers=empty_answers,
                heartbeat=heartbeat,
            )
            if not self._leaving or report.status == self._status:
                await self._pause(pause)
            report = self._held.report(self._status)
            began = time.monotonic()
            try:
                update = await self._update(report, patience(interrupted))
            except grpc.aio.AioRpcError as error:
                if error.code() in _SESSION_GONE:
                    return error
                await self._after_failure("reach the server", error)
                if self._leaving and not self._held.running:
                    unheard_since = unheard_since or time.monotonic()
                    patience_left = UNREPORTED_SECONDS if self._held.count else 0.0
                    if time.monotonic() > max(self._leave_at, unheard_since + patience_left):
                        return None
                continue
            if update is None:
                interrupted += 1
                orders, empty_answers = Orders(), 0
                continue
            self._recovered()
            unheard_since = None
            interrupted = 0
            heartbeat = self._heartbeat_after(update.session)
            orders = self._take_in(report, update)
            quick = time.monotonic() - began < AT_ONCE
            empty_answers = empty_answers + 1 if quick and not orders.start and not orders.stop else 0
            if self._leaving and report.status == self._status and not self._held.count:
                return None

    def _heartbeat_after(self, answer: bots_pb2.BotSession) -> float:
        if not answer.HasField("expire_time"):
            return self._heartbeat
        return heartbeat_within(answer.expire_time.seconds - time.time(), self._heartbeat)

    async def _update(self, report: Report, patience_seconds: float) -> _Answer | None:
        request = bots_pb2.UpdateBotSessionRequest(
            name=self._name, bot_session=self._as_message(self._name, report)
        )
        call = self._stub.UpdateBotSession(request, timeout=self._poll_deadline, metadata=report.headers)
        return await self._interruptible(call, report, patience_seconds=patience_seconds)

    async def _interruptible(
        self,
        call: grpc.aio.UnaryUnaryCall[Any, bots_pb2.BotSession],
        report: Report,
        *,
        patience_seconds: float = 0.0,
        only_leaving: bool = False,
    ) -> _Answer | None:
        """The answer; None when there was news, and the call was cancelled to make room for it."""
        began = time.monotonic()
        answer = asyncio.ensure_future(_answer(call))
        try:
            while not answer.done():
                self._news.clear()
                if only_leaving:
                    due = float("-inf") if self._leaving else None
                else:
                    due = self._held.news_due(report, self._status)
                wait = None if due is None else max(due, began + patience_seconds) - time.monotonic()
                if wait is not None and wait <= 0:
                    return None
                await self._first_of(answer, wait)
            return answer.result()
        finally:
            if not answer.done():
                answer.cancel()  # and with it the call
                await asyncio.wait([answer])

    async def _first_of(self, answer: asyncio.Future[_Answer], timeout: float | None) -> None:
        news = asyncio.ensure_future(self._news.wait())
        both: list[asyncio.Future[Any]] = [answer, news]
        try:
            await asyncio.wait(both, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()

    async def _pause(self, seconds: float) -> None:
        """Until the time is over or there is something to tell."""
        until = time.monotonic() + seconds
        while True:
            self._news.clear()
            due = self._held.news_due(None, self._status)
            left = (until if due is None else min(until, due)) - time.monotonic()
            if left <= 0 or not await self._idle(left):
                return
            if self._leaving:
                return

    async def _idle(self, seconds: float) -> bool:
        """Waits for news; False when there was none in so many seconds."""
        try:
            await asyncio.wait_for(self._news.wait(), seconds)
        except TimeoutError:
            return False
        return True

    async def _after_loss(
        self, error: grpc.aio.AioRpcError, takeover: Takeover | None, lasted: float
    ) -> None:
        """The session is gone, `lasted` seconds after it was opened. Raises SessionRefused to give up."""
        rest = self._lost.rest(lasted)
        if takeover is None:
            _log.warning("session %s is gone: %s", self._name, error.details())
        elif self._takeovers.happened(lasted) and not self._leaving:
            raise SessionRefused(f"{takeover}; giving up, the other one goes on")
        else:
            _log.warning("%s; opening a session again in %.1f s", takeover, rest)
        until = time.monotonic() + rest
        while not self._leaving and (left := until - time.monotonic()) > 0:
            self._news.clear()  # of actions that were just stopped
            await self._idle(left)

    async def _after_failure(self, what: str, error: grpc.aio.AioRpcError, *, opening: bool = False) -> None:
        details = error.details() or ""
        if self._endpoint and error.code() is grpc.StatusCode.UNAVAILABLE:
            details = explained(self._endpoint, details, answered=bool(self._name))
        complaint = self._trouble.failed(what, error.code(), details, time.monotonic())
        # What runs under an open session is not thrown away: that ends when the server says so.
        if opening and complaint.give_up:
            raise SessionRefused(complaint.text)
        if complaint.text is not None:
            _log.warning("%s", complaint.text)
        self._news.clear()
        await asyncio.sleep(backoff(self._trouble.failures))

    def _recovered(self) -> None:
        if failures := self._trouble.over():
            _log.info("the server answers again after %d failed calls", failures)

    def _as_message(self, name: str, report: Report) -> bots_pb2.BotSession:
        message = bots_pb2.BotSession()
        message.CopyFrom(self._description)
        message.name = name
        message.status = self._status
        message.leases.extend(report.leases)
        return message

    def _take_in(self, report: Report, answer: _Answer) -> Orders:
        # What an answer brings to a bot that made up its mind meanwhile is handed back with the next report.
        take_new = not self._leaving or report.status == self._status
        orders = self._held.answered(report, answer.session.leases, time.monotonic(), take_new=take_new)
        for lease_id in orders.stop:
            if task := self._tasks.get(lease_id):
                _log.info("lease %s is not wanted any more", lease_id)
                task.cancel()
        streams: dict[str, StreamNames] = {}
        if orders.start:
            streams = names_of_leases(orders.start, answer.trailers, self._streams.values())
            self._streams |= streams
        for lease in orders.start:
            task = asyncio.create_task(self._work(lease, streams.get(lease.id)), name=f"lease {lease.id}")
            self._tasks[lease.id] = task
        return orders

    async def _work(self, lease: bots_pb2.Lease, streams: StreamNames | None) -> None:
        def running(metadata: ExecutedActionMetadata) -> None:
            self._held.started(lease.id, metadata)
            self._news.set()

        action = Action()
        try:
            if lease.payload.Unpack(action):
                outcome = await self._run_action(lease.id, action, running, streams)
            else:
                outcome = Outcome(
                    Status(code=3, message=f"the lease carries {lease.payload.type_url!r}, not an Action")
                )
        except asyncio.CancelledError:
            outcome = Outcome(Status(code=1, message="stopped because nobody wants the result any more"))
        if self._tasks.get(lease.id) is asyncio.current_task():  # not handed back
            self._held.finished(lease.id, outcome.status, outcome.result)
            del self._tasks[lease.id]
            self._streams.pop(lease.id, None)
            self._news.set()

    async def _stop_all(self) -> None:
        tasks = [*self._tasks.values(), *self._handed_back]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._tasks.clear()
        self._streams.clear()
        self._handed_back.clear()
        self._held.forget_all()


async def _answer(call: grpc.aio.UnaryUnaryCall[Any, bots_pb2.BotSession]) -> _Answer:
    session = await call
    return _Answer(session, tuple(await call.trailing_metadata() or ()))
