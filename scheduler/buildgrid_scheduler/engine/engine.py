"""The engine: every change of jobs, operations, sessions and leases goes through it.

Three threads, each with a connection of its own: the writer runs the batches of the hot path, the errands
what is rare, the reader what is only read. Both doors, coroutines and threads, submit the same items.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

from buildgrid_scheduler.assigner.waiting import Arrival, HeldCall, WaitingBots
from buildgrid_scheduler.core.clock import Clock, utc_now
from buildgrid_scheduler.core.completion import CompletionPolicy
from buildgrid_scheduler.core.errors import Unavailable
from buildgrid_scheduler.core.requirements import Offer, pairs
from buildgrid_scheduler.engine.batcher import BatchCounts, Batcher
from buildgrid_scheduler.engine.enqueueing import EnqueueBatch
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
    Tell,
    WriteItem,
)
from buildgrid_scheduler.engine.known import KnownRows
from buildgrid_scheduler.engine.lease_ends import LeaseChanges
from buildgrid_scheduler.engine.reading import read_batch
from buildgrid_scheduler.engine.round import Round, RoundSettings
from buildgrid_scheduler.engine.sessions import SessionTransactions
from buildgrid_scheduler.engine.synchronizing import SessionOutcome
from buildgrid_scheduler.notifier.delivery import Delivery, Ticket
from buildgrid_scheduler.notifier.messages import CHANNEL, encode
from buildgrid_scheduler.notifier.watches import Watches
from buildgrid_scheduler.store import statements as sql
from buildgrid_scheduler.store.hot_connection import HotConnection, Statements
from buildgrid_scheduler.store.provider import SqlProvider

log = logging.getLogger(__name__)
R = TypeVar("R")
NO_TICKET: Ticket[Any] = Ticket()


class Engine:
    """See the module. `start` before the first call, `stop` drains what was submitted."""

    def __init__(
        self,
        provider: SqlProvider,
        *,
        read_provider: SqlProvider | None = None,
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
        self.peers = True
        """whether other replicas listen; the notifier knows better after its first look"""
        self.sessions = SessionTransactions(self.policy, self.settings.keepalive, self.settings.store_results)
        self.leaving = False
        """this replica stops: nobody is to wait here any more"""
        self.after_completion: Callable[[Sequence[tuple[str, str, bytes]]], None] | None = None
        """called with (instance, digest, ActionResult) of cacheable results when the cache is elsewhere"""
        self._write_db = HotConnection(provider, "writer")
        self._errand_db = HotConnection(provider, "errands")
        self._read_db = HotConnection(read_provider or provider, "reader")
        self._known = KnownRows(requires)
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
        self._hold_no_more(delivery)
        delivery.flush()

    def _hold_no_more(self, delivery: Delivery) -> None:
        for call in self.waiting.take_all():
            if isinstance(call, Synchronize):
                delivery.settle(call.ticket, Unavailable("this replica is shutting down; try another"))

    def batch_counts(self) -> dict[str, BatchCounts]:
        """What the threads have done so far, by kind."""
        return {"write": self._writer.counts, "errand": self._errands.counts, "read": self._reader.counts}

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
            raise
        return result

    async def synchronize(self, item: Synchronize, *, hold: float = 0) -> Synchronized:
        """Report for a bot; when there is nothing to tell it, wait up to `hold` seconds for something."""
        item.hold = hold > 0
        self.submit(item)
        future = _awaitable(item.ticket)
        try:
            if hold > 0:
                await asyncio.wait((future,), timeout=hold)
                if not future.done() and self.waiting.release(item):
                    self._ask_again(item)
            # A wait, not the future itself, is what a cancellation hits: a claim may be on its way to it.
            await asyncio.wait((future,))
        except asyncio.CancelledError:
            item.ticket.abandon()
            self.waiting.release(item)
            future.add_done_callback(lambda late: self._undo_late(item, late))
            raise
        result: Synchronized = future.result()
        return result

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
        """These sessions have something to be told: ask again for their held calls."""
        for call in self.waiting.take(sessions):
            if isinstance(call, Synchronize):
                self._ask_again(call)

    def _ask_again(self, call: Synchronize) -> None:
        """Submit a call that was held, with the patience of a new one."""
        call.woken = True
        call.submitted = time.monotonic()
        self._writer.submit(call)

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
        woken = [call for call in self.waiting.plan(arriving) if isinstance(call, Synchronize)]
        here = {call.session_name for call in calls}
        replaced = [call for call in woken if call.session_name in here]
        calls += [call for call in woken if call.session_name not in here]
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
        except BaseException:
            for item in enqueues:
                item.tried = True
                self._unfollow(item)
            for call in woken:
                self._hold(call, delivery)
            self.waiting.plan_again()
            raise
        self._known.committed(enqueues)
        for call in replaced:
            delivery.settle(call.ticket, _taken_over())
        self._conclude(work, delivery)

    def _conclude(self, work: Round, delivery: Delivery) -> None:
        """The round is committed: tell everyone."""
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
            again |= self.waiting.settle(
                claim.instance,
                asked=claim.chosen if claim.blind else len(claim.slots),
                chosen=claim.chosen,
                got=claim.got,
                marks=claim.marks,
            )
        requeued = [(lease.instance, lease.requirement_hash) for lease, _ in work.changes.requeued]
        self.tell_arrivals(requeued)
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
            self._answer(work, outcome, delivery)
        self.poke(work.effects.sessions)
        # Calls that are held only now were not seen by whoever told of an arrival meanwhile.
        if again or self.waiting.unplanned:
            self.nudge()

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

    def _answer(self, work: Round, outcome: SessionOutcome, delivery: Delivery) -> None:
        item = outcome.item
        if outcome.error is not None:
            delivery.settle(item.ticket, outcome.error)
            return
        news = [t for t in outcome.tells if not _is_old(t, item)]
        if item.ticket.abandoned:
            self._undo_claims(item, Synchronized(tuple(outcome.tells), work.expires_at))
            return
        if item.hold and not news and outcome.free_slots > 0 and not outcome.at_once:
            self._hold(item, delivery)
            return
        delivery.settle(item.ticket, Synchronized(tuple(outcome.tells), work.expires_at))

    def _hold(self, item: Synchronize, delivery: Delivery) -> None:
        """Hold the call; whatever it replaces is answered."""
        other: HeldCall | None = self.waiting.hold(item)
        if other is item:
            self._ask_again(item)
        elif isinstance(other, Synchronize):
            delivery.settle(other.ticket, _taken_over())
        if self.leaving:
            self._hold_no_more(delivery)

    def _undo_claims(self, item: Synchronize, unheard: Synchronized) -> None:
        jobs = [t.job_name for t in unheard.leases if t.action is not None and t.job_name not in item.reports]
        if jobs:
            log.info("bot %s hung up before it was told of its lease; the job waits again", item.bot_id)
            self.submit(Call(Ticket(), self.sessions.hand_back(item.session_name, jobs, unheard.expires_at)))

    def _undo_late(self, item: Synchronize, late: "asyncio.Future[Synchronized]") -> None:
        """An answer that came when nobody waited for it any more."""
        if not late.cancelled() and late.exception() is None:
            self._undo_claims(item, late.result())

    def _run_errand(self, batch: Sequence[Call[Any]], delivery: Delivery) -> None:
        for item in batch:
            effects = Effects()

            def body(db: Statements, item: Call[Any] = item, effects: Effects = effects) -> Any:
                outcome = item.transaction(db, self.clock(), effects)
                if self.peers:
                    self._notify(db, effects)
                return outcome

            outcome = self._errand_db.transaction(body)
            for job, state in effects.states.items():
                self.watches.publish(job, state, delivery)
            self.tell_arrivals(effects.arrivals)
            delivery.settle(item.ticket, outcome)
            self.poke(effects.sessions)

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
            rows = db.rows(sql.WAITING_HASHES)
            found = [Arrival(i, h, self._known.learn(h, requirements)) for i, h, requirements in rows]
            if self.waiting.some_wait(found):
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


def _taken_over() -> Unavailable:
    return Unavailable("a later call of the same session took over")


def _session_of(item: WriteItem) -> str | None:
    return item.session_name if isinstance(item, Synchronize) else None


def _is_old(tell: Tell, item: Synchronize) -> bool:
    """Whether the bot knows this already: it has just said so."""
    report = item.reports.get(tell.job_name)
    return report is not None and report.state == tell.state


def _awaitable(ticket: Ticket[Any]) -> "asyncio.Future[Any]":
    if not isinstance(ticket.future, asyncio.Future):
        raise TypeError("this door is for coroutines; the ticket is a thread's")
    return ticket.future


def new_job_name() -> str:
    """Names of jobs, which are the ids of leases: `[0-9a-z-]+`."""
    return str(uuid.uuid4())


__all__ = ["Engine", "NewJob", "new_job_name"]
