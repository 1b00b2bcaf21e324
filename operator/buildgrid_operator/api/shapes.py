"""What fields may hold: bounds that the API server and pydantic both enforce, from one mark.

Every text, list and map of the API carries one: the API server estimates the cost of rules from them.
"""

import re
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Protocol, Union, get_args, get_origin, runtime_checkable

from pydantic import GetCoreSchemaHandler, Strict
from pydantic_core import CoreSchema, core_schema

from buildgrid_operator.api.rules import Rule


@runtime_checkable
class Shape(Protocol):
    """A mark that adds to the structural schema of what it is put on."""

    def schema(self) -> dict[str, Any]:
        """The keywords to add."""


def without_none(annotation: Any) -> Any:
    """The annotation of an optional value without `| None`; any other one as it is."""
    parts = [part for part in get_args(annotation) if part is not type(None)]
    return parts[0] if accepts_none(annotation) and len(parts) == 1 else annotation


def accepts_none(annotation: Any) -> bool:
    """Whether it is a union with None."""
    return get_origin(annotation) in (Union, UnionType) and type(None) in get_args(annotation)


def or_unset(annotation: Any, schema: CoreSchema) -> CoreSchema:
    """pydantic's schema for a value that may be None where the annotation says so."""
    return core_schema.nullable_schema(schema) if accepts_none(annotation) else schema


@dataclass(frozen=True, slots=True)
class Text:
    """A string of `minimum` to `maximum` characters; `minimum` is 0 or 1 where there is a pattern.

    `says`: what the pattern means, "must be ...". The API server gets the pattern as a rule with these words,
    because its own words for a pattern only repeat it.
    """

    maximum: int
    minimum: int = 0
    pattern: str = ""
    says: str = ""

    def schema(self) -> dict[str, Any]:
        """What it adds to a structural schema."""
        found: dict[str, Any] = {"type": "string", "maxLength": self.maximum}
        if self.minimum and not self.pattern:
            found["minLength"] = self.minimum
        if self.pattern:
            rule = Rule(f"self.matches(r'{self.pattern}')", self.says, lambda _: True)
            found["x-kubernetes-validations"] = [rule.schema()]
        return found

    def __post_init__(self) -> None:
        if bool(self.pattern) != bool(self.says):
            raise TypeError("a pattern needs words, and words a pattern")
        if self.pattern and bool(self.minimum) == bool(re.search(self.pattern, "")):
            raise TypeError("a pattern accepts the empty text where, and only where, minimum is 0")

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema: CoreSchema = core_schema.str_schema(
            strict=True,
            min_length=self.minimum or None,
            max_length=self.maximum,
            pattern=self.pattern or None,
        )
        if self.says:
            schema = core_schema.custom_error_schema(
                schema, "text", custom_error_message=self.says.replace("{", "{{").replace("}", "}}")
            )
        return or_unset(source, schema)


@dataclass(frozen=True, slots=True)
class Range:
    """An integer within bounds."""

    minimum: int
    maximum: int

    def schema(self) -> dict[str, Any]:
        """What it adds to a structural schema."""
        width = "int32" if self.maximum < 2**31 else "int64"
        return {"type": "integer", "format": width, "minimum": self.minimum, "maximum": self.maximum}

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return or_unset(source, core_schema.int_schema(strict=True, ge=self.minimum, le=self.maximum))


@dataclass(frozen=True, slots=True)
class Items:
    """A list of `minimum` to `maximum` items.

    `kind` is how it is merged when several apply it: as a whole (`atomic`), or by item; the items of a `set`
    are distinct, and those of a `map` by the field `key`.
    """

    maximum: int
    minimum: int = 0
    kind: Literal["atomic", "set", "map"] = "atomic"
    key: str = ""

    def schema(self) -> dict[str, Any]:
        """What it adds to a structural schema."""
        found: dict[str, Any] = {"type": "array", "maxItems": self.maximum}
        if self.minimum:
            found["minItems"] = self.minimum
        found["x-kubernetes-list-type"] = self.kind
        if self.kind == "map":
            found["x-kubernetes-list-map-keys"] = [self.key]
        return found

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = handler.generate_schema(without_none(source))
        distinct = core_schema.no_info_after_validator_function(self._distinct, schema)
        return or_unset(source, core_schema.no_info_before_validator_function(self._bounded, distinct))

    def _bounded(self, items: Any) -> Any:
        # Before the items: pydantic would count only those that are valid.
        if isinstance(items, list | tuple) and not self.minimum <= len(items) <= self.maximum:
            raise ValueError(f"must have {self.minimum} to {self.maximum} items, has {len(items)}")
        return items

    def _distinct(self, items: tuple[Any, ...]) -> tuple[Any, ...]:
        if self.kind == "atomic":
            return items
        keys = [getattr(item, self.key) if self.key else item for item in items]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                raise ValueError(f"{key!r} is there twice; keep one")
        return items


@dataclass(frozen=True, slots=True)
class Entries:
    """A map of at most `maximum` entries."""

    maximum: int

    def schema(self) -> dict[str, Any]:
        """What it adds to a structural schema."""
        return {"type": "object", "maxProperties": self.maximum}

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema: Any = handler.generate_schema(without_none(source))
        return or_unset(source, schema | {"max_length": self.maximum})


@dataclass(frozen=True, slots=True)
class AnyObject:
    """An object whose content the CRD does not know: the API server keeps it as it is."""

    def schema(self) -> dict[str, Any]:
        """What it adds to a structural schema."""
        return {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


_AMOUNT = r"^([0-9]{1,15}(\.[0-9]{1,9})?)([KMGTPE]i|[munkMGTPE]|[eE][0-9]{1,2})?$"


@dataclass(frozen=True, slots=True)
class Amount:
    """A quantity of any resource, as a number or as text (`2`, `500m`, `4Gi`), kept as it was written."""

    def schema(self) -> dict[str, Any]:
        """What it adds to a structural schema."""
        return {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "minimum": 0,
            "pattern": _AMOUNT,
            "maxLength": 32,
            "x-kubernetes-int-or-string": True,
        }

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        schema = core_schema.union_schema(
            [
                core_schema.int_schema(strict=True, ge=0),
                core_schema.str_schema(strict=True, pattern=_AMOUNT, max_length=32),
            ]
        )
        return core_schema.custom_error_schema(
            schema, "amount", custom_error_message="must be an amount; write for example 2, 500m or 4Gi"
        )


@dataclass(frozen=True, slots=True)
class Time:
    """RFC 3339, in UTC."""

    def schema(self) -> dict[str, Any]:
        """What it adds to a structural schema."""
        return {"type": "string", "format": "date-time"}


Flag = Annotated[bool, Strict()]
