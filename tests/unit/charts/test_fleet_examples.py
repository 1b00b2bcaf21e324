"""The BotFleets of examples/kubernetes are good, fit the Schedulers that are there, and become pods."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from buildgrid_operator.api import BotFleet, PropertySet, Scheduler
from buildgrid_operator.desired.bots import bot_pod, check, notices
from buildgrid_operator.keda.answers import TARGET, target_of
from buildgrid_operator.planner.policy import Schedule
from buildgrid_operator.planner.schedules import floor_at

from tests.unit.charts.rendering import EXAMPLES, Json, find, needs_helm, objects, template
from tests.unit.operator.desired.bots.cases import fleet_inputs
from tests.unit.operator.desired.cases import changed
from tests.unit.operator.desired.restricted import violations

_MONDAY = datetime(2026, 11, 23, tzinfo=UTC)


def _objects(kind: str) -> list[Json]:
    files = [file for file in sorted(EXAMPLES.glob("*.yaml")) if not file.name.startswith("values-")]
    found = [each for file in files for each in yaml.safe_load_all(file.read_text(encoding="utf-8"))]
    return [each for each in found if each["kind"] == kind]


_FLEETS = [BotFleet.parse(obj) for obj in _objects("BotFleet")]
_SCHEDULERS = {obj["metadata"]["name"]: Scheduler.parse(obj) for obj in _objects("Scheduler")}


def test_there_are_examples_of_each_kind_of_fleet() -> None:
    assert {fleet.spec.scaling.mode for fleet in _FLEETS} == {"Auto", "External"}
    assert {fleet.spec.capacity_class for fleet in _FLEETS} == {"", "spot", "on-demand"}
    assert any(fleet.spec.action_image for fleet in _FLEETS)
    assert any(fleet.spec.scaling.schedules for fleet in _FLEETS)
    assert len({fleet.metadata.name for fleet in _FLEETS}) == len(_FLEETS) >= 6


@pytest.mark.parametrize("obj", _objects("BotFleet"), ids=lambda obj: obj["metadata"]["name"])
def test_its_scheduler_is_among_the_examples_and_lets_its_bots_in(obj: Json) -> None:
    name = obj["spec"]["schedulerRef"]["name"]
    (owner,) = (each for each in _objects("Scheduler") if each["metadata"]["name"] == name)
    here = {"metadata.namespace": "builds", "metadata.uid": "5d2c0f6e"}
    inputs = fleet_inputs(changed(obj, here), owner)
    inputs = replace(inputs, scheduler=Scheduler.parse(changed(owner, here)))
    check(inputs)
    assert notices(inputs) == ()
    assert violations(bot_pod(inputs, 1)) == []


@pytest.mark.parametrize("fleet", _FLEETS, ids=lambda fleet: fleet.metadata.name)
def test_its_properties_are_known_to_the_property_set_of_the_scheduler(fleet: BotFleet) -> None:
    reference = _SCHEDULERS[fleet.spec.scheduler_ref.name].spec.property_set_ref
    sets = {obj["metadata"]["name"]: PropertySet.parse(obj).spec for obj in _objects("PropertySet")}
    usual = PropertySet.parse({"metadata": {"name": "usual"}, "spec": {"dynamic": {}}}).spec
    keys = (usual if reference is None else sets[reference.name]).dynamic
    assert keys is not None
    assert {each.key for each in fleet.spec.properties} <= keys.known_keys


@pytest.mark.parametrize("fleet", _FLEETS, ids=lambda fleet: fleet.metadata.name)
def test_its_schedules_raise_the_floor_some_time_in_a_week(fleet: BotFleet) -> None:
    for each in fleet.spec.scaling.schedules:
        schedule = Schedule(each.start, each.duration, each.min_bots, each.time_zone)
        floors = {floor_at(0, [schedule], _MONDAY + timedelta(hours=hour)).bots for hour in range(24 * 7)}
        assert floors == {0, each.min_bots}


def test_an_autoscaler_is_about_a_fleet_that_lets_it_and_within_its_bounds() -> None:
    external = {fleet.metadata.name: fleet for fleet in _FLEETS if fleet.spec.scaling.mode == "External"}
    for autoscaler in _objects("HorizontalPodAutoscaler"):
        target = autoscaler["spec"]["scaleTargetRef"]
        scaling = external.pop(target["name"]).spec.scaling
        assert (target["apiVersion"], target["kind"]) == ("buildgrid.build/v1alpha1", "BotFleet")
        assert autoscaler["spec"]["minReplicas"] == scaling.min_bots
        assert autoscaler["spec"]["maxReplicas"] == scaling.max_bots
    assert external == {}


def test_an_autoscaler_asks_for_the_bots_of_its_fleet_one_for_each() -> None:
    (autoscaler,) = _objects("HorizontalPodAutoscaler")
    (metric,) = autoscaler["spec"]["metrics"]
    asked = metric["external"]
    assert asked["metric"]["name"] == "buildgrid_operator_fleet_needed_bots"
    assert asked["metric"]["selector"]["matchLabels"] == {
        "name": autoscaler["spec"]["scaleTargetRef"]["name"]
    }
    assert asked["target"] == {"type": "AverageValue", "averageValue": str(TARGET)}


@needs_helm
def test_the_scaled_object_that_is_shown_asks_where_the_chart_answers_for_a_fleet_that_is_there() -> None:
    """It is a comment: without KEDA a cluster does not know the kind."""
    text = (EXAMPLES / "bot-fleet-external.yaml").read_text(encoding="utf-8")
    lines = [line.removeprefix("#   ") for line in text.splitlines() if line.startswith("#   ")]
    shown = yaml.safe_load("\n".join(lines[lines.index("apiVersion: keda.sh/v1alpha1") :]))["spec"]
    (trigger,) = shown["triggers"]
    target = target_of("builds", trigger["metadata"])
    (fleet,) = (each for each in _FLEETS if each.metadata.name == target.name)
    assert shown["scaleTargetRef"]["name"] == target.name
    assert fleet.spec.scaling.mode == "External"
    assert shown["maxReplicaCount"] == fleet.spec.scaling.max_bots
    values = {"operator": {"externalScaler": {"enabled": True}}}
    made = objects(template(values, release="buildgrid", namespace="buildgrid-system").stdout)
    service = find(made, "Service", "buildgrid-operator-scaler")
    (port,) = service["spec"]["ports"]
    place = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc:{port['port']}"
    assert trigger["metadata"]["scalerAddress"] == place
