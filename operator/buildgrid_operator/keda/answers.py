"""From what is known of a BotFleet to what an autoscaler is answered. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from buildgrid_operator.planner.plan import STALE_AFTER

METRIC = "buildgrid-bots"
"""Bots, and one for each replica: an HPA that divides by its target gets the number of bots itself."""
TARGET = 1
FLEET, NAMESPACE = "fleet", "namespace"
"""Keys of the trigger's metadata."""
LATEST = timedelta(seconds=30)
"""A decision is good for so long: there is one every 10 s, unless the operator hangs."""


class Why(Enum):
    """What keeps an answer from being given."""

    BAD_TRIGGER = "BadTrigger"
    """the ScaledObject is wrong"""
    NO_FLEET = "NoFleet"
    NOT_EXTERNAL = "NotExternal"
    """the fleet decides itself, and a number that is written would pin it"""
    NOT_KNOWN = "NotKnown"
    """at the moment; whoever asks falls back to what it has for such times"""


class Refused(Exception):
    """There is no answer. The words say what to do."""

    def __init__(self, why: Why, words: str) -> None:
        super().__init__(words)
        self.why = why


@dataclass(frozen=True, slots=True)
class Target:
    """The BotFleet that a question is about."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"BotFleet {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Decided:
    """What the planner said last of a fleet."""

    bots: int | None
    """that its work needs, within its bounds; None: the scheduler's state was not known"""
    at: datetime


def target_of(namespace: str, metadata: Mapping[str, str]) -> Target:
    """Whom a trigger means; `namespace` is the ScaledObject's. Raises Refused."""
    name = metadata.get(FLEET, "").strip()
    if not name:
        raise Refused(
            Why.BAD_TRIGGER, f"the trigger's metadata.{FLEET} is missing: write the BotFleet's name"
        )
    where = metadata.get(NAMESPACE, "").strip() or namespace
    if not where:
        raise Refused(
            Why.BAD_TRIGGER, f"the trigger's metadata.{NAMESPACE} is missing: write the BotFleet's namespace"
        )
    return Target(where, name)


def check_metric(name: str) -> None:
    """Raises Refused for a metric that there is not."""
    if name != METRIC:
        raise Refused(Why.BAD_TRIGGER, f"there is no metric {name!r}: ask for {METRIC}")


def check_mode(target: Target, mode: str | None) -> None:
    """`mode`: the fleet's scaling.mode; None: there is no such fleet. Raises Refused."""
    if mode is None:
        raise Refused(Why.NO_FLEET, f"there is no {target}: check the trigger's metadata.{FLEET}")
    if mode != "External":
        raise Refused(
            Why.NOT_EXTERNAL,
            f"the {target} decides itself: set its spec.scaling.mode to External, or delete the ScaledObject",
        )


def bots_of(target: Target, decided: Decided | None, heard: datetime | None, now: datetime) -> int:
    """Bots that the fleet's work needs. `heard`: when its scheduler last told what waits.

    Raises Refused rather than tell what may not be true any more.
    """
    if decided is None:
        raise Refused(Why.NOT_KNOWN, f"the {target} was not planned for yet; its conditions say why")
    # What lies in the future is from before our clock was set back, nobody knows how long ago.
    if decided.bots is None or heard is None or abs(now - heard) > STALE_AFTER:
        raise Refused(Why.NOT_KNOWN, f"the scheduler of the {target} does not tell what waits")
    if (age := abs(now - decided.at)) > LATEST:
        words = f"the {target} was planned for {age.total_seconds():.0f} s ago, and not since"
        raise Refused(Why.NOT_KNOWN, words)
    return decided.bots


def is_active(bots: int) -> bool:
    """Whether there should be a bot at all."""
    return bots > 0
