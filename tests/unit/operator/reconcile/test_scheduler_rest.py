"""A Scheduler at rest: its pass makes nothing anew, and misses nothing that happens."""

from collections.abc import Callable
from typing import Any

import pytest
from buildgrid_operator.api import Scheduler
from buildgrid_operator.cluster.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    NETWORK_POLICY,
    PROPERTY_SET,
    SERVICE,
    ObjectRef,
)
from buildgrid_operator.desired import Bundle, ClusterTokens

from tests.cluster.api.objects import changed
from tests.unit.operator.desired.cases import EVERYBODY, ISSUER, JWKS
from tests.unit.operator.reconcile.scheduler_world import REF, SchedulerWorld

Json = dict[str, Any]


def bundle(world: SchedulerWorld) -> Bundle | None:
    obj = world.cache.get(REF)
    assert obj is not None
    return world.planner.plan(REF, Scheduler.parse(obj), world.cache.children(REF)).bundle


def taken_over(obj: Json) -> Json:
    """Somebody sets a field that was ours."""
    return changed(obj, {"metadata.managedFields": [{"manager": "kubectl", "operation": "Update"}]})


def with_foreign_container(obj: Json) -> Json:
    containers = [*obj["spec"]["template"]["spec"]["containers"], {"name": "miner", "image": "evil"}]
    return changed(obj, {"spec.template.spec.containers": containers})


def test_at_rest_nothing_is_made_anew() -> None:
    world = SchedulerWorld().at_rest()
    assert bundle(world) is bundle(world)


@pytest.mark.parametrize(
    ("kind", "name", "call"),
    [
        (CONFIG_MAP, "main-config", "apply ConfigMap main-config"),
        (SERVICE, "main-bots", "apply Service main-bots"),
        (DEPLOYMENT, "main-scheduler", "apply Deployment main-scheduler"),
    ],
)
def test_a_field_that_somebody_took_is_taken_back(kind: Any, name: str, call: str) -> None:
    world = SchedulerWorld().at_rest()
    world.happens(kind, name, taken_over)
    assert world.run() == [call]
    world.at_rest()


def test_what_was_deleted_is_made_again() -> None:
    world = SchedulerWorld().at_rest()
    world.happens(NETWORK_POLICY, "main-scheduler", None)
    assert "apply NetworkPolicy main-scheduler" in world.run()
    world.at_rest()


def test_a_foreign_container_is_taken_out() -> None:
    world = SchedulerWorld().at_rest()
    world.happens(DEPLOYMENT, "main-scheduler", with_foreign_container)
    assert world.run() == ["patch Deployment main-scheduler"]
    world.at_rest()


def test_what_happens_again_is_put_right_again() -> None:
    world = SchedulerWorld().at_rest()
    for _ in range(3):
        world.happens(SERVICE, "main-bots", taken_over)
        assert world.run() == ["apply Service main-bots"]


def test_what_may_not_be_watched_is_looked_at_in_each_pass() -> None:
    world = SchedulerWorld()
    hidden = ObjectRef(SERVICE, "farm", "main-bots")
    world.api.unwatched.add(hidden)
    # What the operator wrote itself it has seen, until the next list does not show it.
    for _ in range(3):
        world.run()
        world.cache.discard(hidden, world.api.objects[hidden]["metadata"]["uid"])
    assert world.run() == ["find Service main-bots"]
    world.cache.discard(hidden, world.api.objects[hidden]["metadata"]["uid"])
    world.happens(SERVICE, "main-bots", taken_over)
    assert world.run() == ["find Service main-bots", "apply Service main-bots"]


def test_an_edit_of_the_property_set_is_written() -> None:
    world = SchedulerWorld(propertySetRef={"name": "set"})
    world.property_set("OSFamily")
    world.at_rest()
    world.property_set("OSFamily", "ISA")
    assert world.run() == ["apply ConfigMap main-config"]
    assert "ISA" in world.configuration()


def test_a_property_set_that_goes_and_comes_back_counts_again() -> None:
    world = SchedulerWorld(propertySetRef={"name": "set"})
    world.property_set("OSFamily")
    world.at_rest()
    world.happens(PROPERTY_SET, "set", None)
    assert world.run() == []
    assert "OSFamily" in world.configuration()
    world.property_set("ISA")
    world.run()
    assert "OSFamily" not in world.configuration()


@pytest.mark.parametrize(
    ("change", "call"),
    [
        (
            lambda world: world.edit(service={"annotations": {"a": "b"}}),
            "apply Service main-scheduler",
        ),
        (
            lambda world: world.installed(cluster_domain="other.local"),
            "apply ConfigMap main-config",
        ),
        (
            lambda world: setattr(world, "tokens", ClusterTokens(ISSUER, JWKS.replace("one", "two"))),
            "apply ConfigMap main-jwks",
        ),
    ],
)
def test_whatever_decides_is_heeded_when_it_changes(
    change: Callable[[SchedulerWorld], None], call: str
) -> None:
    world = SchedulerWorld(auth={"kubernetes": {"audience": "builds"}, "policy": EVERYBODY}).at_rest()
    change(world)
    assert call in world.run()
    world.at_rest()


def test_an_edit_from_one_to_true_is_an_edit() -> None:
    def template(value: object) -> Json:
        return {"spec": {"enableServiceLinks": value}}

    world = SchedulerWorld(podTemplate=template(1)).at_rest()
    world.edit(podTemplate=template(True))
    assert world.run() == ["apply Deployment main-scheduler"]
