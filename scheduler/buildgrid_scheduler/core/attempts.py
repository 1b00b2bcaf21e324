"""How often a job is tried: pure decisions.

Two bounds: `n_tries` counts attempts that may have been the action's doing (a retryable failure, a bot
that vanished while it ran); `n_infra_tries` counts losses that cannot have been (a lease never started,
a bot that announced its end). A job that always takes its bot with it ends after `max_job_attempts`; a
farm that is drained every hour does not use them up.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

RETRYABLE_STATUS_CODES = (13, 14)  # google.rpc INTERNAL, UNAVAILABLE
_FIRST_PAUSE, _LONGEST_PAUSE = timedelta(seconds=1), timedelta(minutes=1)

Counted = Literal["try", "infra"]
"""Against which of the two bounds an attempt that failed is counted."""


@dataclass(frozen=True)
class Tries:
    """`n_tries` is 1 at enqueue; `n_infra_tries` 0."""

    n_tries: int = 1
    n_infra_tries: int = 0

    def counted_since(self, before: "Tries") -> Counted:
        """What the one attempt between these counts was counted as."""
        return "try" if self.n_tries > before.n_tries else "infra"


@dataclass(frozen=True)
class AttemptLimits:
    """Bounds on both counts."""

    max_job_attempts: int = 5
    max_infra_attempts: int = 20


def after_failed_attempt(status_code: int, tries: Tries, limits: AttemptLimits) -> Tries | None:
    """The counts to requeue with after an attempt ended with `status_code`; None: the job is complete."""
    if status_code not in RETRYABLE_STATUS_CODES or tries.n_tries >= limits.max_job_attempts:
        return None
    return Tries(tries.n_tries + 1, tries.n_infra_tries)


def pause_of_bot(tries: Tries) -> timedelta:
    """How long a bot that could not do a job is not given it again. Others may have it at once.

    `tries`: the counts that the job waits with. The pause doubles, so that a bot alone that is out of order
    for a moment does not use up all tries in that moment: 1 s, 2 s, 4 s, 8 s.
    """
    doublings = min(max(0, tries.n_tries - 2), 16)
    return min(_LONGEST_PAUSE, _FIRST_PAUSE * (1 << doublings))


def after_lost_lease(*, started: bool, announced: bool, tries: Tries, limits: AttemptLimits) -> Tries | None:
    """The counts to requeue with after a lease was lost; None: the bound is reached.

    `started`: the bot had acknowledged the lease. `announced`: the bot had said that it was going, or its
    pod was evicted or preempted.
    """
    if may_be_to_blame(started=started, announced=announced):
        if tries.n_tries >= limits.max_job_attempts:
            return None
        return Tries(tries.n_tries + 1, tries.n_infra_tries)
    if tries.n_infra_tries + 1 >= limits.max_infra_attempts:
        return None
    return Tries(tries.n_tries, tries.n_infra_tries + 1)


def after_proof_of_life(tries: Tries, limits: AttemptLimits) -> Tries | None:
    """The counts once a bot that was thought to have vanished with a job turns out to have lived.

    None: the loss goes on counting as a try. That is so when the bound of losses is reached, so that a job
    which only ever gets lost ends, too.
    """
    if tries.n_tries <= 1 or tries.n_infra_tries + 1 >= limits.max_infra_attempts:
        return None
    return Tries(tries.n_tries - 1, tries.n_infra_tries + 1)


def may_be_to_blame(*, started: bool, announced: bool) -> bool:
    """Whether the loss of a lease may be its action's doing: it ran, and its bot went without a word."""
    return started and not announced


def becomes_suspect(*, started: bool, announced: bool, vanished: bool, capacity: int) -> bool:
    """Whether a job that was lost must run alone from now on.

    With one slot there is nobody whom it could take with it. `vanished`: the bot is gone as a whole, with
    all its leases, and did not just lose this one.
    """
    return vanished and capacity > 1 and may_be_to_blame(started=started, announced=announced)
