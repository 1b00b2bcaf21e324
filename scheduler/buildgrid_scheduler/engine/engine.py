"""The engine: every change of jobs, operations, sessions and leases goes through it.

Three threads, each with a connection of its own: the writer runs the batches of the hot path, the errands
what is rare, the reader what is only read. Both doors, coroutines and threads, submit the same items.
"""

import asyncio
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from buildgrid_scheduler.assigner.waiting import WaitingBots
from buildgrid_scheduler.core.clock import Clock, utc_now
from buildgrid_scheduler.core.completion import CompletionPolicy
from buildgrid_scheduler.core.requirements import Offer, pairs
from buildgrid_scheduler.engine.batcher import BatchCounts, Batcher
from buildgrid_scheduler.engine.completions import Completions
from buildgrid_scheduler.engine.errands import Errands
from buildgrid_scheduler.engine.following import Following
from buildgrid_scheduler.engine.hang_ups import HangUps
from buildgrid_scheduler.engine.held_calls import HeldCalls
from buildgrid_scheduler.engine.items import (
    Call,
    Effects,
    Enqueue,
    Enqueued,
    LoadedOperation,
    LoadOperation,
    NewJob,
    ReadItem,
    Synchronize,
    Synchronized,
    WriteItem,
)
from buildgrid_scheduler.engine.known import KnownRows
from buildgrid_scheduler.engine.news import News
from buildgrid_scheduler.engine.observer import EngineObserver, WorkObserver
from buildgrid_scheduler.engine.reading import read_batch
from buildgrid_scheduler.engine.round import RoundSettings
from buildgrid_scheduler.engine.sessions import SessionTransactions
from buildgrid_scheduler.engine.writer import Writer
from buildgrid_scheduler.notifier.delivery import Delivery, Ticket
from buildgrid_scheduler.notifier.watches import Watches
from buildgrid_scheduler.store.hot_connection import HotConnection, Statements
from buildgrid_scheduler.store.provider import SqlProvider

R = TypeVar("R")


