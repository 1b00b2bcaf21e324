"""Which parts of input trees were found complete a moment ago."""

import threading
from collections import OrderedDict
from collections.abc import Iterable

from buildgrid_scheduler.services.input_tree import Key

MOST_DIRECTORIES = 100_000
"""About 250 bytes each."""


class CompleteDirectories:
    """Directories that were there with all below them, each up to a time; the oldest go first. Thread-safe.

    Only presence is remembered, never absence: what is missing now may be uploaded in the next moment.
    """

    def __init__(self, most: int = MOST_DIRECTORIES) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._until: OrderedDict[Key, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._until)

    def until(self, key: Key, now: float) -> float | None:
        """Up to when the directory is believed to be complete; None when it is not (any more)."""
        until = self._until.get(key)
        return until if until is not None and until > now else None

    def add(self, keys: Iterable[Key], until: float) -> None:
        """These are complete, and believed to be up to then."""
        with self._lock:
            for key in keys:
                self._until[key] = until
                self._until.move_to_end(key)
            while len(self._until) > self._most:
                self._until.popitem(last=False)
