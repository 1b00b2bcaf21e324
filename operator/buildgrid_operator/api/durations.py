"""Durations as Kubernetes and Go write them: `90s`, `15m`, `1h30m`, `720h`. In Python they are timedeltas."""

import re
from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from buildgrid_operator.api.rules import Rule, value_of
from buildgrid_operator.api.shapes import or_unset

_MICROSECONDS = {"h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000, "ms": 1_000}
_NUMBER = r"[0-9]{1,6}(\.[0-9]{1,3})?"
PATTERN = "^" + "".join(f"({_NUMBER}{unit})?" for unit in _MICROSECONDS) + "$"
"""Hours, minutes, seconds and milliseconds, each at most once, in this order."""
_PIECE = re.compile(rf"({_NUMBER})(ms|h|m|s)")
LONGEST = "876000h"
"""A hundred years. CEL knows no more than 292."""


def parse_duration(text: str) -> timedelta:
    """`1h30m` as a timedelta, exactly. ValueError for anything that is not such a text."""
    if not text or re.fullmatch(PATTERN, text) is None:
        raise ValueError(f"{text!r} is not a duration; write for example 90s, 15m, 1h30m or 720h")
    total = sum(Fraction(number) * _MICROSECONDS[unit] for number, _, unit in _PIECE.findall(text))
    return timedelta(microseconds=int(total))


def show_duration(duration: timedelta) -> str:
    """As it would be written: `1h30m`, `0s`, `500ms`. At most a hundred years, and not negative."""
    left, text = duration // timedelta(microseconds=1), ""
    for unit in ("h", "m", "s"):
        count, left = divmod(left, _MICROSECONDS[unit])
        text += f"{count}{unit}" if count else ""
    if left:
        whole, part = divmod(left, 1000)
        text += f"{whole}.{part:03}".rstrip("0").rstrip(".") + "ms"
    return text or "0s"


def not_longer(name: str, than: str, message: str) -> Rule:
    """One duration of an object is at most as long as another; both always have a value."""
    readable = " && ".join(f"self.{each} != '' && self.{each}.matches(r'{PATTERN}')" for each in (name, than))
    return Rule(
        cel=f"!({readable}) || duration(self.{name}) <= duration(self.{than})",
        message=message,
        check=lambda model: value_of(model, name) <= value_of(model, than),
        field=name,
    )


@dataclass(frozen=True, slots=True)
class Duration:
    """Marks a timedelta as a duration within bounds: `Annotated[timedelta, Duration("1s", "1h")]`.

    `or_zero`: 0s is accepted below `minimum`, too, and means what it says: that, in words.
    """

    minimum: str = "0s"
    maximum: str = LONGEST
    or_zero: str = ""

    def accepts(self, text: str) -> bool:
        """Whether a text is a duration within the bounds."""
        try:
            value = parse_duration(text)
        except ValueError:
            return False
        within = parse_duration(self.minimum) <= value <= parse_duration(self.maximum)
        return within or (bool(self.or_zero) and not value)

    @property
    def rule(self) -> Rule:
        """The bounds, as CEL and as a predicate of the text."""
        zero = "duration(self) == duration('0s') || " if self.or_zero else ""
        low = f"duration(self) >= duration('{self.minimum}')"
        high = f"duration(self) <= duration('{self.maximum}')"
        meaning = f", or 0s: {self.or_zero}" if self.or_zero else ""
        return Rule(
            cel=f"self != '' && self.matches(r'{PATTERN}') && ({zero}{low} && {high})",
            message=(
                f"must be a duration from {self.minimum} to {self.maximum}{meaning}; "
                "write for example 90s, 15m, 1h30m or 720h"
            ),
            check=self.accepts,
        )

    def schema(self) -> dict[str, Any]:
        """What it adds to a structural schema."""
        return {
            "type": "string",
            "maxLength": 48,
            "x-kubernetes-validations": [self.rule.schema()],
        }

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        def parse(text: str) -> timedelta:
            if not self.rule.check(text):
                raise ValueError(self.rule.message)
            return parse_duration(text)

        schema = core_schema.no_info_after_validator_function(
            parse,
            core_schema.str_schema(strict=True, max_length=48),
            serialization=core_schema.plain_serializer_function_ser_schema(show_duration),
        )
        return or_unset(source, schema)
