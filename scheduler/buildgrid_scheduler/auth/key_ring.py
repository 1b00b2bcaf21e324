"""The current keys of one issuer, fetched on a thread of their own so that no call waits for a file or URL
whose key is known."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from datetime import timedelta

from buildgrid_scheduler.auth.key_set import NO_KEYS, KeySet, UnusableKeysError
from buildgrid_scheduler.auth.key_sources import KeySource

log = logging.getLogger(__name__)

_STOP_WITHIN = 1.0


class KeyRing:
    """Keys are fetched at start, every `refresh_interval`, and when somebody asks for a key that is not here,
    then at most once in `min_interval`, however many ask. The last good ones stay while fetching fails.

    `keys` and `generation` (which grows whenever the keys change) may be read from any thread.
    """

    def __init__(
        self,
        name: str,
        source: KeySource,
        *,
        refresh_interval: timedelta,
        min_interval: timedelta,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.keys: KeySet = NO_KEYS
        self.generation = 0
        self._source = source
        self._refresh_interval = refresh_interval.total_seconds()
        self._min_interval = min_interval.total_seconds()
        self._monotonic = monotonic
        self._condition = threading.Condition()
        self._pending: Future[None] | None = None
        self._asked = False
        self._fetched_at: float | None = None
        self._failures = 0
        self._failure: str | None = "not fetched yet"
        self._stopping = False
        self._thread: threading.Thread | None = None

    @property
    def failure(self) -> str | None:
        """Why the last fetch brought no keys; None when it did."""
        return self._failure

    def load(self) -> None:
        """Fetch on the caller's thread. Raises UnusableKeysError: for what must be there at start."""
        self._accept(self._source.fetch())

    def start(self) -> None:
        """Begin to keep the keys current; the first fetch is under way when this returns."""
        self._pending = Future()
        self._asked = True
        self._thread = threading.Thread(target=self._run, name=f"keys-{self.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop fetching; whoever waits is told. A fetch that hangs is left to its timeout."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        if self._thread is not None:
            self._thread.join(_STOP_WITHIN)
        self._settle()

    def refresh(self) -> Future[None] | None:
        """Ask for a fetch because a key is not here. The future ends with it, whether it succeeds or not.

        Of all that ask while one is under way, each gets that one. None: the last one is too recent.
        """
        with self._condition:
            if self._stopping or self._thread is None:
                return None
            if self._pending is None:
                last = self._fetched_at
                if last is not None and self._monotonic() - last < self._min_interval:
                    return None
                self._pending = Future()
                self._asked = True
                self._condition.notify()
            return self._pending

    def _run(self) -> None:
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._stopping or self._asked, self._pause())
                if self._stopping:
                    return
                self._asked = False
                self._pending = self._pending or Future()
            self._fetch()
            self._settle()

    def _pause(self) -> float:
        """Until the next fetch: shorter at first when they fail."""
        if not self._failures:
            return self._refresh_interval
        backoff: float = max(self._min_interval, 1.0) * 2 ** min(self._failures - 1, 16)
        return min(self._refresh_interval, backoff)

    def _fetch(self) -> None:
        try:
            self._accept(self._source.fetch())
        except UnusableKeysError as error:
            self._fail(str(error))
        except Exception:
            # This thread must survive whatever a library raises: without it no key is ever renewed.
            log.exception("keys of issuer %s: fetching failed", self.name)
            self._fail("internal error")

    def _accept(self, keys: KeySet) -> None:
        if keys != self.keys:
            self.keys = keys
            self.generation += 1
            log.info("keys of issuer %s: %d in use", self.name, len(keys.keys))
        self._failures = 0
        self._failure = None

    def _fail(self, reason: str) -> None:
        self._failures += 1
        self._failure = reason
        kept = "the last good ones stay in use" if self.keys.keys else "its tokens cannot be verified"
        log.warning("keys of issuer %s cannot be fetched: %s; %s", self.name, reason, kept)

    def _settle(self) -> None:
        with self._condition:
            done, self._pending = self._pending, None
            self._fetched_at = self._monotonic()
        if done is not None and done.set_running_or_notify_cancel():
            done.set_result(None)
