"""What the planner is told: fleets with their bots, and what waits. And what it remembers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from buildgrid_operator.planner.policy import Policy


class BotState(Enum):
    """What a bot is doing. It is one pod, or the pod that it will be."""

    BLOCKED = "blocked"
    """no node takes the pod"""
    STARTING = "starting"
    """has not registered yet"""
    IDLE = "idle"
    """registered, without a lease"""
    BUSY = "busy"
    DRAINING = "draining"
    """marked: gets no lease any more"""


@dataclass(frozen=True, slots=True)
class Bot:
    """A pod that is not ending."""

    name: str
    state: BotState
    since: datetime
    """in this state"""
    busy_slots: int = 0
    outdated: bool = False
    """made of a template that is not the fleet's any more"""
    actions: int = 0
    """that it has run"""


@dataclass(frozen=True, slots=True)
class Demand:
    """Unfinished jobs that require the same of a bot."""

    key: str
    """instance and requirement hash, in any form"""
    words: str
    """for people, for example `Pool=gpu`"""
    queued: int
    executing: int = 0
    oldest_queued: datetime | None = None
    duration: timedelta | None = None
    """estimate of a job's; None: nobody knows"""
    avoided: str | None = None
    """a capacity class that these jobs lost a bot of just now"""


@dataclass(frozen=True, slots=True)
class Fleet:
    """A fleet, as it is."""

    name: str
    policy: Policy
    bots: Sequence[Bot] = ()
    serves: frozenset[str] = frozenset()
    """keys of demands that its bots may take"""
    start_time: timedelta = timedelta(seconds=30)
    """from the decision until a bot takes its first lease, as measured"""


@dataclass(frozen=True, slots=True)
class Farm:
    """All fleets of one scheduler. `seen`: when its state was true; None: it was never reached."""

    fleets: Sequence[Fleet]
    demands: Sequence[Demand] = ()
    seen: datetime | None = None


@dataclass(frozen=True, slots=True)
class Needed:
    """How many bots were needed, and when they last were."""

    until: datetime
    bots: int


@dataclass(frozen=True, slots=True)
class Changed:
    """By how many bots a fleet was changed, and when. Negative: let go."""

    at: datetime
    by: int


@dataclass(frozen=True, slots=True)
class FleetHistory:
    """Of one fleet, oldest first. Made and read by `memory` alone."""

    peaks: tuple[Needed, ...] = ()
    """falling: each one the greatest need since it ended"""
    lows: tuple[Needed, ...] = ()
    """rising: each one the least need since it ended"""
    changed: tuple[Changed, ...] = ()
    since: datetime | None = None
    """of the first need that was ever remembered: before that nobody knows what was needed"""


@dataclass(frozen=True, slots=True)
class History:
    """By the fleet's name."""

    fleets: Mapping[str, FleetHistory] = field(default_factory=dict)
