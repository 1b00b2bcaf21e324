"""What a BotFleet asks for, as the planner takes it."""

from dataclasses import fields
from datetime import timedelta
from typing import Any

import pytest
from buildgrid_operator.fleets.policies import policy_of, schedule_problems
from buildgrid_operator.planner.policy import Policy, Rate, RateChoice, RateUnit, ScalingRules, Schedule

from tests.unit.operator.fleets.seen import bot_fleet

MINUTE = timedelta(minutes=1)
EVERYTHING: dict[str, Any] = {
    "replicas": 5,
    "slotsPerBot": 4,
    "capacityClass": "spot",
    "maxActionsPerBot": 100,
    "rollout": {"maxSurge": 3, "maxUnavailable": 2},
    "scaling": {
        "mode": "External",
        "minBots": 1,
        "maxBots": 20,
        "warmBots": 2,
        "targetWait": "10s",
        "idleTimeout": "2m",
        "scaleUp": {
            "stabilizationWindow": "5s",
            "policies": [{"type": "Bots", "value": 3}],
            "selectPolicy": "Min",
        },
        "scaleDown": {
            "policies": [{"type": "Percent", "value": 50, "period": "30s"}],
            "selectPolicy": "Disabled",
        },
        "schedules": [{"start": "0 7 * * 1-5", "duration": "2h", "timeZone": "Europe/Berlin", "minBots": 6}],
        "priority": 7,
        "cost": 250,
        "pausedScaleIn": True,
        "pausedScaleOut": True,
        "dryRun": True,
        "fallback": {"bots": 4},
    },
}


def policy(**spec: Any) -> Policy:
    return policy_of(bot_fleet(**spec).spec)


def test_every_field_reaches_the_planner() -> None:
    found = policy(**EVERYTHING)
    assert found == Policy(
        min_bots=1,
        max_bots=20,
        warm_bots=2,
        slots_per_bot=4,
        target_wait=timedelta(seconds=10),
        idle_timeout=2 * MINUTE,
        scale_up=ScalingRules(timedelta(seconds=5), (Rate(RateUnit.BOTS, 3, MINUTE),), RateChoice.MIN),
        scale_down=ScalingRules(
            timedelta(), (Rate(RateUnit.PERCENT, 50, timedelta(seconds=30)),), RateChoice.DISABLED
        ),
        schedules=(Schedule("0 7 * * 1-5", 120 * MINUTE, 6, "Europe/Berlin"),),
        priority=7,
        cost=250.0,
        capacity_class="spot",
        pinned=5,
        external=True,
        max_actions_per_bot=100,
        max_surge=3,
        max_unavailable=2,
        paused_scale_out=True,
        paused_scale_in=True,
        dry_run=True,
        fallback_bots=4,
    )


def test_of_a_whole_spec_no_field_of_the_policy_is_as_it_is_by_default() -> None:
    """A field that is added to the policy must be thought of here."""
    found, default = policy(**EVERYTHING), Policy()
    same = [each.name for each in fields(Policy) if getattr(found, each.name) == getattr(default, each.name)]
    assert same == ["held"]  # not of the spec: see `farm_of`


def test_a_spec_that_asks_for_nothing_is_the_planners_default() -> None:
    assert policy() == Policy(cost=100.0)


def test_a_pause_is_of_both_directions() -> None:
    found = policy(scaling={"paused": True})
    assert (found.paused_scale_in, found.paused_scale_out) == (True, True)


def problems(*schedules: dict[str, Any]) -> list[str]:
    whole = [{"duration": "1h", "minBots": 1, **each} for each in schedules]
    return schedule_problems(bot_fleet(scaling={"schedules": whole}).spec)


def test_schedules_that_can_be_read_are_no_problem() -> None:
    assert problems({"start": "0 7 * * 1-5"}, {"start": "*/5 * * * *", "timeZone": "Asia/Kolkata"}) == []


def test_an_expression_that_is_none_is_named_with_what_to_write() -> None:
    (found,) = problems({"start": "0 7 * * 1-5"}, {"start": "0 25 * * *"})
    assert found.startswith("spec.scaling.schedules[1].start: ")
    assert "'0 25 * * *'" in found
    assert found.endswith("write minute, hour, day of month, month and day of week, for example 0 7 * * 1-5")


@pytest.mark.parametrize("zone", ["Mars/Olympus", "Europe", "europe/nowhere"])
def test_a_time_zone_that_is_none_is_named(zone: str) -> None:
    assert problems({"start": "0 7 * * *", "timeZone": zone}) == [
        f"spec.scaling.schedules[0].timeZone: '{zone}' is no time zone of the IANA database; write one, for "
        "example Europe/Berlin or UTC"
    ]


def test_a_day_that_never_comes_is_told_of() -> None:
    (found,) = problems({"start": "0 7 30 2 *"})
    assert found.startswith("spec.scaling.schedules[0].start: ")
