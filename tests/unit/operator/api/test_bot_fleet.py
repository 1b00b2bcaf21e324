from datetime import timedelta

import pytest
from buildgrid_operator.api import BotFleet, BotFleetSpec, BotFleetStatus, InvalidSpec
from buildgrid_operator.api.effects import effect_of, rollout_view
from buildgrid_operator.api.model import ApiModel, Effect
from buildgrid_operator.api.schema import object_schema
from buildgrid_operator.api.status import Decision

from tests.cluster.api.fleets import FULL_FLEET, fleet
from tests.cluster.api.objects import REMOVE, Json, changed
from tests.unit.operator.api.structural import mismatches


def view(obj: Json) -> Json:
    return rollout_view(BotFleet.parse(obj).spec)


def unset_in(spec: ApiModel, path: str = "spec") -> list[str]:
    """Paths of fields that an object does not give."""
    found = []
    for name, field in type(spec).model_fields.items():
        here = f"{path}.{field.alias}"
        if name not in spec.model_fields_set:
            found.append(here)
        values = getattr(spec, name)
        for value in values if isinstance(values, tuple) else [values]:
            found += unset_in(value, here) if isinstance(value, ApiModel) else []
    return found


def test_the_smallest_fleet_grows_from_nothing_to_ten_and_kills_nothing() -> None:
    spec = BotFleet.parse(fleet()).spec
    assert spec.replicas is None
    assert (spec.scaling.mode, spec.scaling.min_bots, spec.scaling.max_bots) == ("Auto", 0, 10)
    assert spec.scaling.target_wait == timedelta(seconds=30)
    assert spec.scaling.scale_up.policies == ()
    assert spec.slots_per_bot == 1
    assert spec.drain.timeout is None
    assert spec.sandbox.type == "None"
    assert (spec.rollout.max_surge, spec.rollout.max_unavailable) == (1, 0)


def test_the_full_fleet_of_the_tests_sets_every_field() -> None:
    assert set(unset_in(BotFleet.parse(FULL_FLEET).spec)) == {
        "spec.scaling.scaleUp.selectPolicy",
        "spec.scaling.scaleUp.policies.period",
    }


def test_each_field_of_the_spec_says_what_an_edit_causes() -> None:
    assert [name for name, field in BotFleetSpec.model_fields.items() if effect_of(field) is None] == []


def test_how_many_bots_there_are_rolls_none_of_them() -> None:
    edited = changed(
        FULL_FLEET,
        {
            "spec.replicas": 9,
            "spec.scaling": {"maxBots": 7, "paused": True, "schedules": [], "cost": 3},
            "spec.maxActionsPerBot": 5,
            "spec.serviceAccount.annotations": {},
            "spec.rollout.maxSurge": 1,
            "spec.drain.timeout": REMOVE,
            "spec.startup.timeout": "1m",
        },
    )
    assert view(edited) == view(FULL_FLEET)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.properties[1].value", "x86-64"),
        ("spec.properties", []),
        ("spec.workerProperties[0].value", "7"),
        ("spec.slotsPerBot", 4),
        ("spec.capacityClass", "on-demand"),
        ("spec.image", "ghcr.io/example/bot:1.2.4"),
        ("spec.actionImage", REMOVE),
        ("spec.imagePullPolicy", "Never"),
        ("spec.imagePullSecrets", []),
        ("spec.resources.limits.memory", "20Gi"),
        ("spec.cacheSize", "50Gi"),
        ("spec.sandbox", {"type": "UserNamespace"}),
        ("spec.sandbox.seccompProfile", REMOVE),
        ("spec.priorityClassName", "high"),
        ("spec.terminationGracePeriod", "4h"),
        ("spec.podTemplate.spec.nodeSelector.pool", "other"),
        ("spec.podTemplate.metadata", REMOVE),
    ],
)
def test_what_a_bot_is_made_of_rolls_the_bots(path: str, value: object) -> None:
    assert view(changed(FULL_FLEET, {path: value})) != view(FULL_FLEET)


def test_the_view_has_a_part_for_each_field_that_rolls_bots_and_no_other() -> None:
    rolls = {
        field.alias for field in BotFleetSpec.model_fields.values() if effect_of(field) is Effect.ROLLOUT
    }
    assert view(FULL_FLEET).keys() == rolls


def test_of_the_smallest_fleet_only_whose_bots_they_are_is_hashed() -> None:
    assert view(fleet()) == {"schedulerRef": {"name": "main"}}
    assert view(fleet(slotsPerBot=1, properties=[], sandbox={"type": "None"})) == view(fleet())


def test_what_is_wrong_is_told_all_at_once() -> None:
    bad = fleet(
        "Linux",
        scaling={"minBots": 20, "warmBots": 30, "idleTimeout": "2d"},
        drain={"timeout": "5s"},
    )
    with pytest.raises(InvalidSpec) as caught:
        BotFleet.parse(bad)
    told = {problem.field for problem in caught.value.problems}
    assert told == {"metadata.name", "spec.scaling.idleTimeout", "spec.drain.timeout"}
    with pytest.raises(InvalidSpec) as caught:
        BotFleet.parse(fleet(scaling={"minBots": 20, "warmBots": 30}))
    assert [str(problem) for problem in caught.value.problems] == [
        "spec.scaling.minBots: must not be more than maxBots; lower it, or raise maxBots",
        "spec.scaling.warmBots: must not be more than maxBots; lower it, or raise maxBots",
    ]


def test_a_status_is_written_as_the_crd_has_it_and_read_again() -> None:
    status = BotFleetStatus(
        observed_generation=2,
        replicas=3,
        selector="buildgrid.build/fleet-uid=5d2c0f6e",
        busy_bots=2,
        oldest_queued_time="2026-01-01T00:00:00Z",
        last_decision=Decision(time="2026-01-01T00:00:01Z", message="2 jobs wait; buying 2"),
    )
    written = status.to_dict()
    assert mismatches(written, object_schema(BotFleetStatus)) == []
    assert BotFleet.parse(fleet() | {"status": written}).status == status
