"""How many bots a fleet should have: bounds, waits, rates and schedules."""

from datetime import timedelta
from typing import Annotated, Literal

from buildgrid_operator.api.durations import Duration
from buildgrid_operator.api.model import ApiModel
from buildgrid_operator.api.rules import Rule
from buildgrid_operator.api.shapes import Flag, Items, Range, Text

MAX_BOTS = 10_000
Bots = Annotated[int, Range(0, MAX_BOTS)]
_CRON = r"^[-0-9*/,]+ [-0-9*/,]+ [-0-9*/,LW]+ [-0-9A-Za-z*/,]+ [-0-9A-Za-z*/,#]+$"
"""Which characters cron knows in which field. Whether they make a time, the operator says."""


class ScalingPolicy(ApiModel):
    """At most so many bots more, or fewer, in any period of this length."""

    type: Literal["Bots", "Percent"]
    """what value counts; Percent: of the bots that there were at the beginning of the period"""
    value: Annotated[int, Range(1, MAX_BOTS)]
    """how many"""
    period: Annotated[timedelta, Duration("1s", "30m")] = timedelta(minutes=1)
    """length of the period"""


class ScalingRules(ApiModel):
    """How fast a fleet may change in one direction, in the words of a HorizontalPodAutoscaler's behavior."""

    stabilization_window: Annotated[timedelta, Duration("0s", "1h")] = timedelta()
    """of what was needed within this time the least counts for scaling up, and the most for scaling down"""
    policies: Annotated[tuple[ScalingPolicy, ...], Items(8)] = ()
    """limits of the rate; none: no limit"""
    select_policy: Literal["Max", "Min", "Disabled"] = "Max"
    """which of the limits is in force: the one that allows most, or least; Disabled: nothing changes"""


class Schedule(ApiModel):
    """A time in which there are at least so many bots."""

    start: Annotated[
        str,
        Text(
            128,
            1,
            _CRON,
            "must be a cron expression of five fields (minute, hour, day of month, month, day of week), "
            "for example 0 7 * * 1-5",
        ),
    ]
    """when it begins: minute, hour, day of month, month, day of week, as cron"""
    duration: Annotated[timedelta, Duration("1m", "168h")]
    """how long it lasts"""
    time_zone: Annotated[
        str,
        Text(
            64,
            1,
            r"^[A-Za-z][-A-Za-z0-9_+]*(/[-A-Za-z0-9_+]+)*$",
            "must be a time zone of the IANA database, for example UTC or Europe/Berlin",
        ),
    ] = "UTC"
    """in which start is meant, for example Europe/Berlin"""
    min_bots: Annotated[int, Range(1, MAX_BOTS)]
    """how many there are at least; of overlapping schedules the greatest number counts"""


class Fallback(ApiModel):
    """What to hold while the scheduler cannot be reached. Nothing is let go then in any case."""

    bots: Bots
    """at least so many"""


def _leaves_zero(rules: ScalingRules) -> bool:
    """Whether the rates let a fleet without bots grow; one that is disabled says so itself."""
    if not rules.policies or rules.select_policy == "Disabled":
        return True
    of_bots = [policy.type == "Bots" for policy in rules.policies]
    return any(of_bots) if rules.select_policy == "Max" else all(of_bots)


class Scaling(ApiModel):
    """How many bots there should be."""

    mode: Literal["Auto", "External"] = "Auto"
    """Auto: as the work needs. External: spec.replicas says it, which an HPA or KEDA writes; minBots and
    maxBots bound it all the same"""
    min_bots: Bots = 0
    """never fewer"""
    max_bots: Annotated[int, Range(0, MAX_BOTS)] = 10
    """never more pods that have not ended, those that wait for a node included"""
    warm_bots: Bots = 0
    """idle bots that are kept ready beyond those that work"""
    target_wait: Annotated[timedelta, Duration("0s", "1h")] = timedelta(seconds=30)
    """how long a job may wait for a bot before one is bought for it"""
    idle_timeout: Annotated[timedelta, Duration("0s", "24h")] = timedelta(minutes=1)
    """for how long less must have been needed before bots are let go"""
    scale_up: ScalingRules = ScalingRules()
    """how fast it may grow"""
    scale_down: ScalingRules = ScalingRules()
    """how fast it may shrink"""
    schedules: Annotated[tuple[Schedule, ...], Items(32)] = ()
    """times with more bots, for example before people come to work"""
    priority: Annotated[int, Range(-1000, 1000)] = 0
    """of several fleets that can serve a job, those with a lower number are filled first"""
    cost: Annotated[int, Range(0, 1_000_000)] = 100
    """of a bot for an hour, in any unit, for example cents: of fleets of one priority the cheaper slots are
    filled first"""
    paused: Flag = False
    """neither scale in nor out"""
    paused_scale_in: Flag = False
    """let nothing go"""
    paused_scale_out: Flag = False
    """make nothing new"""
    dry_run: Flag = False
    """decide and tell, but do nothing"""
    fallback: Fallback | None = None
    """what to hold while the scheduler cannot be reached; unset: what is there"""

    rules = (
        Rule(
            cel="self.minBots <= self.maxBots",
            message="must not be more than maxBots; lower it, or raise maxBots",
            check=lambda scaling: scaling.min_bots <= scaling.max_bots,
            field="minBots",
        ),
        Rule(
            cel="self.warmBots <= self.maxBots",
            message="must not be more than maxBots; lower it, or raise maxBots",
            check=lambda scaling: scaling.warm_bots <= scaling.max_bots,
            field="warmBots",
        ),
        Rule(
            cel="self.schedules.all(schedule, schedule.minBots <= self.maxBots)",
            message="has a minBots that is more than maxBots; lower it, or raise maxBots",
            check=lambda scaling: all(each.min_bots <= scaling.max_bots for each in scaling.schedules),
            field="schedules",
        ),
        Rule(
            cel="!has(self.fallback) || self.fallback.bots <= self.maxBots",
            message="must not be more than maxBots; lower it, or raise maxBots",
            check=lambda scaling: scaling.fallback is None or scaling.fallback.bots <= scaling.max_bots,
            field="fallback.bots",
        ),
        Rule(
            cel="self.scaleUp.policies.size() == 0 || self.scaleUp.selectPolicy == 'Disabled' || "
            "self.scaleUp.policies.exists(policy, policy.type == 'Bots') && "
            "(self.scaleUp.selectPolicy == 'Max' || "
            "self.scaleUp.policies.all(policy, policy.type == 'Bots'))",
            message="never grows from zero, since a percentage of no bots is none; add a policy of type "
            "Bots, and with selectPolicy Min use no other type",
            check=lambda scaling: _leaves_zero(scaling.scale_up),
            field="scaleUp",
        ),
    )
