"""When to call the server next. Pure decisions of the bot session's loop."""

import random
from collections.abc import Callable

from buildgrid_client.retries import backoff

# Where the server does not hold the calls of a full bot, this often it asks whether its leases are still
# wanted. So long a cancelled command may run on.
HEARTBEAT = 2.0
# A full bot that was just handed work waits so long before it lets itself be held: most actions have ended by
# then, and are reported without another call.
FULL_SETTLE = 0.5
# What is asked sooner than this after the call before it counts as answered at once.
AT_ONCE = 0.5
# With a free slot the next poll can bring work, but most actions that were just handed out are short, and
# their end would interrupt it.
SETTLE = 0.02
# A session that lasted so long was not lost for what the one before was lost for.
_LASTING = 60.0
# The first pause after a lost session, and the longest.
_FIRST_REST, _LONGEST_REST = 0.2, 30.0
# The youngest call that news may interrupt, and the oldest that must wait no longer.
_FIRST_PATIENCE = 0.01
_LONGEST_PATIENCE = 2.0


def heartbeat_within(lifetime: float, heartbeat: float = HEARTBEAT) -> float:
    """How often a full bot calls whose session ends in `lifetime` seconds: three times in that, at least."""
    return max(0.5, min(heartbeat, lifetime / 3))


def pause_after_answer(
    *, full: bool, new_work: bool, empty_answers: int, heartbeat: float = HEARTBEAT, settle: float = SETTLE
) -> float:
    """Seconds until the next update, if nothing happens meanwhile.

    `empty_answers` counts answers in a row that came at once and brought nothing. One is normal for a bot
    with a free slot (it says that a report arrived); many mean that the server does not hold this bot's
    calls, for example because it is drained. Those of a full bot older servers never hold.
    """
    if full and empty_answers:
        return heartbeat
    if full and new_work:
        return min(heartbeat, FULL_SETTLE)
    if new_work:
        return settle
    if empty_answers < 2:
        return 0.0
    return min(heartbeat, 0.1 * 2.0 ** min(empty_answers - 2, 16))


def patience(interrupted: int) -> float:
    """Seconds that a call is given before news interrupts it.

    It may carry news itself, which would have to be sent again. `interrupted` counts the calls in a row that
    were: growing patience lets one through however fast actions end and however far the server is.
    """
    return min(_LONGEST_PATIENCE, _FIRST_PATIENCE * 2.0 ** min(interrupted, 16))


class LostSessions:
    """How long to wait before the next session, so that losing one again and again is no busy loop."""

    def __init__(self, rand: Callable[[], float] = random.random) -> None:
        """`rand`: from 0 to 1, for the jitter."""
        self._rand = rand
        self._in_a_row = 0

    def rest(self, lasted: float) -> float:
        """A session was lost, so many seconds after it was opened. Seconds until the next is asked for."""
        self._in_a_row = self._in_a_row + 1 if lasted < _LASTING else 1
        return backoff(self._in_a_row, first=_FIRST_REST, longest=_LONGEST_REST, rand=self._rand)
