"""The engine: every change of jobs, operations, sessions and leases goes through it.

Three threads, each with a connection of its own: the writer runs the batches of the hot path, the errands
what is rare, the reader what is only read. Both doors, coroutines and threads, submit the same items.
"""

import asyncio
import logging
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from buildgrid_scheduler.assigner.waiting import Arrival, WaitingBots
from buildgrid_scheduler.core.clock import Clock, utc_now
from buildgrid_scheduler.core.completed_job import CompletedJob
from buildgrid_scheduler.core.completion import CompletionPolicy
from buildgrid_scheduler.core.requirements import Offer, pairs
from buildgrid_scheduler.engine.batcher import BatchCounts, Batcher
from buildgrid_scheduler.engine.enqueueing import EnqueueBatch
from buildgrid_scheduler.engine.events import log_errand, log_round
from buildgrid_scheduler.engine.following import Following
from buildgrid_scheduler.engine.held_calls import HeldCalls
from buildgrid_scheduler.engine.items import (
    Call,
    Effects,
    Enqueue,
    Enqueued,
    LoadedOperation,
    LoadOperation,
    NewJob,
    Nudge,
    ReadItem,
    Synchronize,
    Synchronized,
    WriteItem,
)
from buildgrid_scheduler.engine.known import KnownRows
from buildgrid_scheduler.engine.lease_ends import LeaseChanges
from buildgrid_scheduler.engine.observer import EngineObserver
from buildgrid_scheduler.engine.reading import read_batch
from buildgrid_scheduler.engine.round import Round, RoundSettings
from buildgrid_scheduler.engine.sessions import SessionTransactions
from buildgrid_scheduler.notifier.delivery import Delivery, Ticket
from buildgrid_scheduler.notifier.messages import CHANNEL, encode
from buildgrid_scheduler.notifier.watches import Watches
from buildgrid_scheduler.store import statements as sql
from buildgrid_scheduler.store.hot_connection import DatabaseBusyError, HotConnection, Statements
from buildgrid_scheduler.store.provider import SqlProvider

