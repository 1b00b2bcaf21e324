"""When the cluster is listed again, although watches tell of what happens. It decides, and calls nothing."""

import threading
import time
from collections.abc import Callable
from datetime import timedelta

STARTING = timedelta(seconds=30)
"""in which all watches of a stream have begun"""
_BLIND = timedelta(seconds=20)
"""between lists while something may not be watched: a rule that is granted tells of no event"""

_PROBE = timedelta(seconds=10)
"""between looks whether the CRDs are there"""


class Probes:
    """When to look whether the CRDs are there, and whether to believe it: of one thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: seconds, from whenever."""
        self._clock = clock
        self._looked = clock()
        self._gone: list[str] = []

    def due(self) -> bool:
        """Whether to look now, which then counts as done."""
        now = self._clock()
        if now - self._looked < _PROBE.total_seconds():
            return False
        self._looked = now
        return True

    def found(self, gone: list[str]) -> bool:
        """Whether what is gone was gone already when it was looked at before: discovery may lag."""
        believed = bool(gone) and gone == self._gone
        self._gone = [] if believed else gone
        return believed


class ListTimes:
    """Thread-safe.

    Each watch begins with a list of its own, which does not show what was deleted since all was listed
    before. So all is listed once more when the watches of a stream have begun, and whenever a later one
    begins anew, besides every `relist`.
    """

    def __init__(self, relist: timedelta, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: seconds, from whenever."""
        self._relist = relist
        self._clock = clock
        self._lock = threading.Lock()
        self._listed = clock()
        self._starting_since: float | None = None
        self._missed = False

    def stream_begins(self) -> None:
        """All was listed; watches begin now."""
        with self._lock:
            self._starting_since = self._clock()

    def watch_listed(self) -> None:
        """A watch began, or began anew."""
        with self._lock:
            # While the stream starts, there will be a list anyway.
            if self._starting_since is None:
                self._missed = True

    def due(self, *, blind: bool) -> bool:
        """Whether to list now, which then counts as done until `failed`. `blind`: not all can be watched."""
        with self._lock:
            now = self._clock()
            if self._starting_since is not None and now - self._starting_since > STARTING.total_seconds():
                self._starting_since, self._missed = None, True
            every = min(self._relist, _BLIND) if blind else self._relist
            if not self._missed and now - self._listed < every.total_seconds():
                return False
            self._listed, self._missed = now, False
            return True

    def failed(self) -> None:
        """The list that was due could not be had: it is due still."""
        with self._lock:
            self._missed = True
