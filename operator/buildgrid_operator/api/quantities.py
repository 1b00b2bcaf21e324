"""Sizes as Kubernetes quantities: `512Mi`, `10Gi`, `1.5T`. In Python they are bytes."""

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from buildgrid_operator.api.rules import Rule
from buildgrid_operator.api.shapes import or_unset

_BINARY = {f"{letter}i": 1024**power for power, letter in enumerate("KMGTP", 1)}
_DECIMAL = {"k": 1000, **{letter: 1000**power for power, letter in enumerate("MGTP", 2)}}
_UNITS = {"": 1, **_DECIMAL, **_BINARY}
PATTERN = r"^[0-9]{1,16}(\.[0-9]{1,3})?(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"
_PARTS = re.compile(r"([0-9]+(?:\.[0-9]+)?)([A-Za-z]*)")
LARGEST = "8Pi"


def parse_quantity(text: str) -> int:
    """`10Gi` as bytes, rounded up to whole ones, as Kubernetes does. ValueError for what is no such text."""
    parts = _PARTS.fullmatch(text)
    if parts is None or re.fullmatch(PATTERN, text) is None:
        raise ValueError(f"{text!r} is not a size; write for example 512Mi, 10Gi or 1Ti")
    size: int = math.ceil(Fraction(parts[1]) * _UNITS[parts[2]])
    return size


def show_quantity(size: int) -> str:
    """As it would be written: `20Gi`, `1500`."""
    for unit, factor in reversed(_BINARY.items()):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)


@dataclass(frozen=True, slots=True)
class Quantity:
    """Marks an int as a size in bytes within bounds: `Annotated[int, Quantity("1Mi", "1Ti")]`."""

    minimum: str = "1"
    maximum: str = LARGEST

    def accepts(self, text: str) -> bool:
        """Whether a text is a size within the bounds."""
        try:
            value = parse_quantity(text)
        except ValueError:
            return False
        return parse_quantity(self.minimum) <= value <= parse_quantity(self.maximum)

    @property
    def rule(self) -> Rule:
        """The bounds, as CEL and as a predicate of the text."""
        low = f"quantity(self).compareTo(quantity('{self.minimum}')) >= 0"
        high = f"quantity(self).compareTo(quantity('{self.maximum}')) <= 0"
        return Rule(
            cel=f"isQuantity(self) && {low} && {high}",
            message=(
                f"must be a size from {self.minimum} to {self.maximum}; write for example 512Mi, 10Gi or 1Ti"
            ),
            check=self.accepts,
        )

    def schema(self) -> dict[str, Any]:
        """What it adds to a structural schema."""
        return {
            "type": "string",
            "maxLength": 24,
            "x-kubernetes-validations": [self.rule.schema()],
        }

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def parse(text: str) -> int:
            if not self.rule.check(text):
                raise ValueError(self.rule.message)
            return parse_quantity(text)

        schema = core_schema.no_info_after_validator_function(
            parse,
            core_schema.str_schema(strict=True, max_length=24),
            serialization=core_schema.plain_serializer_function_ser_schema(show_quantity),
        )
        return or_unset(source, schema)
