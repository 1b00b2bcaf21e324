"""Bots that share a bot_id, and what their jobs are to be counted for it. Pure.

A new session for a known bot_id closes the old one. In most cases that is a bot which was started again,
and whatever ran when the old one ended may have been the reason. When the old one turns out to live, two bots
were given one bot_id, and the jobs have nothing to do with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from buildgrid_scheduler.core.attempts import AttemptLimits, Tries, after_proof_of_life
from buildgrid_scheduler.core.history import PastAttempt

TAKEN_OVER = "taken over by another session of the same bot_id"
"""why a session ended"""


@dataclass(frozen=True, slots=True)
class Acquittal:
    """What a job looks like once a loss is not counted as a try any more."""

    attempts: tuple[PastAttempt, ...]
    tries: Tries


def acquit(
    attempts: Sequence[PastAttempt], tries: Tries, session: str, limits: AttemptLimits
) -> Acquittal | None:
    """The bot of `session`, which was taken over, lives and still speaks of the job.

    What was counted as a try counts as a loss that is the farm's doing then. None: nothing is to change.
    """
    for n, attempt in enumerate(attempts):
        if attempt.taken_over == session and attempt.counted == "try":
            corrected = after_proof_of_life(tries, limits)
            if corrected is None:
                return None
            reason = f"bot {attempt.bot} lives, but was {TAKEN_OVER}"
            lived = replace(attempt, counted="infra", reason=reason)
            return Acquittal((*attempts[:n], lived, *attempts[n + 1 :]), corrected)
    return None
