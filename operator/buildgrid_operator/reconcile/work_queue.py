"""The work queue: keys in, one pass at a time for each, several keys at once, failures again after a while.

Level-triggered: a key says only that something about an object may have changed; the pass looks for itself.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, Protocol

from buildgrid_operator.cluster.errors import ClusterError
from buildgrid_operator.reconcile.key_states import Figures, K, KeyStates, Pace

_log = logging.getLogger(__name__)

WORKERS = 8
"""passes at once: most of one is waiting for the API server, or for replicas, which may never answer"""
GRACE = timedelta(seconds=20)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a pass ended well. `again_after`: sooner than the resync. `gone`: there is no object."""

    again_after: timedelta | None = None
    gone: bool = False


DONE = Outcome()
GONE = Outcome(gone=True)


class PassObserver(Protocol):
    """Is told of every pass, for metrics."""

    def __call__(self, key: object, seconds: float, error: Exception | None) -> None:
        """A pass ended; `error` is what it failed with."""


def _nobody(key: object, seconds: float, error: Exception | None) -> None:
    """Nobody asks."""


class WorkQueue(Generic[K]):
    """Runs `handler` for keys, `workers` of them at once. When it raises, it is called again after a while.

    A ClusterError is told in a line, and its retry_after is kept to. All else is a bug: told with its trace.
    """

    def __init__(
        self,
        handler: Callable[[K], Awaitable[Outcome]],
        *,
        workers: int = WORKERS,
        pace: Pace | None = None,
        observe: PassObserver = _nobody,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        randomness: Callable[[], float] = random.random,
    ) -> None:
        self._handler = handler
        self._workers = workers
        self._observe = observe
        self._clock = clock
        self._sleep = sleep
        self._states: KeyStates[K] = KeyStates(pace or Pace(), randomness)
        self._running: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self.retries = 0
        """passes that failed so far"""

    def add(self, key: K) -> None:
        """Look at the key soon. On the event loop; also before `run`."""
        self._states.add(key, self._clock())
        self._wake.set()

    def add_after(self, key: K, delay: timedelta) -> None:
        """Look at the key after `delay` at the latest. On the event loop."""
        self._states.add_after(key, delay.total_seconds(), self._clock())
        self._wake.set()

    def add_from_thread(self, key: K) -> None:
        """As `add`, from any thread, while `run` runs."""
        if self._loop is None:
            raise RuntimeError("the queue does not run; use add")
        # The loop may end at any time; then there is nothing to look at any more.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self.add, key)

    def figures(self) -> Figures:
        """What the queue is like now."""
        return self._states.figures(self._clock())

    def stop(self) -> None:
        """Begin no pass any more; `run` returns when those that run have ended. Keys that wait are dropped:
        whoever comes next looks at all objects."""
        self._stopping = True
        self._wake.set()

    async def run(self, grace: timedelta = GRACE) -> None:
        """Work until `stop`; passes that then need longer than `grace` are cancelled. Once only.

        Cancelled itself, it cancels all passes at once.
        """
        self._loop = asyncio.get_running_loop()
        try:
            while not self._stopping:
                self._wake.clear()
                self._begin_passes()
                await self._wait()
            if self._running:
                await asyncio.wait(self._running, timeout=grace.total_seconds())
        finally:
            await self._cancel()

    def _begin_passes(self) -> None:
        while len(self._running) < self._workers:
            key = self._states.take(self._clock())
            if key is None:
                return
            task = asyncio.create_task(self._pass(key), name=f"pass {key}")
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._wake.set()

    async def _wait(self) -> None:
        """Until something was added or ended, or a key is due that could run."""
        waits: list[asyncio.Future[object]] = [asyncio.ensure_future(self._wake.wait())]
        due = self._states.next_due() if len(self._running) < self._workers else None
        if due is not None:
            waits.append(asyncio.ensure_future(self._sleep(max(0.0, due - self._clock()))))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _pass(self, key: K) -> None:
        start = self._clock()
        error: Exception | None = None
        outcome = DONE
        try:
            outcome = await self._handler(key)
        except Exception as failure:  # noqa: BLE001 - one key's bug must not stop the others; it is logged
            error = failure
        now = self._clock()
        self._observe(key, now - start, error)
        if error is not None:
            self._failed(key, error, now)
        elif outcome.gone:
            self._states.gone(key, now)
        else:
            again = None if outcome.again_after is None else outcome.again_after.total_seconds()
            self._states.succeeded(key, now, again)

    def _failed(self, key: K, error: Exception, now: float) -> None:
        self.retries += 1
        asked = error.retry_after if isinstance(error, ClusterError) else None
        wait = self._states.failed(key, now, asked.total_seconds() if asked else 0.0)
        if isinstance(error, ClusterError):
            _log.warning("the pass of %s failed: %s; again in %.1f s", key, error, wait)
        else:
            _log.error("the pass of %s failed; again in %.1f s", key, wait, exc_info=error)

    async def _cancel(self) -> None:
        tasks = list(self._running)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
