"""Waiting for something that nobody tells us of, in a thread that may be told to stop."""

import threading
import time
from collections.abc import Callable

from buildgrid_scheduler.core.errors import Unavailable

_LOOK_EVERY = 0.05  # seconds


def within(seconds: float, come: Callable[[], bool], stopping: threading.Event) -> bool:
    """Whether it comes within so many seconds. Raises Unavailable if `stopping` is set before."""
    end = time.monotonic() + seconds
    while not come():
        if stopping.wait(_LOOK_EVERY):
            raise Unavailable("this server stops")
        if time.monotonic() > end:
            return False
    return True
