"""Runs the batches of the hot path, each as one Round, and tells everyone what came of it."""

import threading
from collections.abc import Sequence
from typing import Any

from buildgrid_scheduler.assigner.waiting import Arrival, WaitingBots
from buildgrid_scheduler.core.clock import Clock
from buildgrid_scheduler.core.completion import CompletionPolicy
from buildgrid_scheduler.engine.completions import Completions
from buildgrid_scheduler.engine.enqueueing import EnqueueBatch
from buildgrid_scheduler.engine.events import log_round
from buildgrid_scheduler.engine.held_calls import HeldCalls
from buildgrid_scheduler.engine.items import Enqueue, Enqueued, Synchronize, WriteItem
from buildgrid_scheduler.engine.known import KnownRows
from buildgrid_scheduler.engine.lease_ends import LeaseChanges
from buildgrid_scheduler.engine.news import News
from buildgrid_scheduler.engine.observer import WorkObserver
from buildgrid_scheduler.engine.round import Round, RoundSettings
from buildgrid_scheduler.notifier.delivery import Delivery
from buildgrid_scheduler.notifier.watches import Watches
from buildgrid_scheduler.store.hot_connection import DatabaseBusyError, HotConnection, Statements

_CONTENDED_PAUSE = 0.01  # seconds until a claim that others were faster at is tried again


class Writer:
    """`run` is what the writer thread does."""

    def __init__(
        self,
        db: HotConnection,
        *,
        waiting: WaitingBots,
        watches: Watches,
        held: HeldCalls,
        known: KnownRows,
        news: News,
        completions: Completions,
        policy: CompletionPolicy,
        settings: RoundSettings,
        clock: Clock,
    ) -> None:
        self.policy, self.settings = policy, settings
        """of the next batch"""
        self.observers: list[WorkObserver] = []
        self._db = db
        self._waiting = waiting
        self._watches = watches
        self._held = held
        self._known = known
        self._news = news
        self._completions = completions
        self._clock = clock

    def run(self, batch: Sequence[WriteItem], delivery: Delivery) -> None:
        """Do all of it in one transaction, with the held calls that can be given work by it."""
        enqueues = [item for item in batch if isinstance(item, Enqueue)]
        calls = [item for item in batch if isinstance(item, Synchronize)]
        arriving = [
            Arrival(job.instance, job.requirement_hash, self._known.requires_of(job.requirements))
            for job in EnqueueBatch(enqueues).leaders.values()
            if job.response is None
        ]
        self._held.replace([call.session_name for call in calls], delivery)
        woken = [call for call in self._waiting.plan(arriving) if isinstance(call, Synchronize)]
        calls += woken
        if not enqueues and not calls:
            return
        self._waiting.asking(call.session_name for call in calls)
        changes = LeaseChanges(self._clock(), self.policy)
        work = Round(enqueues, calls, changes, self.settings, self._known.requires_of)

        def body(db: Statements) -> None:
            self._known.write_missing(db, enqueues)
            work.run(db, self._waiting, self._news.notify)

        # From before the commit on: another replica may hand the job out before this one looks again.
        for item in enqueues:
            self._follow(item, item.job.name)
        try:
            self._db.transaction(body)
        except BaseException as error:
            self._news.failed(error, work.effects, self._clock())
            self._put_back(enqueues, woken, error, delivery)
            raise
        self._known.committed(enqueues)
        self._conclude(work, delivery)

    def _put_back(
        self,
        enqueues: Sequence[Enqueue],
        woken: Sequence[Synchronize],
        error: BaseException,
        delivery: Delivery,
    ) -> None:
        """The batch failed, or seemed to: what it took is as it was before."""
        for item in enqueues:
            item.tried = True
            self._unfollow(item)
        for call in woken:
            if isinstance(error, DatabaseBusyError):
                self._held.ask_again(call)  # it may have been given a lease
            else:
                self._held.hold(call, delivery)
        self._waiting.plan_again()

    def _conclude(self, work: Round, delivery: Delivery) -> None:
        """The round is committed: tell everyone."""
        log_round(work)
        for observer in self.observers:
            observer.round(work)
        self._completions.tell(work.effects.completed)
        self._waiting.arrived(work.arrivals(), heard=False)
        again = False
        for claim in work.claims:
            again |= claim.settle(self._waiting)
        self._news.tell_arrivals(work.changes.arrivals)
        self._answer_clients(work, delivery)
        for job, state in work.effects.states.items():
            self._watches.publish(job, state, delivery)
        for outcome in work.outcomes:
            self._held.conclude(outcome, work.expires_at(outcome), delivery)
        self._news.poke(work.effects.sessions)
        self._news.reached()
        # Calls that are held only now were not seen by whoever told of an arrival meanwhile.
        if self._waiting.unplanned or (again and any(claim.got for claim in work.claims)):
            self._news.nudge()
        elif again:  # others hold what is there: they will be done in a moment
            timer = threading.Timer(_CONTENDED_PAUSE, self._news.nudge)
            timer.daemon = True
            timer.start()

    def _answer_clients(self, work: Round, delivery: Delivery) -> None:
        for item, enqueued in work.enqueued:
            if enqueued.job_name != item.job.name or item.ticket.abandoned:
                self._unfollow(item)
            if item.watch is not None and enqueued.cached is None and not item.ticket.abandoned:
                self._follow(item, enqueued.job_name)
                delivery.call(item.watch.loop, item.watch.push, _state_now(work, enqueued))
            delivery.settle(item.ticket, enqueued)
        if work.batch is not None:
            for item in work.batch.items:
                if item.operation_name in work.batch.refused:
                    self._unfollow(item)
                    delivery.settle(item.ticket, work.batch.refused[item.operation_name])

    def _follow(self, item: Enqueue, job_name: str) -> None:
        if item.watch is not None:
            self._watches.add(job_name, item.watch)

    def _unfollow(self, item: Enqueue) -> None:
        """The job is another, or there is none, or nobody is interested any more."""
        if item.watch is not None:
            self._watches.discard(item.job.name, item.watch)


def _state_now(work: Round, enqueued: Enqueued) -> Any:
    """A job may have been handed out in the round that made it."""
    if enqueued.state is None:
        return None
    return work.effects.states.get(enqueued.job_name) or enqueued.state
