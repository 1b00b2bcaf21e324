"""examples/kubernetes: each file is good, says what it is, and becomes objects."""

from pathlib import Path

import pytest
import yaml
from buildgrid_operator.api import PropertySet, PropertySetSpec, Scheduler
from buildgrid_operator.desired import build

from tests.unit.charts.rendering import EXAMPLES, VALUES, Json
from tests.unit.operator.desired.cases import inputs
from tests.unit.operator.desired.restricted import violations

FILES = sorted(EXAMPLES.glob("*.yaml"))
OBJECTS = [file for file in FILES if not file.name.startswith("values-")]


def _read(name: str) -> Json:
    """The first object of a file."""
    found: Json = next(yaml.safe_load_all((EXAMPLES / name).read_text(encoding="utf-8")))
    return found


def _property_set(name: str) -> PropertySetSpec:
    (found,) = (obj for obj in map(_read, _names("PropertySet")) if obj["metadata"]["name"] == name)
    return PropertySet.parse(found).spec


def _names(kind: str) -> list[str]:
    return [file.name for file in OBJECTS if _read(file.name)["kind"] == kind]


def test_there_are_examples_of_each_kind() -> None:
    assert len(_names("Scheduler")) >= 2
    kinds = {tuple(_read(name)["spec"]) for name in _names("PropertySet")}
    assert kinds == {("dynamic",), ("static",)}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_an_example_begins_with_what_it_is(file: Path) -> None:
    assert file.read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize("name", _names("PropertySet"))
def test_a_property_set_is_valid(name: str) -> None:
    PropertySet.parse(_read(name))


@pytest.mark.parametrize("name", _names("Scheduler"))
def test_a_scheduler_is_valid_and_becomes_restricted_pods(name: str) -> None:
    obj = _read(name)
    reference = Scheduler.parse(obj).spec.property_set_ref
    property_set = None if reference is None else _property_set(reference.name)
    bundle = build(inputs(obj, property_set=property_set))
    assert not bundle.notices
    templates = [made["spec"]["template"] for made in bundle.objects if "template" in made.get("spec", {})]
    assert templates
    assert [violations(template) for template in templates] == [[]] * len(templates)


def test_the_files_of_values_are_rendered_by_the_other_tests() -> None:
    told = {
        f"values-{name.removesuffix(' example').replace(' ', '-')}.yaml"
        for name in VALUES
        if "example" in name
    }
    assert told == {file.name for file in FILES if file.name.startswith("values-")}
