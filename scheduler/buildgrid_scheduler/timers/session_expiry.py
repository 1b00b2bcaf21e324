"""Closes bot sessions that have expired."""

import logging
import threading
from collections.abc import Callable

from buildgrid_scheduler.core.errors import SchedulerError

log = logging.getLogger(__name__)


class SessionExpiryTimer:
    """A thread that calls `reap` every `interval` seconds, and again at once while there is more to do.

    With an `interval` of 0 or less, `start` does nothing.
    """

    def __init__(self, reap: Callable[[], bool], interval: float) -> None:
        self._reap = reap
        self._interval = interval
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="session-expiry", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        if self._interval > 0:
            self._thread.start()

    def stop(self) -> None:
        """End after the call that is under way."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        self.run(self._stopping)

    def run(self, shutdown_requested: threading.Event) -> None:
        """The loop itself; logs errors and goes on."""
        while not shutdown_requested.wait(self._interval):
            try:
                while self._reap() and not shutdown_requested.is_set():
                    pass
            except SchedulerError as error:
                log.warning(
                    "expired sessions could not be closed, next try in %g s: %s", self._interval, error
                )
            except Exception:  # the thread must live: there may be no other replica to do this
                log.exception("expired sessions could not be closed, next try in %g s", self._interval)
