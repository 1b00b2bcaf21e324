"""A thread that runs what has gathered while it was busy, as one batch.

Nothing waits for a batch to fill: an idle batcher runs a single item at once, a busy one finds more.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from buildgrid_scheduler.core.errors import SchedulerError, Unavailable
from buildgrid_scheduler.notifier.delivery import Delivery, Ticket
from buildgrid_scheduler.store.hot_connection import DatabaseBusyError

log = logging.getLogger(__name__)

MAX_BATCH = 256
"""Bounds how long a transaction can get; larger batches were not faster."""
HURRIED_PATIENCE = 2.0
"""Seconds for which items are retried while the database is away once the end is near."""


_LOOK_AGAIN = 0.1  # seconds


class Item(Protocol):
    """Something to be done, for a caller that waits."""

    @property
    def submitted(self) -> float:
        """time.monotonic() when it was submitted."""
        ...

    @property
    def ticket(self) -> Ticket[Any]:
        """Who waits."""
        ...


I = TypeVar("I", bound=Item)  # noqa: E741


@dataclass(slots=True)
class BatchCounts:
    """What a batcher has done. Written by its thread, read by any."""

    batches: int = 0
    items: int = 0
    seconds: float = 0.0


class Batcher(Generic[I]):
    """Runs batches on a thread of its own.

    `run(batch, delivery)` does a batch whole or not at all, and hands results to `delivery`. When it raises
    DatabaseBusyError the batch is run again, until items are older than `patience` seconds: those get
    Unavailable. Once the end is near, a database that is away is no longer waited for: see `hurry`. When it
    raises anything else, the items are run one by one, so that only the caller whose
    item is at fault gets the error.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[Sequence[I], Delivery], None],
        *,
        patience: float = 10.0,
        largest: int = MAX_BATCH,
        exclusive: Callable[[I], object | None] = lambda _: None,
        connecting: Callable[[], bool] = lambda: False,
        at_end: Callable[[], None] = lambda: None,
    ) -> None:
        """`exclusive(item)`: two items with the same key other than None never share a batch.

        `connecting`: whether `run` is trying to reach the database just now. Otherwise it is at work there,
        however long that takes. `at_end` is the last thing that the thread does.
        """
        self.counts = BatchCounts()
        self.observe: Callable[[int, float], None] | None = None
        """told of each batch: how many items, and how many seconds it took"""
        self._run = run
        self._patience = patience
        self._largest = largest
        self._exclusive = exclusive
        self._connecting = connecting
        self._at_end = at_end
        self._items: deque[I] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._hurried = threading.Event()
        self._give_up_at = float("inf")
        """monotonic: from then on nothing is retried for a database that is away"""
        self._away = False
        """the last attempt did not reach the database"""
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def hurry(self) -> None:
        """The end is near: from now on, a database that is away is waited for HURRIED_PATIENCE at most.

        One that is there is not hurried: what was submitted is done.
        """
        if not self._hurried.is_set():
            self._give_up_at = time.monotonic() + HURRIED_PATIENCE
            self._hurried.set()

    def stop(self) -> None:
        """Run what has been submitted, then end. Later submissions are refused as Unavailable.

        A thread that is trying to reach a database that is away is left to itself when its time is up; it
        answers its callers and ends when the attempt has failed. One whose batch is merely slow is waited
        for.
        """
        self.hurry()
        with self._wake:
            self._stopping = True
            self._wake.notify()
        while self._thread.is_alive():
            self._thread.join(_LOOK_AGAIN)
            if time.monotonic() > self._give_up_at + _LOOK_AGAIN and self._connecting():
                break

    @property
    def alive(self) -> bool:
        """Whether the thread runs; False before `start`, too."""
        return self._thread.is_alive()

    def submit(self, *items: I) -> None:
        """Add items to the next batch. Safe from any thread."""
        with self._wake:
            if not self._stopping:
                self._items.extend(items)
                self._wake.notify()
                return
        delivery = Delivery()
        for item in items:
            delivery.settle(item.ticket, Unavailable("this replica is shutting down; try another"))
        delivery.flush()

    def _take(self) -> list[I]:
        with self._wake:
            while not self._items and not self._stopping:
                self._wake.wait()
            batch: list[I] = []
            later: list[I] = []
            seen: set[object] = set()
            while self._items and len(batch) < self._largest:
                item = self._items.popleft()
                key = self._exclusive(item)
                if key is not None and key in seen:
                    later.append(item)
                    continue
                seen.add(key)
                batch.append(item)
            self._items.extendleft(reversed(later))
            return batch

    def _loop(self) -> None:
        try:
            while batch := self._take():
                self._do(batch)
        finally:
            self._at_end()

    def _do(self, batch: list[I]) -> None:
        began = time.monotonic()
        delivery = Delivery()
        self._persist(batch, delivery)
        delivery.flush()
        seconds = time.monotonic() - began
        self.counts.batches += 1
        self.counts.items += len(batch)
        self.counts.seconds += seconds
        if self.observe is not None:
            self.observe(len(batch), seconds)

    def _persist(self, batch: list[I], delivery: Delivery) -> None:
        while batch:
            try:
                if self._given_up():  # each attempt may take long to fail
                    raise DatabaseBusyError("the database cannot be reached", 0.0, unknown=True)
                self._run(batch, delivery)
                self._away = False
                return
            except DatabaseBusyError as error:
                self._away = error.unknown
                batch = self._give_up_on_old(batch, delivery, error)
                delivery.flush()
                if batch:
                    self._pause(error.backoff)
            except SchedulerError as error:
                self._away = False
                if len(batch) == 1:
                    delivery.settle(batch[0].ticket, error)
                    return
                self._one_by_one(batch, delivery)
                return
            except Exception as error:  # the thread must live; the caller gets the error
                if len(batch) == 1:
                    log.exception("a request to the database failed")
                    delivery.settle(batch[0].ticket, error)
                    return
                self._one_by_one(batch, delivery)
                return

    def _one_by_one(self, batch: list[I], delivery: Delivery) -> None:
        for item in batch:
            self._persist([item], delivery)

    def _pause(self, seconds: float) -> None:
        """Until the next attempt; when the end comes near meanwhile, that is at once."""
        if self._hurried.is_set():
            time.sleep(min(seconds, _LOOK_AGAIN))
        else:
            self._hurried.wait(seconds)

    def _given_up(self) -> bool:
        return self._away and time.monotonic() > self._give_up_at

    def _give_up_on_old(self, batch: list[I], delivery: Delivery, error: DatabaseBusyError) -> list[I]:
        limit = time.monotonic() - (0.0 if self._given_up() else self._patience)
        young = [item for item in batch if item.submitted > limit]
        for item in batch:
            if item.submitted <= limit:
                delivery.settle(item.ticket, Unavailable(f"{error}; try again"))
        return young
