"""Suspects: jobs that may have taken their bot with them. They run one to a bot.

When a bot with several slots vanishes, nobody knows which of its jobs was to blame. Each of them waits
again under a requirement hash of its own: that of its requirements, with a prefix. So nothing that handles
waiting jobs by hash has to know of suspects, and a bot that may not take one just does not ask for it.

What a suspect requires of a bot is what its requirements ask, and besides the pair `ALONE`, which a bot
offers when nothing else runs on it. So matching stays a subset test.
"""

from functools import lru_cache

from buildgrid_scheduler.core.requirements import Offer

PREFIX = "alone:"
ALONE = ("\0alone", "")
"""No property of a job or a device: their keys are not empty before a NUL"""


def suspect_hash(requirement_hash: str) -> str:
    """Under which hash a job waits once it is a suspect; a suspect stays one."""
    return PREFIX + plain_hash(requirement_hash)


def plain_hash(requirement_hash: str) -> str:
    """The hash of the requirements, as it is shown to people and programs."""
    return requirement_hash.removeprefix(PREFIX)


def is_suspect(requirement_hash: str) -> bool:
    """Whether a job that waits, or is leased, under this hash must be alone on a bot with several slots."""
    return requirement_hash.startswith(PREFIX)


@lru_cache(maxsize=10_000)
def with_alone(pairs: Offer) -> Offer:
    """What a suspect requires, by what its requirements ask; or what a bot offers that may take one."""
    return pairs | {ALONE}
