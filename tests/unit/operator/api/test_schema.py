"""The generator: models to structural schemas."""

from datetime import timedelta
from typing import Annotated, Any, Literal

import pytest
from buildgrid_operator.api.durations import Duration
from buildgrid_operator.api.model import ApiModel
from buildgrid_operator.api.quantities import Quantity
from buildgrid_operator.api.rules import Rule, exactly_one_of, immutable
from buildgrid_operator.api.schema import SchemaError, object_schema
from buildgrid_operator.api.shapes import AnyObject, Entries, Flag, Items, Range, Text


class Inner(ApiModel):
    """Something inside."""

    name: Annotated[str, Text(10, 1)]
    """what it is called"""


class Sample(ApiModel):
    """All kinds of fields."""

    flag: Flag = False
    """yes or no"""
    some_count: Annotated[int | None, Range(1, 9)] = None
    """how many"""
    wait: Annotated[timedelta, Duration("1s", "1h")] = timedelta(minutes=5)
    """how long"""
    size: Annotated[int, Quantity("1Mi", "1Gi")] = 2 * 1024**2
    """how large"""
    color: Literal["Red", "Green"] = "Red"
    """which color"""
    words: Annotated[tuple[Annotated[str, Text(5)], ...], Items(3, 1, "set")] = ("a",)
    """some words"""
    inners: Annotated[tuple[Inner, ...], Items(2, 0, "map", "name")] = ()
    labels: Annotated[dict[str, Annotated[str, Text(63)]], Entries(4)] = {}  # noqa: RUF012
    """some labels"""
    patch: Annotated[dict[str, Any], AnyObject()] | None = None
    """anything"""
    inner: Inner
    section: Inner = Inner(name="x")
    """with a default"""

    rules = (
        Rule(
            "self.flag", "must be true", lambda sample: sample.flag, field="flag", reason="FieldValueRequired"
        ),
        exactly_one_of("someCount", "patch"),
    )
    transitions = (immutable("someCount", "cannot be changed"),)


def properties() -> dict[str, Any]:
    found: dict[str, Any] = object_schema(Sample)["properties"]
    return found


def test_names_are_in_camel_case_and_required_where_there_is_no_default() -> None:
    schema = object_schema(Sample)
    assert schema["type"] == "object"
    assert schema["required"] == ["inner"]
    assert "someCount" in schema["properties"]


def test_plain_values() -> None:
    assert properties()["flag"] == {"description": "yes or no", "default": False, "type": "boolean"}
    assert properties()["someCount"] == {
        "description": "how many", "type": "integer", "format": "int32", "minimum": 1, "maximum": 9,
    }  # fmt: skip
    assert properties()["color"]["enum"] == ["Red", "Green"]


def test_durations_and_sizes_are_bounded_texts_with_a_rule() -> None:
    wait, size = properties()["wait"], properties()["size"]
    assert (wait["type"], wait["default"]) == ("string", "5m")
    assert "duration(self) <= duration('1h')" in wait["x-kubernetes-validations"][0]["rule"]
    assert (size["type"], size["default"]) == ("string", "2Mi")
    assert "from 1Mi to 1Gi" in size["x-kubernetes-validations"][0]["message"]


def test_lists_maps_and_free_objects() -> None:
    assert properties()["words"] == {
        "description": "some words",
        "default": ["a"],
        "type": "array",
        "items": {"type": "string", "maxLength": 5},
        "maxItems": 3,
        "minItems": 1,
        "x-kubernetes-list-type": "set",
    }
    assert properties()["inners"]["x-kubernetes-list-map-keys"] == ["name"]
    assert properties()["inners"]["description"] == "Something inside."
    assert properties()["labels"]["additionalProperties"] == {"type": "string", "maxLength": 63}
    assert properties()["patch"] == {
        "description": "anything", "type": "object", "x-kubernetes-preserve-unknown-fields": True,
    }  # fmt: skip


def test_a_section_with_a_default_has_it_whole() -> None:
    assert properties()["section"]["default"] == {"name": "x"}
    assert properties()["section"]["required"] == ["name"]


def test_rules_name_their_field_and_reason() -> None:
    required, one_of, stays = object_schema(Sample)["x-kubernetes-validations"]
    assert required == {
        "rule": "self.flag", "message": "must be true", "fieldPath": ".flag", "reason": "FieldValueRequired",
    }  # fmt: skip
    assert one_of["message"] == "set exactly one of someCount and patch"
    assert "oldSelf.someCount" in stays["rule"]


class Unbounded(ApiModel):
    """Texts without an end."""

    text: str = ""
    """a text"""


class Undescribed(ApiModel):
    """A field that nobody explains."""

    flag: Flag = False


class Foreign(ApiModel):
    """A type that schemas do not have."""

    ratio: float = 0.5
    """a share"""


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Unbounded, "Unbounded.text: has no type; put a shape on its annotation"),
        (Undescribed, "Undescribed.flag: has no description"),
        (Foreign, "Foreign.ratio: has no type"),
    ],
)
def test_what_cannot_be_written_is_told_with_the_field(model: type[ApiModel], message: str) -> None:
    with pytest.raises(SchemaError, match=message.replace(".", r"\.")):
        object_schema(model)
