"""Items for a service that is not ours: bounded in number and time, sent in the background, best effort."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

from buildgrid_scheduler.outgoing.complaints import Complaints

log = logging.getLogger(__name__)
T = TypeVar("T")

DRAIN_SECONDS = 5.0


class OutboxCounts(NamedTuple):
    """What became of the items so far."""

    sent: int
    failed: int
    """`send` raised an error: logged, not tried again"""
    dropped: int
    """there was no room, or no time before the end"""
    waiting: int


class Outbox(Generic[T]):
    """Items wait in memory for threads that send them.

    `put` never blocks and never fails: a service that is down, slow or refusing costs items, which are
    counted and logged, and nothing else. `send` bounds its own time.
    """

    def __init__(
        self, name: str, send: Callable[[T], None], *, capacity: int = 10_000, threads: int = 1
    ) -> None:
        """`name` is for logs and metrics; at most `capacity` items wait."""
        self.name = name
        self._send = send
        self._capacity = capacity
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._abandoned = False
        self._sent = self._failed = self._dropped = 0
        self._failures = Complaints(log, f"{name}: not sent")
        self._drops = Complaints(log, f"{name}: dropped")
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}-{n}", daemon=True) for n in range(threads)
        ]

    def start(self) -> None:
        """Start the threads. What was put before is sent, too."""
        for thread in self._threads:
            thread.start()

    def put(self, item: T) -> bool:
        """Have an item sent; False when it is dropped."""
        with self._changed:
            if self._closing or len(self._items) >= self._capacity:
                self._dropped += 1
                reason = "the server stops" if self._closing else f"{self._capacity} items wait already"
            else:
                self._items.append(item)
                self._changed.notify()
                return True
        self._drops.add(reason)
        return False

    def stop(self, drain: float = DRAIN_SECONDS) -> None:
        """Send what waits, for at most `drain` seconds; the rest is dropped. Further items are, too."""
        deadline = time.monotonic() + drain
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        with self._changed:
            self._abandoned = True
            left = len(self._items)
            self._items.clear()
            self._dropped += left
        if left:
            self._drops.add(f"{left} items could not be sent before the end")
        self._failures.finish()
        self._drops.finish()

    def counts(self) -> OutboxCounts:
        """What became of the items so far."""
        with self._changed:
            return OutboxCounts(self._sent, self._failed, self._dropped, len(self._items))

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._items and not self._closing:
                    self._changed.wait()
                if self._abandoned or not self._items:
                    return
                item = self._items.popleft()
            try:
                self._send(item)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next item is to be sent, too
                with self._changed:
                    self._failed += 1
                self._failures.add(error)
            else:
                with self._changed:
                    self._sent += 1
