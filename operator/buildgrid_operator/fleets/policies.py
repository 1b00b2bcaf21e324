"""What a BotFleet asks for, as the planner takes it."""

from datetime import UTC, datetime

from buildgrid_operator.api import scaling
from buildgrid_operator.api.bot_fleet import BotFleetSpec
from buildgrid_operator.planner.policy import Policy, Rate, RateChoice, RateUnit, ScalingRules, Schedule
from buildgrid_operator.planner.schedules import floor_at

_SOME_DAY = datetime(2026, 1, 1, tzinfo=UTC)


def policy_of(spec: BotFleetSpec) -> Policy:
    """The planner's policy. `spec.replicas` pins in both modes."""
    asked = spec.scaling
    return Policy(
        min_bots=asked.min_bots,
        max_bots=asked.max_bots,
        warm_bots=asked.warm_bots,
        slots_per_bot=spec.slots_per_bot,
        target_wait=asked.target_wait,
        idle_timeout=asked.idle_timeout,
        scale_up=_rules(asked.scale_up),
        scale_down=_rules(asked.scale_down),
        schedules=tuple(_schedule(each) for each in asked.schedules),
        priority=asked.priority,
        cost=float(asked.cost),
        capacity_class=spec.capacity_class,
        pinned=spec.replicas,
        external=asked.mode == "External",
        max_actions_per_bot=spec.max_actions_per_bot,
        max_surge=spec.rollout.max_surge,
        max_unavailable=spec.rollout.max_unavailable,
        paused_scale_out=asked.paused or asked.paused_scale_out,
        paused_scale_in=asked.paused or asked.paused_scale_in,
        dry_run=asked.dry_run,
        fallback_bots=None if asked.fallback is None else asked.fallback.bots,
    )


def schedule_problems(spec: BotFleetSpec) -> list[str]:
    """Which schedules cannot be read, and what to write instead. The API checks only their shape."""
    found = []
    for number, each in enumerate(spec.scaling.schedules):
        place = f"spec.scaling.schedules[{number}]"
        schedule = _schedule(each)
        try:
            begins = floor_at(0, [Schedule(schedule.start, schedule.duration, schedule.min_bots)], _SOME_DAY)
        except ValueError as error:
            found.append(
                f"{place}.start: {error}; write minute, hour, day of month, month and day of week, for "
                "example 0 7 * * 1-5"
            )
            continue
        if begins.changes is None:
            found.append(f"{place}.start: {each.start!r} is never; write a day that there is")
            continue
        try:
            floor_at(0, [schedule], _SOME_DAY)
        except ValueError:
            found.append(
                f"{place}.timeZone: {each.time_zone!r} is no time zone of the IANA database; write one, for "
                "example Europe/Berlin or UTC"
            )
    return found


def _schedule(asked: scaling.Schedule) -> Schedule:
    return Schedule(asked.start, asked.duration, asked.min_bots, asked.time_zone)


def _rules(asked: scaling.ScalingRules) -> ScalingRules:
    return ScalingRules(
        stabilization=asked.stabilization_window,
        rates=tuple(Rate(RateUnit(each.type), each.value, each.period) for each in asked.policies),
        choice=RateChoice(asked.select_policy),
    )
