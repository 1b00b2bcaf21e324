"""What a platform engineer asks of a fleet: bounds, waits, rates, schedules."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum


class RateUnit(Enum):
    """What the value of a rate counts."""

    BOTS = "Bots"
    PERCENT = "Percent"
    """of the bots that there were at the beginning of the period"""


class RateChoice(Enum):
    """Which of several rates is in force."""

    MAX = "Max"
    """the one that allows most"""
    MIN = "Min"
    DISABLED = "Disabled"
    """none: nothing changes in this direction"""


@dataclass(frozen=True, slots=True)
class Rate:
    """At most so many bots more, or fewer, in any period of this length."""

    unit: RateUnit
    value: int
    period: timedelta


@dataclass(frozen=True, slots=True)
class ScalingRules:
    """As `behavior.scaleUp` and `behavior.scaleDown` of a HorizontalPodAutoscaler. Without rates: no limit.

    `stabilization`: of what was needed within this time the least counts (scaling up), or the most (down).
    """

    stabilization: timedelta = timedelta()
    rates: Sequence[Rate] = ()
    choice: RateChoice = RateChoice.MAX


@dataclass(frozen=True, slots=True)
class Schedule:
    """From each time that the cron expression names, for `duration`, there are at least `min_bots`."""

    start: str
    """five fields: minute, hour, day of month, month, day of week"""
    duration: timedelta
    min_bots: int
    time_zone: str = "UTC"
    """of the IANA database"""


@dataclass(frozen=True, slots=True)
class Policy:
    """Of one fleet. The API checks ranges; here `min_bots <= max_bots`, and times are not negative."""

    min_bots: int = 0
    max_bots: int = 10
    warm_bots: int = 0
    """idle ones kept ready, beyond those that work"""
    slots_per_bot: int = 1
    target_wait: timedelta = timedelta(seconds=30)
    """how long a job may wait for a bot"""
    idle_timeout: timedelta = timedelta(minutes=1)
    """for how long less must have been needed, before bots are let go"""
    scale_up: ScalingRules = ScalingRules()
    scale_down: ScalingRules = ScalingRules()
    schedules: Sequence[Schedule] = ()
    priority: int = 0
    """fleets with a lower one are filled first"""
    cost: float = 1.0
    """of a bot for an hour, in any unit: among fleets of one priority the cheaper slot is filled first"""
    capacity_class: str = ""
    """for example spot; jobs that lost a bot of a class avoid it for a while"""
    pinned: int | None = None
    """so many bots, whatever waits, within floor and max_bots"""
    external: bool = False
    """an autoscaler writes `pinned`, and asks what the work needs"""
    max_actions_per_bot: int | None = None
    """a bot that has run so many is replaced"""
    max_surge: int = 1
    """bots beyond the need, while a new template is rolled out"""
    max_unavailable: int = 0
    """bots fewer than the need, while a new template is rolled out"""
    paused_scale_out: bool = False
    held: bool = False
    """no pods are made for the time being, because those before did not come up"""
    paused_scale_in: bool = False
    dry_run: bool = False
    """decide and tell, but do nothing"""
    fallback_bots: int | None = None
    """at least so many, while the scheduler cannot be reached; None: those that are there"""

    @property
    def may_create(self) -> bool:
        """Whether pods are made at all."""
        return not (self.paused_scale_out or self.held)
