"""When the property set that is in force stays, although another one is wanted."""

import hashlib
from collections.abc import Mapping
from typing import Any

import pytest
from buildgrid_operator.cluster.fleet import FleetUnreachable
from buildgrid_operator.cluster.fleet_state import FleetState, Requirement
from buildgrid_operator.cluster.kinds import CONFIG_MAP
from buildgrid_operator.desired.names import CONFIG_HASH
from buildgrid_operator.reconcile.holding import Hold, InForce, hold_of, in_force
from buildgrid_operator.status.scheduler_conditions import ALLOW_ORPHANS

from tests.unit.operator.reconcile.objects import Json, obj

BEFORE = InForce({"kind": "dynamic", "match_property_keys": ["OSFamily", "Pool"]})
WANTED = {"kind": "dynamic", "match_property_keys": ["OSFamily"]}
ORPHAN = Requirement("", "h", {"Pool": ("a",)}, queued=2)


def _hold(
    *requirements: Requirement,
    before: InForce | None = BEFORE,
    wanted: Mapping[str, Any] | None = WANTED,
    served: bool = True,
    allow: str | None = None,
) -> Hold | None:
    return hold_of(
        before,
        wanted,
        generation=3,
        annotations={} if allow is None else {ALLOW_ORPHANS: allow},
        served=served,
        ask=lambda: FleetState(requirements=requirements),
    )


def _never() -> FleetState:
    raise AssertionError("the replicas need not be asked")


def test_an_edit_that_orphans_jobs_is_held() -> None:
    hold = _hold(ORPHAN)
    assert hold is not None
    assert hold.orphans is not None
    assert (hold.orphans.jobs, hold.orphans.generation) == (2, 3)


def test_an_edit_that_orphans_nothing_is_not() -> None:
    assert _hold(Requirement("", "h", {"OSFamily": ("linux",)}, queued=2)) is None


def test_the_annotation_of_this_generation_allows_it() -> None:
    assert _hold(ORPHAN, allow="3") is None


@pytest.mark.parametrize("value", ["2", "", "true", "33"])
def test_an_annotation_of_another_one_does_not(value: str) -> None:
    assert _hold(ORPHAN, allow=value) is not None


@pytest.mark.parametrize(
    ("before", "served"),
    [(None, True), (InForce(WANTED), True), (BEFORE, False)],
    ids=["nothing is in force", "the same is in force", "no replica ever served"],
)
def test_where_nothing_can_be_orphaned_nobody_is_asked(before: InForce | None, served: bool) -> None:
    assert hold_of(before, WANTED, generation=3, annotations={}, served=served, ask=_never) is None


def test_when_nobody_can_tell_it_is_held_as_well() -> None:
    def unreachable() -> FleetState:
        raise FleetUnreachable("nobody answers")

    hold = hold_of(BEFORE, WANTED, generation=3, annotations={}, served=True, ask=unreachable)
    assert hold is not None
    assert hold.orphans is None
    assert "nobody answers" in (hold.unreachable or "")


def _config_map(text: str, told: str | None = None) -> Json:
    found = obj(CONFIG_MAP, "main-config", data={"scheduler.yaml": text})
    told_hash = hashlib.sha256(text.encode()).hexdigest() if told is None else told
    found["metadata"]["annotations"] = {CONFIG_HASH: told_hash}
    return found


def test_what_was_written_is_in_force() -> None:
    found = in_force(_config_map("property_set: {kind: dynamic, match_property_keys: [A]}\n"))
    assert found is not None
    assert found.section is not None
    assert set(found.section["match_property_keys"]) == {"A"}


def test_without_a_section_the_built_in_one_is_in_force() -> None:
    found = in_force(_config_map("listen: '[::]:50051'\n"))
    assert found == InForce(None)
    assert found.as_held == {}


@pytest.mark.parametrize(
    "config_map",
    [
        None,
        obj(CONFIG_MAP, "a"),
        obj(CONFIG_MAP, "a", data={"other": "x"}),
        _config_map("property_set: {kind: dynamic}\n", told="another hash"),
        _config_map("{"),
    ],
    ids=["none", "no data", "no file", "edited by hand", "no YAML"],
)
def test_what_the_operator_did_not_write_is_not_in_force(config_map: Json | None) -> None:
    assert in_force(config_map) is None
