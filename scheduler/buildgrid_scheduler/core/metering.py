"""What becomes of clients that used more than their share. Pure."""

from enum import Enum

from buildgrid_scheduler.core.errors import ResourceExhausted

IdentityKey = tuple[str, str, str, str]
"""(instance, workflow, actor, subject)"""


class MeteringThrottleAction(Enum):
    """What is done with an action of a client that the metering service throttles."""

    DEPRIORITIZE = "deprioritize"
    """it waits behind those of others"""
    REJECT = "reject"
    """it is refused"""


DEPRIORITIZED = 1
"""The most urgent priority of throttled clients; 0 is everybody's default."""


def needs_question(action: MeteringThrottleAction, priority: int) -> bool:
    """Whether it matters if the client is throttled: one that stands back already is not asked about."""
    return action is MeteringThrottleAction.REJECT or priority < DEPRIORITIZED


def throttled_priority(action: MeteringThrottleAction, priority: int, identity: IdentityKey) -> int:
    """The priority of an action of a throttled client. Raises ResourceExhausted where they are refused."""
    if action is MeteringThrottleAction.REJECT:
        instance, workflow, actor, subject = identity
        raise ResourceExhausted(
            f"client {subject!r} (actor {actor!r}, workflow {workflow!r}) used more of instance {instance!r} "
            "than its share and is throttled; try again later"
        )
    return max(priority, DEPRIORITIZED)
