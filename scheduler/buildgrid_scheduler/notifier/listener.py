"""The ear of a replica: hears what other replicas notify, and looks for itself in case it did not."""

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any, Protocol

import psycopg

from buildgrid_scheduler.notifier.messages import CHANNEL, decode, encode
from buildgrid_scheduler.store.provider import SqlProvider

log = logging.getLogger(__name__)
APPLICATION_NAME = "buildgrid-scheduler-listener"
_RETRY = 1.0  # seconds between attempts to reach the database
_LEAVE_AFTER = 2.0  # seconds; far above _STOP_WITHIN
_STOP_WITHIN = 0.5  # seconds; a connection that waits for notifications cannot be woken
_COUNT_LISTENERS = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = %s
"""


class Hearer(Protocol):
    """Who is told."""

    origin: str
    peers: bool

    def tell_arrivals(self, keys: Sequence[tuple[str, str]]) -> None:
        """Jobs with these (instance, requirement hash) began to wait."""
        ...

    def poke(self, sessions: Sequence[str]) -> None:
        """These bot sessions have something to be told."""
        ...

    def jobs_changed(self, jobs: Sequence[str] | None) -> None:
        """These jobs changed; None: any may have."""
        ...

    def look_for_work(self) -> None:
        """Jobs may wait that nobody told of."""
        ...

    def catch_up(self) -> None:
        """Anything may have happened that nobody told of."""
        ...


class Listener:
    """A thread with a connection that listens.

    Every `interval` seconds it lets the hearer look for waiting jobs, which makes up for lost
    notifications; with `listen` False it does only that, and lets it look at all watched jobs too.
    """

    def __init__(
        self, provider: SqlProvider, hearer: Hearer, *, interval: float = 1.0, listen: bool = True
    ) -> None:
        self._provider = provider
        self._hearer = hearer
        self._interval = interval
        self._listen = listen
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="listener", daemon=True)
        self.heard_once = threading.Event()
        """set when the first connection listens"""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End within a second; a thread that tries to reach a database that is away is left to itself."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_LEAVE_AFTER)

    def _loop(self) -> None:
        quiet = False
        while not self._stopping.is_set():
            try:
                connection = self._provider.connect(autocommit=True, application_name=APPLICATION_NAME)
                with connection:
                    quiet = False
                    self._serve(connection)
            except psycopg.Error as error:
                if not quiet:
                    log.warning("the listener lost the database, and tries again: %s", error)
                quiet = True
                self._stopping.wait(_RETRY)
            except Exception:  # a replica that stops listening would go unnoticed
                log.exception("the listener failed, and starts again")
                self._stopping.wait(_RETRY)

    def _serve(self, connection: psycopg.Connection[Any]) -> None:
        if self._listen:
            connection.execute(f"LISTEN {CHANNEL}")
            for payload in encode(self._hearer.origin, hello=True):
                connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, payload))
        # What was said while nobody listened is lost: look at everything once.
        self._hearer.catch_up()
        self.heard_once.set()
        greeted = False
        while not self._stopping.is_set():
            self._hearer.look_for_work()
            if self._listen:
                self._count_peers(connection)
                self._hear_all(connection)
                if not greeted:  # another replica may have committed something before it heard the hello
                    self._hearer.catch_up()
                    greeted = True
            else:
                self._stopping.wait(self._interval)
                self._hearer.jobs_changed(None)

    def _hear_all(self, connection: psycopg.Connection[Any]) -> None:
        """Hear what is notified until it is time to look again."""
        look_again = time.monotonic() + self._interval
        while not self._stopping.is_set() and (left := look_again - time.monotonic()) > 0:
            for notification in connection.notifies(timeout=min(left, _STOP_WITHIN)):
                self._hear(notification.payload)

    def _count_peers(self, connection: psycopg.Connection[Any]) -> None:
        row = connection.execute(_COUNT_LISTENERS, (APPLICATION_NAME,)).fetchone()
        self._hearer.peers = row is None or row[0] > 1

    def _hear(self, payload: str) -> None:
        try:
            message = decode(payload)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("a notification on channel %s is not ours: %s", CHANNEL, error)
            return
        if message.origin == self._hearer.origin:
            return
        if message.hello:
            self._hearer.peers = True
        if message.jobs:
            self._hearer.jobs_changed(message.jobs)
        if message.sessions:
            self._hearer.poke(message.sessions)
        if message.arrivals:
            self._hearer.tell_arrivals(message.arrivals)
