"""Waiting out an outage of a storage that is elsewhere, before anybody hears of it.

A call that failed for the network's reasons is made again, with growing, jittered pauses, for as long as the
outage is shorter than the tolerance. What counts as which:

- UNAVAILABLE, DEADLINE_EXCEEDED, ABORTED, CANCELLED: the server is away, too slow, or stopping. Waited out.
- INTERNAL, UNKNOWN: what proxies say for a cut connection, but servers also for their own faults.
  RESOURCE_EXHAUSTED: throttling, but also a full disk. UNAUTHENTICATED: a token that was just replaced, but
  also a wrong one. DATA_LOSS: bytes that were damaged on their way, but also in the storage. All of these get
  a few tries within a second, then they are told.
- Everything else is told at once.

An outage is the storage's, not a call's: a call that comes in its fourth minute waits for one more, not for
five, and one that comes when it has lasted for longer than the tolerance is tried once. So threads do not
pile up behind a storage that is gone.
"""

import logging
import random
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

import grpc
from buildgrid_client.retries import DOUBTFUL_TRIES, OUTAGE_CODES, backoff, retry_delay

from buildgrid_scheduler.core.errors import (
    DataLoss,
    NotFound,
    OutOfRange,
    PermissionDenied,
    ResourceExhausted,
    SchedulerError,
    Unavailable,
)

DEFAULT_TOLERANCE = timedelta(minutes=5)
# When nobody has tried for so long, in seconds, what was known of an outage is not known any more.
STALE_SECONDS = 30.0
_DOUBTFUL_HERE = frozenset(
    {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.DATA_LOSS}
)
_ERRORS: dict[grpc.StatusCode, type[SchedulerError]] = {
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.OUT_OF_RANGE: OutOfRange,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.UNAUTHENTICATED: PermissionDenied,
    grpc.StatusCode.DATA_LOSS: DataLoss,
}

T = TypeVar("T")
_log = logging.getLogger(__name__)


class CallFailed(Exception):
    """One try of one call, as the gRPC status that it ended with, or that says the same."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details


class Outages:
    """What is known of the outages of one storage. Thread-safe.

    `name` is how messages call the storage. `clock` counts seconds, from anywhere; `wait` waits for an event
    for so many of them, and tells whether it came.
    """

    def __init__(
        self,
        name: str,
        tolerance: timedelta = DEFAULT_TOLERANCE,
        *,
        clock: Callable[[], float] = time.monotonic,
        rand: Callable[[], float] = random.random,
        wait: Callable[[threading.Event, float], bool] = threading.Event.wait,
    ) -> None:
        self.name = name
        self.tolerance = tolerance
        self.clock = clock
        self.rand = rand
        self._wait = wait
        self._hurried = threading.Event()
        self._stopped = False
        self._lock = threading.Lock()
        self._since: float | None = None
        self._last_failure = 0.0

    def start(self) -> None:
        """Makes calls possible (again)."""
        self._stopped = False
        self._hurried.clear()

    def stop_waiting(self) -> None:
        """Ends all waiting: those who wait, and whoever would, get Unavailable. Calls still work."""
        self._hurried.set()

    def stop(self) -> None:
        """Ends everything: whoever calls gets Unavailable."""
        self._stopped = True
        self._hurried.set()

    def check_running(self) -> None:
        """Raises Unavailable once stopped."""
        if self._stopped:
            raise self._stopping()

    def _stopping(self) -> Unavailable:
        return Unavailable(f"{self.name} does not answer, and this server is stopping: ask another one")

    def retrying(
        self,
        what: str,
        call: Callable[[], T],
        *,
        tolerance: timedelta | None = None,
        failure: CallFailed | None = None,
    ) -> T:
        """The result of the call, made again as long as it raises a CallFailed that is worth it.

        `what` completes "cannot ..."; a `tolerance` of its own replaces the storage's; `failure` is what a
        first try, made otherwise, has ended with.
        """
        attempts = self.attempts(what, tolerance)
        if failure is not None:
            attempts.failed(failure)
        while True:
            attempts.begin()
            try:
                result = call()
            except CallFailed as again:
                attempts.failed(again)
            else:
                attempts.succeeded()
                return result

    def attempts(self, what: str, tolerance: timedelta | None = None) -> "Attempts":
        """The tries of one call, for those who need the loop in their own hands."""
        return Attempts(self, what, self.tolerance if tolerance is None else tolerance)

    def _failed(self, began: float, now: float) -> float:
        """Notes a failure of a try that began then; returns when the outage began."""
        with self._lock:
            if self._since is None or began - self._last_failure > STALE_SECONDS:
                self._since = now
            self._last_failure = now
            return self._since

    def _succeeded(self) -> None:
        if self._since is None:  # the usual case, without the lock: a race only ends an outage one call later
            return
        with self._lock:
            since, self._since = self._since, None
        if since is not None:
            _log.info("%s answers again, after %.1f s", self.name, self.clock() - since)

    def _pause(self, seconds: float) -> None:
        if self._wait(self._hurried, seconds):
            raise self._stopping()


class Attempts:
    """The tries of one call. One thread at a time."""

    def __init__(self, outages: Outages, what: str, tolerance: timedelta) -> None:
        self._outages = outages
        self._what = what
        self._tolerance = tolerance.total_seconds()
        self._failures = 0
        self._first_failure: float | None = None
        self._began = outages.clock()

    def begin(self) -> None:
        """Called before each try. Unavailable once the storage was stopped."""
        self._outages.check_running()
        self._began = self._outages.clock()

    def progressed(self) -> None:
        """Part of a long call got through: what failed before has been overcome."""
        self._failures = 0
        self._first_failure = None
        self._outages._succeeded()

    def succeeded(self) -> None:
        """The call is done."""
        self._outages._succeeded()

    def failed(self, failure: CallFailed) -> None:
        """Returns when it is time for the next try, or raises the error to tell."""
        now = self._outages.clock()
        self._failures += 1
        if self._first_failure is None:
            self._first_failure = now
        since = self._first_failure
        if failure.code in OUTAGE_CODES:
            outage_since = self._outages._failed(self._began, now)
            if outage_since == now and self._failures == 1:
                self._log_outage(failure)
            since = min(since, outage_since)
        delay = self._delay(failure.code, now - since)
        if delay is None:
            raise self._error(failure, now - since) from failure
        self._outages._pause(delay)

    def _delay(self, code: grpc.StatusCode, waited: float) -> float | None:
        rand = self._outages.rand
        if code in _DOUBTFUL_HERE:
            return backoff(self._failures, rand=rand) if self._failures < DOUBTFUL_TRIES else None
        return retry_delay(code, self._failures, waited, self._tolerance, rand)

    def _log_outage(self, failure: CallFailed) -> None:
        _log.warning(
            "cannot %s (%s: %s); waiting for %s for up to %.0f s",
            self._what,
            failure.code.name,
            failure.details,
            self._outages.name,
            self._tolerance,
        )

    def _error(self, failure: CallFailed, waited: float) -> SchedulerError:
        message = f"cannot {self._what} in {self._outages.name}: {failure.code.name}: {failure.details}"
        if failure.code in OUTAGE_CODES:
            return Unavailable(
                f"{message}; away for {waited:.0f} s, and {self._tolerance:.0f} s are tolerated"
            )
        # Not the storage's own code: INVALID_ARGUMENT would blame the caller, FAILED_PRECONDITION means
        # missing blobs to a client.
        return _ERRORS.get(failure.code, SchedulerError)(message)
