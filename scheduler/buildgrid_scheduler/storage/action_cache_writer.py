"""Results on their way to an action cache that is elsewhere, beside the thread that completes jobs.

The cache only saves work: a job never waits for it, and never fails because of it. What finds no room while
the cache is slow or away is dropped, and counted.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from buildgrid_client.digests import parse_digest
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import ActionResult, Digest

from buildgrid_scheduler.core.errors import Unavailable
from buildgrid_scheduler.storage.action_cache_abc import ActionCacheABC

# An outage of a minute at a hundred jobs a second; results have a few kilobytes, rarely megabytes.
MOST_RESULTS = 10_000
MOST_BYTES = 64 * 1024**2
# Seconds that `stop` waits for what is queued.
DRAIN_SECONDS = 3.0
# What goes to the cache in one call.
_BATCH = 64
# Losses are told once in so many seconds, with their number.
_LOG_INTERVAL = 30.0

_log = logging.getLogger(__name__)


class _Queued(NamedTuple):
    instance: str
    key: str
    result: bytes


class ActionCacheWriter:
    """A bounded queue and a thread. The cache is started before it and stopped after it, by its owner."""

    def __init__(
        self,
        cache: ActionCacheABC,
        *,
        most_results: int = MOST_RESULTS,
        most_bytes: int = MOST_BYTES,
        drain_seconds: float = DRAIN_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cache = cache
        self._most_results = most_results
        self._most_bytes = most_bytes
        self._drain_seconds = drain_seconds
        self._clock = clock
        self._changed = threading.Condition()
        self._queue: deque[_Queued] = deque()
        self._bytes = 0
        self._stopping = False
        self._dropped = 0
        self._untold = 0
        self._tell_at = float("-inf")
        self._thread: threading.Thread | None = None

    @property
    def dropped(self) -> int:
        """Results that did not reach the cache, since the beginning."""
        return self._dropped

    @property
    def waiting(self) -> int:
        """Results in the queue."""
        return len(self._queue)

    def start(self) -> None:
        """Begins to write."""
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="action-cache-writer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Writes what is queued for up to `drain_seconds`, then drops the rest."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(self._drain_seconds)
            self._thread = None
        with self._changed:
            left = len(self._queue)
            self._queue.clear()
            self._bytes = 0
        if left:
            self._lost(left, "this server stops")

    def submit(self, instance: str, digest_key: str, serialized_result: bytes) -> None:
        """Queues an ActionResult for an action (HASH/SIZE). Never blocks and never raises."""
        item = _Queued(instance, digest_key, serialized_result)
        with self._changed:
            room = (
                len(self._queue) < self._most_results and self._bytes + len(item.result) <= self._most_bytes
            )
            if room and not self._stopping:
                self._queue.append(item)
                self._bytes += len(item.result)
                self._changed.notify()
                return
        self._lost(1, "the queue is full" if not room else "this server stops")

    def _run(self) -> None:
        while batch := self._next_batch():
            by_instance: dict[str, list[_Queued]] = {}
            for item in batch:
                by_instance.setdefault(item.instance, []).append(item)
            for instance, items in by_instance.items():
                self._write(instance, items)

    def _next_batch(self) -> list[_Queued]:
        """What is queued, in order; empty when it is time to end."""
        with self._changed:
            while not self._queue and not self._stopping:
                self._changed.wait()
            batch = [self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))]
            self._bytes -= sum(len(item.result) for item in batch)
            return batch

    def _write(self, instance: str, items: list[_Queued]) -> None:
        """All at once; one by one when the cache refuses something, since the others may be welcome."""
        try:
            self._cache.update_many(instance, [_entry(item) for item in items])
            return
        except Unavailable as error:
            self._lost(len(items), str(error))
            return
        except Exception as error:  # noqa: BLE001 - whatever ails the cache, the job is complete
            if len(items) == 1:
                self._lost(1, str(error))
                return
        for item in items:
            self._write(instance, [item])

    def _lost(self, count: int, reason: str) -> None:
        with self._changed:
            self._dropped += count
            self._untold += count
            now = self._clock()
            if now < self._tell_at:
                return
            self._tell_at = now + _LOG_INTERVAL
            untold, self._untold = self._untold, 0
        _log.warning(
            "%d results were not stored in the action cache (%d so far); the last: %s",
            untold,
            self._dropped,
            reason,
        )


def _entry(item: _Queued) -> tuple[Digest, ActionResult]:
    return parse_digest(item.key), ActionResult.FromString(item.result)
