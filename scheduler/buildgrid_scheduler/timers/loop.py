"""A thread that does something every now and then."""

import logging
import random
import threading
from collections.abc import Callable, Iterator

from buildgrid_scheduler.core.errors import SchedulerError

log = logging.getLogger(__name__)

Round = Callable[[], Iterator[int]]
"""Begins a round. Each draw is a short step, and says how much it did; the round is over when it ends."""

STOP_WITHIN = 1.0
"""Seconds that a stop waits for a step: a transaction, which does no harm if it ends later, or never."""
_LOOK_AGAIN = 5.0
"""Seconds after which a changed interval is noticed."""


class TimerLoop:
    """Runs a round every `interval` seconds, on a thread of its own or on the caller's.

    With an interval of 0 or less it is not run. Replicas do not run in step: the first round comes after half
    an interval to a whole one, the others after about one.
    """

    def __init__(self, work: Round, interval: float, what: str) -> None:
        """`what` is done, for the log: "expired sessions were closed"."""
        self._work = work
        self._interval = interval
        self._what = what
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, if there is anything to do and none runs."""
        with self._lock:
            if self._interval > 0 and self._thread is None and not self._stopping.is_set():
                self._thread = threading.Thread(target=self._run, name=f"timer: {self._what}", daemon=True)
                self._thread.start()

    def ask_to_stop(self) -> None:
        """End after the step that is under way; does not wait for that."""
        self._stopping.set()

    def stop(self, within: float = STOP_WITHIN) -> None:
        """End after the step that is under way. Returns after so many seconds at the latest."""
        self.ask_to_stop()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(within)

    def change_interval(self, interval: float) -> None:
        """From now on, in seconds; a thread that runs ends at 0 or less."""
        with self._lock:
            self._interval = interval

    def _run(self) -> None:
        while True:
            self.run(self._stopping)
            with self._lock:
                if self._stopping.is_set() or self._interval <= 0:
                    self._thread = None
                    return

    def run(self, shutdown_requested: threading.Event) -> None:
        """The loop itself, until the event is set; logs errors and goes on."""
        share = random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
        while self._pause(shutdown_requested, share):
            self._round(shutdown_requested)
            share = random.uniform(0.9, 1.1)  # noqa: S311

    def _pause(self, shutdown_requested: threading.Event, share: float) -> bool:
        """Wait for a share of the interval; False if there is to be no round after it."""
        waited = 0.0
        while self._interval > 0 and (left := self._interval * share - waited) > 0:
            part = min(left, _LOOK_AGAIN)
            if shutdown_requested.wait(part):
                return False
            waited += part
        return self._interval > 0

    def _round(self, shutdown_requested: threading.Event) -> None:
        done = 0
        try:
            for number in self._work():
                done += number
                if shutdown_requested.is_set():
                    break
        except SchedulerError as error:
            log.warning("%s: failed, next try in %g s: %s", self._what, self._interval, error)
        except Exception:  # the thread must live: there may be no other replica to do this
            log.exception("%s: failed, next try in %g s", self._what, self._interval)
        if done:
            log.info("%s: %d", self._what, done)
