"""What a storage elsewhere has said to hold, for a little while."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from datetime import timedelta

# About 200 bytes each.
MOST_BLOBS = 200_000


class ConfirmedBlobs:
    """Keys (HASH/SIZE) that are believed for `lifetime`. Bounded, thread-safe.

    Only presence is remembered, never absence: what is missing now may be uploaded in the next moment.
    """

    def __init__(
        self,
        lifetime: timedelta,
        *,
        most: int = MOST_BLOBS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._lifetime = lifetime.total_seconds()
        self._most = most
        self._clock = clock
        self._lock = threading.Lock()
        # Oldest confirmation first.
        self._until: OrderedDict[str, float] = OrderedDict()

    def add(self, keys: Iterable[str]) -> None:
        """These were seen just now."""
        until = self._clock() + self._lifetime
        with self._lock:
            for key in keys:
                self._until[key] = until
                self._until.move_to_end(key)
            while len(self._until) > self._most:
                self._until.popitem(last=False)

    def discard(self, key: str) -> None:
        """This one turned out to be missing."""
        with self._lock:
            self._until.pop(key, None)

    def among(self, keys: Iterable[str]) -> set[str]:
        """Those that are believed to be there."""
        now = self._clock()
        with self._lock:
            return {key for key in keys if self._until.get(key, 0.0) > now}
