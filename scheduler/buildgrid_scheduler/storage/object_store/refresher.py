"""Keeps used objects young, where a lifecycle rule of the bucket deletes the old ones.

Object stores do not know when an object was last used, only when it was last written. So an object that is
asked for and older than an age is written again, by copies within the store: to another name and back, since
S3 refuses to copy an object onto itself. It happens beside the question, which need not wait for it: the age
leaves days for that, and what is missed is noted at the next question.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable

# Names that wait; beyond that the questions to come will note them again.
MOST_WAITING = 100_000
_AT_ONCE = 16

_log = logging.getLogger(__name__)


class Refresher:
    """`refresh(names)` does it, and may raise. Names that are noted while they wait count once."""

    def __init__(self, refresh: Callable[[list[str]], None]) -> None:
        self._refresh = refresh
        self._waiting: OrderedDict[str, None] = OrderedDict()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="object-refresher", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """What still waits is forgotten."""
        with self._changed:
            self._stopping = True
            self._waiting.clear()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def note(self, name: str) -> None:
        """Has the object refreshed, soon."""
        with self._changed:
            if len(self._waiting) < MOST_WAITING and not self._stopping:
                self._waiting[name] = None
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._stopping:
                    self._changed.wait()
                if self._stopping:
                    return
                names = [
                    self._waiting.popitem(last=False)[0] for _ in range(min(_AT_ONCE, len(self._waiting)))
                ]
            try:
                self._refresh(names)
            except Exception as error:  # noqa: BLE001 - the next question notes them again
                _log.warning("%d objects could not be refreshed: %s", len(names), error)
