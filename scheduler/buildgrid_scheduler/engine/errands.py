"""Runs what is rare: each item is a transaction of its own."""

from collections.abc import Sequence
from typing import Any

from buildgrid_scheduler.core.clock import Clock
from buildgrid_scheduler.engine.completions import Completions
from buildgrid_scheduler.engine.events import log_errand
from buildgrid_scheduler.engine.items import Call, Effects
from buildgrid_scheduler.engine.news import News
from buildgrid_scheduler.engine.observer import WorkObserver
from buildgrid_scheduler.notifier.delivery import Delivery
from buildgrid_scheduler.notifier.watches import Watches
from buildgrid_scheduler.store.hot_connection import HotConnection, Statements


class Errands:
    """`run` is what the errands thread does."""

    def __init__(
        self, db: HotConnection, watches: Watches, news: News, completions: Completions, clock: Clock
    ) -> None:
        self._db = db
        self._watches = watches
        self._news = news
        self._completions = completions
        self._clock = clock
        self.observers: list[WorkObserver] = []

    def run(self, batch: Sequence[Call[Any]], delivery: Delivery) -> None:
        """Do each of them, and tell everyone."""
        for item in batch:
            self._run(item, delivery)

    def _run(self, item: Call[Any], delivery: Delivery) -> None:
        effects = Effects()

        def body(db: Statements) -> Any:
            outcome = item.transaction(db, self._clock(), effects)
            self._news.notify(db, effects)
            return outcome

        try:
            outcome = self._db.transaction(body)
        except BaseException as error:
            self._news.failed(error, effects, self._clock())
            raise
        log_errand(effects)
        for observer in self.observers:
            observer.errand(effects)
        self._completions.tell(effects.completed)
        for job, state in effects.states.items():
            self._watches.publish(job, state, delivery)
        self._news.tell_arrivals(effects.arrivals)
        delivery.settle(item.ticket, outcome)
        self._news.poke(effects.sessions)
        self._news.reached()
