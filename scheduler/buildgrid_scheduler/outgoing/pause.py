"""A service that fails again and again is left alone for a while."""

import threading
import time
from collections.abc import Callable


class Pause:
    """For services on which somebody waits: without it each caller would wait in vain. Thread-safe."""

    def __init__(
        self, *, failures: int = 3, seconds: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """After `failures` in a row there is a pause of `seconds`; another one after each further failure."""
        self._limit = failures
        self._seconds = seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._in_a_row = 0
        self._until = float("-inf")

    def active(self) -> bool:
        """Whether the service is not to be asked now."""
        return self._clock() < self._until

    def failed(self) -> None:
        """The service did not answer, or not as it should."""
        with self._lock:
            self._in_a_row += 1
            if self._in_a_row >= self._limit:
                self._until = self._clock() + self._seconds

    def answered(self) -> None:
        """The service works."""
        with self._lock:
            self._in_a_row = 0
            self._until = float("-inf")
