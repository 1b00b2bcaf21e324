"""Log lines about a service that keeps failing: the first at once, then a summary now and then."""

import logging
import threading
import time
from collections.abc import Callable

import grpc


class Complaints:
    """One kind of trouble. Thread-safe."""

    def __init__(
        self,
        log: logging.Logger,
        what: str,
        *,
        interval: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`what` begins each line; at most one line is logged in `interval` seconds."""
        self._log = log
        self._what = what
        self._interval = interval
        self._clock = clock
        self._lock = threading.Lock()
        self._untold = 0
        self._quiet_until = float("-inf")
        self._latest = ""

    def add(self, reason: object) -> None:
        """It happened again, because of `reason`."""
        with self._lock:
            self._untold += 1
            self._latest = describe(reason)
            if self._clock() < self._quiet_until:
                return
            self._tell()

    def finish(self) -> None:
        """Log what has not been told yet."""
        with self._lock:
            if self._untold:
                self._tell()

    def _tell(self) -> None:
        times = "" if self._untold == 1 else f" ({self._untold} times since the last such line)"
        self._log.warning("%s%s: %s", self._what, times, self._latest)
        self._untold = 0
        self._quiet_until = self._clock() + self._interval


def describe(reason: object) -> str:
    """One line for a log: an error with its kind, a failed call with its gRPC status."""
    if isinstance(reason, grpc.Call):
        text = f"{reason.code().name}: {reason.details()}"
    elif isinstance(reason, BaseException):
        text = f"{type(reason).__name__}: {reason}"
    else:
        text = str(reason)
    return " ".join(text.split())[:500]
