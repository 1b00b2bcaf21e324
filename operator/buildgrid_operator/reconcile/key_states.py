"""Which key is to be looked at next, and when: the work queue without its tasks. Nothing here waits.

Times are seconds of a clock that only goes forward.
"""

import heapq
import itertools
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
_SLACK = 64
"""entries that are left over before they are cleared away"""


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast keys come, and come again."""

    settle: timedelta = timedelta(milliseconds=100)
    """from a change to its pass: changes that come together are one"""
    spacing: timedelta = timedelta(seconds=1)
    """between the beginnings of two passes of a key, however often it changes, also while it fails"""
    backoff: timedelta = timedelta(seconds=1)
    """after the first failure; it doubles with each further one"""
    longest_backoff: timedelta = timedelta(minutes=5)
    resync: timedelta = timedelta(minutes=10)
    """after a success, also when nothing changes"""
    jitter: float = 0.1
    """share by which backoff and resync differ at random, either way"""

    def backoff_after(self, failures: int, random: float) -> float:
        """Seconds to wait after so many failures in a row (1 or more). `random` is in [0, 1)."""
        # 2.0 ** 60 is years; more would overflow for a key that fails for ever.
        seconds = self.backoff.total_seconds() * 2.0 ** min(failures - 1, 60)
        return self._jittered(min(seconds, self.longest_backoff.total_seconds()), random)

    def resync_after(self, random: float) -> float:
        """Seconds to the next pass of a key that is as it should be."""
        return self._jittered(self.resync.total_seconds(), random)

    def _jittered(self, seconds: float, random: float) -> float:
        return seconds * (1 + self.jitter * (2 * random - 1))


@dataclass(slots=True)
class _Key:
    due: float | None = None
    asked: float | None = None
    """since when a change or a retry waits; None when only the resync is due one day"""
    running: bool = False
    dirty: bool = False
    """it changed while its pass ran"""
    started: float | None = None
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Figures:
    """What the queue is like, for metrics. `waiting` is due or settles; `failing` waits for its retry."""

    waiting: int
    running: int
    failing: int
    known: int
    oldest_seconds: float
    """how long the oldest of `waiting` has waited"""


class KeyStates(Generic[K]):
    """A key is waiting, running, or running and dirty; between passes it waits for its resync."""

    def __init__(self, pace: Pace, random: Callable[[], float]) -> None:
        self._pace = pace
        self._random = random
        self._keys: dict[K, _Key] = {}
        # (due, tie-break, key); an entry that does not say what its key says is left over, and skipped.
        self._due: list[tuple[float, int, K]] = []
        self._ties = itertools.count()

    def add(self, key: K, now: float) -> None:
        """Something changed. While the key waits that is no news; while it runs it runs once more."""
        state = self._keys.setdefault(key, _Key())
        if state.running:
            state.dirty = True
            return
        if state.asked is None:
            state.asked = now
        self._earlier(key, state, self._soonest(state, now))

    def add_after(self, key: K, delay: float, now: float) -> None:
        """Look at the key in `delay` seconds at the latest. While it runs: not before it ended."""
        state = self._keys.setdefault(key, _Key())
        if not state.running:
            self._earlier(key, state, now + delay)

    def take(self, now: float) -> K | None:
        """The key that is due and has been so for longest; it runs from now on. None: none is due."""
        while self._due and self._due[0][0] <= now:
            due, _, key = heapq.heappop(self._due)
            state = self._keys.get(key)
            if state is None or state.running or state.due != due:
                continue
            state.due = state.asked = None
            state.running, state.dirty = True, False
            state.started = now
            return key
        return None

    def next_due(self) -> float | None:
        """When `take` will have something, if nothing is added."""
        while self._due:
            due, _, key = self._due[0]
            state = self._keys.get(key)
            if state is not None and not state.running and state.due == due:
                return due
            heapq.heappop(self._due)
        return None

    def succeeded(self, key: K, now: float, again_after: float | None = None) -> None:
        """The pass ended. It comes again after `again_after` seconds, or for its resync."""
        state = self._keys[key]
        state.failures = 0
        self._ended(key, state, now)
        wait = self._pace.resync_after(self._random())
        if again_after is not None and again_after < wait:
            wait = max(again_after, 0.0)
        self._earlier(key, state, now + wait)

    def failed(self, key: K, now: float, not_before: float = 0.0) -> float:
        """The pass failed. Returns the seconds to the retry, which are at least `not_before`."""
        state = self._keys[key]
        state.failures += 1
        wait = max(self._pace.backoff_after(state.failures, self._random()), not_before)
        # A change that came meanwhile may be the cure, and may as well be our own doing: it is tried, but no
        # sooner than the spacing allows, nor than the API server asked for.
        if state.dirty and not not_before:
            wait = min(wait, self._soonest(state, now) - now)
        state.running = state.dirty = False
        state.asked = now
        self._earlier(key, state, now + wait)
        return wait

    def gone(self, key: K, now: float) -> None:
        """The pass ended, and found no object: no resync. A change that came meanwhile is still looked at."""
        state = self._keys[key]
        if state.dirty:
            state.failures = 0
            self._ended(key, state, now)
        else:
            del self._keys[key]

    def figures(self, now: float) -> Figures:
        """What it is like now."""
        waiting = running = failing = 0
        oldest = now
        # Metrics are scraped on another thread: a copy does not change meanwhile.
        for state in list(self._keys.values()):
            running += state.running
            failing += state.failures > 0
            if not state.running and state.asked is not None and not state.failures:
                waiting += 1
                oldest = min(oldest, state.asked)
        return Figures(waiting, running, failing, len(self._keys), now - oldest)

    def _ended(self, key: K, state: _Key, now: float) -> None:
        state.running = False
        if state.dirty:
            state.dirty = False
            state.asked = now
            self._earlier(key, state, self._soonest(state, now))

    def _soonest(self, state: _Key, now: float) -> float:
        soonest = now + self._pace.settle.total_seconds()
        if state.started is not None:
            soonest = max(soonest, state.started + self._pace.spacing.total_seconds())
        return soonest

    def _earlier(self, key: K, state: _Key, due: float) -> None:
        if state.due is None or due < state.due:
            state.due = due
            heapq.heappush(self._due, (due, next(self._ties), key))
            if len(self._due) > 2 * len(self._keys) + _SLACK:
                self._compact()

    def _compact(self) -> None:
        """Forget what is left over, of which a busy key makes an entry with each pass."""
        self._due = [
            (state.due, next(self._ties), key) for key, state in self._keys.items() if state.due is not None
        ]
        heapq.heapify(self._due)