log = logging.getLogger(__name__)
R = TypeVar("R")
NO_TICKET: Ticket[Any] = Ticket()
CONTENDED_PAUSE = 0.01  # seconds until a claim that others were faster at is tried again


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
        self.origin = uuid.uuid4().hex[:12]
        self.waiting = WaitingBots()
        self.watches = Watches()
        self.following = Following(self.watches, self.submit)
        self.peers = True
        """whether other replicas listen; the notifier knows better after its first look"""
        self.sessions = SessionTransactions(self.policy, self.settings.keepalive, self.settings.store_results)
        self.leaving = False
        """this replica stops: nobody is to wait here any more"""
        self.after_completion: Callable[[Sequence[tuple[str, str, bytes]]], None] | None = None
        """called with (instance, digest, ActionResult) of cacheable results when the cache is elsewhere"""
        self.on_completion: Callable[[Sequence[CompletedJob]], None] | None = None
        """called with the jobs that bots brought to their ends; must not block"""
        self._write_db = HotConnection(provider, "writer")
        self._errand_db = HotConnection(provider, "errands")
        self._read_db = HotConnection(provider, "reader")
        self.held = HeldCalls(self.waiting, self.sessions, self.submit)
        self._known = KnownRows(requires)
        self._observer: EngineObserver | None = None
        self._unsure = False
        """a transaction may have been committed whose effects were not told here"""
        self._writer: Batcher[WriteItem] = Batcher(
            "engine-writer", self._write_batch, patience=patience, exclusive=_session_of
        )
        self._errands: Batcher[Call[Any]] = Batcher(
            "engine-errands", self._run_errand, patience=patience, largest=1
        )
        self._reader: Batcher[ReadItem] = Batcher("engine-reader", self._read_batch, patience=patience)

    def start(self) -> None:
        """Start the threads. The database need not be there yet."""
        for batcher in (self._writer, self._errands, self._reader):
            batcher.start()

    def stop(self) -> None:
        """Answer held calls, finish what was submitted, close the connections."""
        self.send_elsewhere()
        for batcher in (self._writer, self._errands, self._reader):
            batcher.stop()
        self.send_elsewhere()  # what was on its way to be held
        for connection in (self._write_db, self._errand_db, self._read_db):
            connection.close()

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
        self._observer = observer
        self._writer.observe = partial(observer.batch, "write")
        self._errands.observe = partial(observer.batch, "errand")
        self._reader.observe = partial(observer.batch, "read")
        for connection in (self._write_db, self._errand_db, self._read_db):
            connection.observe = observer.statement

    def reconfigure(self, policy: CompletionPolicy, settings: RoundSettings) -> None:
        """From the next batch and errand on these are in force. From any thread."""
        self.policy, self.settings = policy, settings
        self.sessions = replace(self.sessions, policy=policy, keepalive=settings.keepalive)

    @property
    def alive(self) -> bool:
        """Whether all threads run; False before `start` and after `stop`, too."""
        return self._writer.alive and self._errands.alive and self._reader.alive

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

    # --- what others tell

    def heard_of_arrivals(self, arrivals: Iterable[Arrival]) -> None:
        """Jobs began to wait, says another replica or an errand."""
        self.waiting.arrived(arrivals, heard=True)
        if self.waiting.held:
            self.nudge()

    def nudge(self) -> None:
        """Let the next batch look who can be given work."""
        self._writer.submit(Nudge(NO_TICKET))

    def poke(self, sessions: Iterable[str]) -> None:
        """These sessions have something to be told."""
        self.held.poke(sessions)

    def _make_sure(self) -> None:
        """The database answers again: whatever was committed unheard is looked at now."""
        if self._unsure:
            self._unsure = False
            self.catch_up()

    def catch_up(self) -> None:
        """News may have been lost, of anything: look at all that somebody waits for here."""
        self.jobs_changed(None)
        self.held.poke(None)
        self.look_for_work()

    def jobs_changed(self, jobs: Sequence[str] | None) -> None:
        """These jobs changed, says another replica; None: any may have."""
        delivery = Delivery()
        self.watches.publish_all_stale(jobs, delivery)
        delivery.flush()

    # --- the threads

    def _write_batch(self, batch: Sequence[WriteItem], delivery: Delivery) -> None:
        enqueues = [item for item in batch if isinstance(item, Enqueue)]
        calls = [item for item in batch if isinstance(item, Synchronize)]
        arriving = [
            Arrival(job.instance, job.requirement_hash, self._known.requires_of(job.requirements))
            for job in EnqueueBatch(enqueues).leaders.values()
            if job.response is None
        ]
        self.held.replace([call.session_name for call in calls], delivery)
        woken = [call for call in self.waiting.plan(arriving) if isinstance(call, Synchronize)]
        calls += woken
        if not enqueues and not calls:
            return
        self.waiting.asking(call.session_name for call in calls)
        work = Round(
            enqueues, calls, LeaseChanges(self.clock(), self.policy), self.settings, self._known.requires_of
        )

        def body(db: Statements) -> None:
            self._known.write_missing(db, enqueues)
            work.run(db, self.waiting, self._notify if self.peers else None)

        # From before the commit on: another replica may hand the job out before this one looks again.
        for item in enqueues:
            self._follow(item, item.job.name)
        try:
            self._write_db.transaction(body)
        except BaseException as error:
            self._unsure |= isinstance(error, DatabaseBusyError) and error.unknown
            for item in enqueues:
                item.tried = True
                self._unfollow(item)
            for call in woken:
                if isinstance(error, DatabaseBusyError):
                    self.held.ask_again(call)  # it may have been given a lease
                else:
                    self.held.hold(call, delivery)
            self.waiting.plan_again()
            raise
        self._known.committed(enqueues)
        self._conclude(work, delivery)

    def _conclude(self, work: Round, delivery: Delivery) -> None:
        """The round is committed: tell everyone."""
        log_round(work)
        if self._observer is not None:
            self._observer.round(work)
        if self.on_completion is not None and work.changes.completed:
            self.on_completion(
                [
                    CompletedJob(
                        lease.job_name,
                        lease.instance,
                        lease.action_digest,
                        lease.property_label,
                        end.response,
                    )
                    for lease, end, _ in work.changes.completed
                ]
            )
        if self.after_completion is not None:
            self.after_completion(
                [
                    (lease.instance, lease.action_digest, end.cache_entry)
                    for lease, end, _ in work.changes.completed
                    if end.cache_entry is not None
                ]
            )
        self.waiting.arrived(work.arrivals(), heard=False)
        again = False
        for claim in work.claims:
            again |= claim.settle(self.waiting)
        self.tell_arrivals(work.changes.arrivals)
        for item, enqueued in work.enqueued:
            if enqueued.job_name != item.job.name or item.ticket.abandoned:
                self._unfollow(item)
            if item.watch is not None and enqueued.cached is None and not item.ticket.abandoned:
                self._follow(item, enqueued.job_name)
                delivery.call(item.watch.loop, item.watch.push, self._state_now(work, enqueued))
            delivery.settle(item.ticket, enqueued)
        if work.batch is not None:
            for item in work.batch.items:
                if item.operation_name in work.batch.refused:
                    self._unfollow(item)
                    delivery.settle(item.ticket, work.batch.refused[item.operation_name])
        for job, state in work.effects.states.items():
            self.watches.publish(job, state, delivery)
        for outcome in work.outcomes:
            self.held.conclude(outcome, work.expires_at, delivery)
        self.poke(work.effects.sessions)
        self._make_sure()
        # Calls that are held only now were not seen by whoever told of an arrival meanwhile.
        if self.waiting.unplanned or (again and any(claim.got for claim in work.claims)):
            self.nudge()
        elif again:  # others hold what is there: they will be done in a moment
            timer = threading.Timer(CONTENDED_PAUSE, self.nudge)
            timer.daemon = True
            timer.start()

    def _follow(self, item: Enqueue, job_name: str) -> None:
        if item.watch is not None:
            self.watches.add(job_name, item.watch)

    def _unfollow(self, item: Enqueue) -> None:
        """The job is another, or there is none, or nobody is interested any more."""
        if item.watch is not None:
            self.watches.discard(item.job.name, item.watch)

    @staticmethod
    def _state_now(work: Round, enqueued: Enqueued) -> Any:
        """A job may have been handed out in the round that made it."""
        if enqueued.state is None:
            return None
        return work.effects.states.get(enqueued.job_name) or enqueued.state

    def _run_errand(self, batch: Sequence[Call[Any]], delivery: Delivery) -> None:
        for item in batch:
            effects = Effects()

            def body(db: Statements, item: Call[Any] = item, effects: Effects = effects) -> Any:
                outcome = item.transaction(db, self.clock(), effects)
                if self.peers:
                    self._notify(db, effects)
                return outcome

            try:
                outcome = self._errand_db.transaction(body)
            except DatabaseBusyError as error:
                self._unsure |= error.unknown
                raise
            log_errand(effects)
            if self._observer is not None:
                self._observer.errand(effects)
            for job, state in effects.states.items():
                self.watches.publish(job, state, delivery)
            self.tell_arrivals(effects.arrivals)
            delivery.settle(item.ticket, outcome)
            self.poke(effects.sessions)
            self._make_sure()

    def tell_arrivals(self, keys: Sequence[tuple[str, str]]) -> None:
        if keys:
            self.heard_of_arrivals(
                [
                    Arrival(i, h, requires)
                    for i, h in keys
                    if (requires := self._known.requires(h)) is not None
                ]
            )
            if any(self._known.requires(h) is None for _, h in keys):
                self.look_for_work()

    def look_for_work(self) -> None:
        """Read the distinct requirement hashes in the queue and act on them. Rare: the safety net."""

        def transaction(db: Statements, now: datetime, effects: Effects) -> None:
            began = self.waiting.looking()
            rows = db.rows(sql.WAITING_HASHES)
            found = [Arrival(i, h, self._known.learn(h, requirements)) for i, h, requirements in rows]
            if self.waiting.some_wait(found, began):
                self.nudge()

        self.submit(Call(Ticket(), transaction))

    def _read_batch(self, batch: Sequence[ReadItem], delivery: Delivery) -> None:
        read_batch(self._read_db, batch, delivery)

    def _notify(self, db: Statements, effects: Effects) -> None:
        payloads = encode(
            self.origin, jobs=effects.states, arrivals=effects.arrivals, sessions=effects.sessions
        )
        if payloads:
            db.execute(sql.NOTIFY, (CHANNEL, payloads))


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
