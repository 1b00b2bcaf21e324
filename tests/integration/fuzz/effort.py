"""How much to fuzz: a little and always the same, or as much as FUZZ says and each time something else."""

import os

from hypothesis import HealthCheck, settings

LONG = "FUZZ" in os.environ
MESSAGES = int(os.environ.get("FUZZ", "250"))
"""messages for each service, or more"""
CHECK_EVERY = 300
"""calls, until good clients are looked after"""


def effort(share: float = 1) -> settings:
    """The settings of a test that sends this share of MESSAGES."""
    return settings(
        max_examples=max(int(MESSAGES * share), 1),
        derandomize=not LONG,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
