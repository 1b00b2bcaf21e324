"""Denials in the log: enough to see what is wrong, and never so many that they are the problem."""

import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

LINES_PER_SECOND = 10


class DenialLog:
    """Of more than `per_second` denials in a second the others are counted, and told with the next line.

    A thousand bots with a wrong token retry all the time. Callers pass no credentials: what is told is the
    method, the peer, the identity if it is known, and the reason that the caller got as well.
    """

    def __init__(
        self, per_second: int = LINES_PER_SECOND, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_second = per_second
        self._monotonic = monotonic
        self._second = 0
        self._told = 0
        self._untold = 0

    def note(self, what: str, reason: str) -> None:
        """A denial of `what`."""
        second = int(self._monotonic())
        if second != self._second:
            self._second, self._told = second, 0
        if self._told >= self._per_second:
            self._untold += 1
            return
        self._told += 1
        more = f" ({self._untold} more denials were not logged)" if self._untold else ""
        self._untold = 0
        log.warning("denied: %s: %s%s", what, reason, more)
