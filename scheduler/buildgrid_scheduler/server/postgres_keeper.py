"""Keeps the embedded PostgreSQL running: one that was killed is started again, in the same place."""

import logging
import threading
import time

from buildgrid_scheduler.core.errors import SchedulerError
from buildgrid_scheduler.store.embedded import EmbeddedPostgres

log = logging.getLogger(__name__)

LOOK_EVERY = 0.5  # seconds
FIRST_RETRY, LAST_RETRY = 0.5, 30.0
"""Seconds between two starts: the first comes at once, and each further one waits twice as long."""
STEADY_AFTER = 60.0
"""One that has run for this many seconds is not in a loop of crashes: its next end is a first one."""


class PostgresKeeper:
    """`start` once the PostgreSQL runs, `stop` before it is stopped. Both return within some seconds."""

    def __init__(self, embedded: EmbeddedPostgres) -> None:
        self._embedded = embedded
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._problem: str | None = None

    @property
    def problem(self) -> str | None:
        """Why the PostgreSQL does not run just now; None if it does, as far as was seen."""
        return self._problem

    def start(self) -> None:
        """Begin to look after it, on a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="postgres-keeper", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """From now on nothing starts it again. One that is being started has a few seconds to come up."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        wait, started = 0.0, time.monotonic()
        while not self._stopping.wait(LOOK_EVERY):
            if self._runs():
                self._problem = None
                continue
            if self._problem is None:
                self._say(f"in {self._embedded.folder} has ended without being told to; it is started again")
                if time.monotonic() - started > STEADY_AFTER:
                    wait = 0.0
            if self._stopping.wait(wait):
                return
            wait = min(max(wait * 2, FIRST_RETRY), LAST_RETRY)
            self._start_again(wait)
            started = time.monotonic()

    def _runs(self) -> bool:
        try:
            return self._embedded.running
        except SchedulerError as error:  # its folder cannot be read; starting it again says the same
            log.debug("the embedded PostgreSQL cannot be looked at: %s", error)
            return False

    def _start_again(self, next_try: float) -> None:
        began = time.monotonic()
        try:
            self._embedded.restart(self._stopping)
        except (SchedulerError, OSError) as error:
            if self._stopping.is_set():
                return
            self._say(f"in {self._embedded.folder} could not be started again yet: {error}")
            log.info("next try to start the embedded PostgreSQL in %.1f s", next_try)
            return
        except Exception:  # whatever it is, the next try may go well, and nobody else would make one
            log.exception("starting the embedded PostgreSQL again failed")
            return
        self._problem = None
        log.warning("the embedded PostgreSQL runs again, after %.1f s", time.monotonic() - began)

    def _say(self, what: str) -> None:
        told = f"the embedded PostgreSQL {what}"
        if told != self._problem:
            log.error(told)
        self._problem = told
