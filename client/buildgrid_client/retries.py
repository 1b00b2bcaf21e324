"""When a failed call is worth repeating, and how long to wait first. Pure decisions."""

import random
from collections.abc import Callable

import grpc

# The server is not there, is not reached in time, or asks for another try. CANCELLED is what a server that
# stops says to calls that have just arrived; one that we cancel ourselves raises another exception.
OUTAGE_CODES = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
    }
)
# What proxies and dying servers say for a cut connection, but servers also for their own faults: worth a few
# tries, not minutes of them.
DOUBTFUL_CODES = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN})
DOUBTFUL_TRIES = 3


def backoff(
    attempt: int, *, first: float = 0.1, longest: float = 5.0, rand: Callable[[], float] = random.random
) -> float:
    """Seconds to wait after the given failed attempt (from 1): doubling, with jitter of a half.

    The jitter keeps a thousand clients of a restarted server from coming back in the same moment.
    """
    ceiling: float = min(longest, first * 2.0 ** min(attempt - 1, 30))
    return ceiling * (0.5 + 0.5 * rand())


def retry_delay(
    code: grpc.StatusCode,
    attempt: int,
    waited: float,
    outage_tolerance: float,
    rand: Callable[[], float] = random.random,
) -> float | None:
    """Seconds until the next try, or None when the failure is final.

    `attempt` counts the failures in a row from 1; `waited` is seconds since the first of them.
    """
    if code in DOUBTFUL_CODES:
        return backoff(attempt, rand=rand) if attempt < DOUBTFUL_TRIES else None
    if code in OUTAGE_CODES and waited < outage_tolerance:
        return min(backoff(attempt, rand=rand), max(0.01, outage_tolerance - waited))
    return None
