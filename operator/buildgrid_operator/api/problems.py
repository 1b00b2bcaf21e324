"""What is wrong with an object, for the person who wrote it: each with the field and what to do."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from buildgrid_operator.api.model import ApiModel
from buildgrid_operator.api.rules import RuleErrors
from buildgrid_operator.api.schema import item_models

Location = tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to mend. `field` is as the API server writes it: `spec.auth.jwt[0].name`."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class InvalidSpec(ValueError):
    """An object cannot be used. The text is a line for each problem."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def show_path(location: Location) -> str:
    """`spec.auth.jwt[0].name`"""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def problems_of(error: ValidationError, model: type[ApiModel]) -> list[Problem]:
    """All that pydantic found in an object of a model, in the order of the fields."""
    return [problem for detail in error.errors(include_url=False) for problem in _problems(detail, model)]


def _problems(detail: ErrorDetails, model: type[ApiModel]) -> list[Problem]:
    location = tuple(part for part in detail["loc"] if part != "[key]")
    context = detail.get("ctx") or {}
    cause = context.get("error")
    if isinstance(cause, RuleErrors):
        return [
            Problem(show_path((*location, *((field,) if field else ()))), message)
            for field, message in cause.broken
        ]
    return [Problem(show_path(location), _words(detail, context, location, model))]


def _words(detail: ErrorDetails, context: dict[str, Any], location: Location, model: type[ApiModel]) -> str:
    kind = detail["type"]
    if kind == "value_error":
        return str(context["error"])
    if kind == "extra_forbidden":
        known = _known_fields(model, location[:-1])
        near = get_close_matches(str(location[-1]), known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
        return f"is not a field; {hint}"
    template = _MESSAGES.get(kind)
    return detail["msg"] if template is None else template.format(**context)


_MESSAGES = {
    "missing": "is required; set it",
    "literal_error": "must be one of {expected}",
    "greater_than_equal": "must be {ge} or more",
    "less_than_equal": "must be {le} or less",
    "string_too_short": "must have {min_length} characters or more",
    "string_too_long": "must have {max_length} characters or less",
    "too_long": "must have {max_length} entries or less",
    "string_type": "must be text; put it in quotes",
    "int_type": "must be a whole number, without quotes",
    "bool_type": "must be true or false, without quotes",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping of fields",
}


def _known_fields(model: type[ApiModel], location: Location) -> list[str]:
    """The names of the fields at a place."""
    models = [model]
    for part in location:
        if isinstance(part, int):
            continue
        fields = [field for here in models for field in here.model_fields.values() if field.alias == part]
        models = [inner for field in fields for inner in item_models(field.annotation)] or models
    return sorted({field.alias or name for here in models for name, field in here.model_fields.items()})
