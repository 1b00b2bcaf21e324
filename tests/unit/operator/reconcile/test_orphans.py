"""Which waiting jobs an edit of the property set would leave without a bot."""

from typing import Any

import pytest
from buildgrid_operator.cluster.fleet_state import Requirement
from buildgrid_operator.fleets.matching import property_set_of
from buildgrid_operator.reconcile.orphans import orphans_of
from buildgrid_scheduler.core.requirements import requirement_hash

GENERATION = 4
WIDE = {"kind": "dynamic", "match_property_keys": ["OSFamily", "Pool"]}


def _jobs(queued: int, executing: int = 0, **properties: list[str]) -> Requirement:
    values = {key: tuple(those) for key, those in properties.items()}
    return Requirement("", requirement_hash(properties), values, queued, executing)


def _orphans(section: dict[str, Any] | None, *requirements: Requirement) -> dict[str, int]:
    found = orphans_of(requirements, property_set_of(section), GENERATION)
    if found is None:
        return {}
    assert found.generation == GENERATION
    assert found.jobs == sum(count for _, count in found.by_requirements)
    return dict(found.by_requirements)


def test_jobs_that_it_accepts_are_none() -> None:
    assert (
        _orphans(WIDE, _jobs(3, OSFamily=["linux"]), _jobs(1, OSFamily=["linux"], Pool=["a"]), _jobs(1)) == {}
    )


def test_a_key_that_is_gone_orphans_the_jobs_that_need_it() -> None:
    section = {"kind": "dynamic", "match_property_keys": ["OSFamily"]}
    found = _orphans(section, _jobs(3, Pool=["a"]), _jobs(2, OSFamily=["linux"]), _jobs(4, Pool=["b"]))
    assert found == {"{Pool=b}": 4, "{Pool=a}": 3}


def test_a_match_key_that_becomes_a_wildcard_orphans_them_as_well() -> None:
    """It would be accepted, but bots would offer it no more."""
    section = {
        "kind": "dynamic",
        "match_property_keys": ["OSFamily"],
        "wildcard_property_keys": ["Pool"],
    }
    assert _orphans(section, _jobs(1, Pool=["a"])) == {"{Pool=a}": 1}


def test_jobs_that_bots_have_already_are_no_orphans() -> None:
    section = {"kind": "dynamic", "match_property_keys": ["OSFamily"]}
    assert _orphans(section, _jobs(0, executing=5, Pool=["a"])) == {}


def test_the_same_requirement_in_several_instances_is_counted_together() -> None:
    section = {"kind": "dynamic", "match_property_keys": ["OSFamily"]}
    assert _orphans(section, _jobs(1, Pool=["a"]), _jobs(2, Pool=["a"])) == {"{Pool=a}": 3}


@pytest.mark.parametrize(
    ("value", "orphaned"), [("linux", False), ("windows", True)], ids=["of a label", "of no label"]
)
def test_a_static_one_accepts_what_one_of_its_labels_is(value: str, orphaned: bool) -> None:
    labels = [{"label": "l", "properties": [{"key": "OSFamily", "value": "linux"}]}]
    section = {"kind": "static", "labels": labels}
    assert bool(_orphans(section, _jobs(1, OSFamily=[value]))) is orphaned


def test_a_static_label_that_requires_more_orphans_what_required_less() -> None:
    properties = [{"key": "OSFamily", "value": "linux"}, {"key": "ISA", "value": "x86-64"}]
    section = {"kind": "static", "labels": [{"label": "l", "properties": properties}]}
    assert _orphans(section, _jobs(1, OSFamily=["linux"])) == {"{OSFamily=linux}": 1}


def test_without_a_section_it_is_the_built_in_one() -> None:
    assert _orphans(None, _jobs(1, Pool=["a"], ISA=["x"])) == {}
    assert _orphans(None, _jobs(1, other=["a"])) == {"{other=a}": 1}
