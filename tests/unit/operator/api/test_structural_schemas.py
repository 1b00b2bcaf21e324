import copy
from typing import Any

import pytest
from buildgrid_operator.api.crd import KINDS, crd_of, root_schema

from tests.unit.operator.api.structural import Schema, faults

_TEXT = {"type": "string", "maxLength": 5, "description": "some text"}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.names.kind)
def test_each_kind_has_a_structural_schema_in_which_everything_is_described_and_bounded(kind: Any) -> None:
    assert faults(root_schema(kind)) == []


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.names.kind)
def test_a_crd_is_small_enough_for_the_annotation_of_a_client_side_apply(kind: Any) -> None:
    assert len(str(crd_of(kind))) < 256 * 1024


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.names.kind)
def test_status_says_that_nobody_has_looked_at_a_new_object(kind: Any) -> None:
    status = root_schema(kind)["properties"]["status"]
    assert status["default"] == {"observedGeneration": -1}
    assert "'default'" not in str(status["properties"]), "the API server fills in nothing more"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.names.kind)
def test_columns_show_fields_that_there_are(kind: Any) -> None:
    for column in crd_of(kind)["spec"]["versions"][0]["additionalPrinterColumns"]:
        here: Schema = root_schema(kind)
        path = column["jsonPath"].split("[")[0].removeprefix(".").split(".")
        if path[0] == "metadata":
            continue
        for part in path:
            here = here["properties"][part]


def test_names_are_short_in_the_category_and_with_a_status_subresource() -> None:
    specs = {kind.names.kind: crd_of(kind)["spec"] for kind in KINDS}
    assert {kind: spec["names"]["shortNames"] for kind, spec in specs.items()} == {
        "PropertySet": ["bgps"],
        "Scheduler": ["bgs"],
        "BotFleet": ["bgf"],
    }
    for spec in specs.values():
        assert spec["names"]["categories"] == ["buildgrid"]
        assert spec["scope"] == "Namespaced"
        assert spec["versions"][0]["subresources"].keys() - {"scale"} == {"status"}


def test_only_a_fleet_has_a_scale_of_fields_that_there_are() -> None:
    scales = {
        kind.names.kind: crd_of(kind)["spec"]["versions"][0]["subresources"].get("scale") for kind in KINDS
    }
    assert {kind for kind, scale in scales.items() if scale} == {"BotFleet"}
    assert scales["BotFleet"] == {
        "specReplicasPath": ".spec.replicas",
        "statusReplicasPath": ".status.replicas",
        "labelSelectorPath": ".status.selector",
    }
    (schema,) = (root_schema(kind) for kind in KINDS if kind.names.kind == "BotFleet")
    types = {"specReplicasPath": "integer", "statusReplicasPath": "integer", "labelSelectorPath": "string"}
    for name, path in scales["BotFleet"].items():
        here = schema
        for part in path.removeprefix(".").split("."):
            here = here["properties"][part]
        assert here["type"] == types[name]


def _list(**more: Any) -> Schema:
    items = {"type": "object", "properties": {"name": _TEXT}}
    return {"type": "array", "maxItems": 3, "description": "a list", "items": items, **more}


@pytest.mark.parametrize(
    ("inner", "fault"),
    [
        ({"description": "untyped"}, ".x: has no type"),
        ({"type": "string", "description": "long"}, ".x: is unbounded"),
        ({"type": "integer", "description": "large"}, ".x: is unbounded"),
        ({"type": "string", "maxLength": 3}, ".x: is not described"),
        (_TEXT | {"$ref": "#/definitions/x"}, ".x: $ref is forbidden"),
        (_TEXT | {"nullable": True}, ".x: nullable is unknown"),
        (_TEXT | {"anyOf": []}, ".x: anyOf is for int-or-string"),
        (_TEXT | {"x-kubernetes-int-or-string": True}, ".x: an int-or-string has no type"),
        (_TEXT | {"default": 3}, ".x: default: 3 is no string"),
        (_list(), ".x: has no list type"),
        (_list(**{"x-kubernetes-list-type": "set"}), ".x: is a set of what is not scalar"),
        (
            _list(**{"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}),
            ".x: its key name must be required",
        ),
        (
            {"type": "object", "description": "a map", "additionalProperties": {"type": "boolean"}},
            ".x: is unbounded",
        ),
        (
            {"type": "object", "description": "no y", "properties": {}, "required": ["y"]},
            ".x: requires y",
        ),
        (_TEXT | {"x-kubernetes-validations": [{"rule": "true"}]}, ".x: a rule needs CEL and a message"),
        (
            _TEXT | {"x-kubernetes-validations": [{"rule": "true", "message": "m", "fieldPath": ".y"}]},
            ".x: .y of a rule is not there",
        ),
    ],
)
def test_the_checker_sees_faults(inner: Schema, fault: str) -> None:
    good: Schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": {"y": _TEXT}}}}
    assert faults(good) == []
    bad = copy.deepcopy(good)
    bad["properties"]["spec"]["properties"]["x"] = inner
    assert any(found.startswith(f".spec{fault}") for found in faults(bad)), faults(bad)