class Engine:
    """See the module. `start` before the first call, `stop` drains what was submitted."""

    def __init__(
        self,
        provider: SqlProvider,
        *,
        policy: CompletionPolicy | None = None,
        settings: RoundSettings | None = None,
        requires: Callable[[Mapping[str, list[str]]], Offer] = pairs,
        clock: Clock = utc_now,
        patience: float = 10.0,
    ) -> None:
        """`patience`: seconds for which calls are retried while the database is away."""
        self.policy = policy or CompletionPolicy()
        self.settings = settings or RoundSettings(keepalive=timedelta(seconds=600))
        self.clock = clock
        self.leaving = False
        """this replica stops: nobody is to wait here any more"""
        self.sessions = SessionTransactions(self.policy, self.settings.keepalive, self.settings.store_results)
        self.waiting = WaitingBots()
        self.watches = Watches()
        self.following = Following(self.watches, self.submit)
        self.completions = Completions(self.submit)
        self.hang_ups = HangUps(clock)
        self.held = HeldCalls(self.waiting, self.sessions, self.submit, self.hang_ups)
        known = KnownRows(requires)
        self.news = News(self.waiting, self.watches, self.held, known, self.completions, self.submit)

        self._write_db = HotConnection(provider, "writer")
        self._errand_db = HotConnection(provider, "errands")
        self._read_db = HotConnection(provider, "reader")
        self._rounds = Writer(
            self._write_db,
            waiting=self.waiting,
            watches=self.watches,
            held=self.held,
            known=known,
            news=self.news,
            completions=self.completions,
            policy=self.policy,
            settings=self.settings,
            clock=clock,
        )
        self._calls = Errands(self._errand_db, self.watches, self.news, self.completions, clock)
        self._writer: Batcher[WriteItem] = Batcher(
            "engine-writer",
            self._rounds.run,
            patience=patience,
            exclusive=_session_of,
            connecting=lambda: self._write_db.connecting,
            at_end=self._write_db.close,
        )
        self._errands: Batcher[Call[Any]] = Batcher(
            "engine-errands",
            self._calls.run,
            patience=patience,
            largest=1,
            connecting=lambda: self._errand_db.connecting,
            at_end=self._errand_db.close,
        )
        self._reader: Batcher[ReadItem] = Batcher(
            "engine-reader",
            partial(read_batch, self._read_db),
            patience=patience,
            connecting=lambda: self._read_db.connecting,
            at_end=self._read_db.close,
        )

    @property
    def _batchers(self) -> tuple[Batcher[Any], ...]:
        return self._writer, self._errands, self._reader

    def start(self) -> None:
        """Start the threads. The database need not be there yet."""
        for batcher in self._batchers:
            batcher.start()

    def hurry(self) -> None:
        """The end is near: from now on a database that is away is waited for only a moment longer."""
        for batcher in self._batchers:
            batcher.hurry()

    def stop(self) -> None:
        """Answer held calls, finish what was submitted, close the connections.

        What was submitted is given up, as Unavailable, where the database is away.
        """
        self.hurry()
        self.send_elsewhere()
        for batcher in self._batchers:
            batcher.stop()
        self.send_elsewhere()  # what was on its way to be held
        self.completions.stop()

    def send_elsewhere(self) -> None:
        """Send bots and clients that wait here to another replica."""
        self.leaving = True
        delivery = Delivery()
        self.watches.close_all(delivery)
        self.held.send_elsewhere(delivery)
        delivery.flush()

    def batch_counts(self) -> dict[str, BatchCounts]:
        """What the threads have done so far, by kind."""
        return {"write": self._writer.counts, "errand": self._errands.counts, "read": self._reader.counts}

    def observe(self, observer: EngineObserver) -> None:
        """Tell `observer` of all that is done. Before `start`."""
        self.observe_work(observer)
        self._writer.observe = partial(observer.batch, "write")
        self._errands.observe = partial(observer.batch, "errand")
        self._reader.observe = partial(observer.batch, "read")
        for connection in (self._write_db, self._errand_db, self._read_db):
            connection.observe = observer.statement

    def observe_work(self, observer: WorkObserver) -> None:
        """Tell this one, too, of what is done, but not of the time that it takes. Before `start`."""
        self._rounds.observers.append(observer)
        self._calls.observers.append(observer)

    def reconfigure(self, policy: CompletionPolicy, settings: RoundSettings) -> None:
        """From the next batch and errand on these are in force. From any thread."""
        self.policy, self.settings = policy, settings
        self._rounds.policy, self._rounds.settings = policy, settings
        self.sessions = replace(self.sessions, policy=policy, keepalive=settings.keepalive)

    @property
    def alive(self) -> bool:
        """Whether all threads run; False before `start` and after `stop`, too."""
        return all(batcher.alive for batcher in self._batchers)

    # --- the doors

    @staticmethod
    def ticket() -> Ticket[Any]:
        """A ticket for the calling coroutine; for the calling thread where no event loop runs."""
        try:
            return Ticket(asyncio.get_running_loop())
        except RuntimeError:
            return Ticket()

    def submit(self, item: WriteItem | ReadItem) -> None:
        """Hand an item to the thread that does it; the result arrives at its ticket."""
        if isinstance(item, Call):
            self._errands.submit(item)
        elif isinstance(item, LoadOperation):
            self._reader.submit(item)
        else:
            self._writer.submit(item)

    async def enqueue(self, item: Enqueue) -> Enqueued:
        """Make an operation; see Enqueue."""
        self.submit(item)
        try:
            result: Enqueued = await _awaitable(item.ticket)
        except asyncio.CancelledError:
            item.ticket.abandon()
            if item.watch is not None:
                self.watches.drop(item.watch)
            raise
        return result

    async def synchronize(self, item: Synchronize, *, hold: float = 0) -> Synchronized:
        """Report for a bot; when there is nothing to tell it, wait up to `hold` seconds for something."""
        item.hold = hold > 0
        self.submit(item)
        return await self.held.wait(item, _awaitable(item.ticket), hold)

    async def call(self, transaction: Callable[[Statements, datetime, Effects], R]) -> R:
        """Run a rare transaction."""
        item: Call[R] = Call(self.ticket(), transaction)
        self.submit(item)
        result: R = await _awaitable(item.ticket)
        return result

    async def load(self, operation_name: str) -> LoadedOperation | None:
        """Read an operation."""
        item = LoadOperation(self.ticket(), operation_name)
        self.submit(item)
        result: LoadedOperation | None = await _awaitable(item.ticket)
        return result


def _session_of(item: WriteItem) -> str | None:
    return item.session_name if isinstance(item, Synchronize) else None


def _awaitable(ticket: Ticket[Any]) -> "asyncio.Future[Any]":
    if not isinstance(ticket.future, asyncio.Future):
        raise TypeError("this door is for coroutines; the ticket is a thread's")
    return ticket.future


def new_job_name() -> str:
    """Names of jobs, which are the ids of leases: `[0-9a-z-]+`."""
    return str(uuid.uuid4())


__all__ = ["Engine", "NewJob", "new_job_name"]
