"""Rules between fields, each with its CEL for the API server and its predicate for the operator.

Both sides say the same message, so that an object that slipped past the API server (an old CRD, a rule that
was switched off) is explained in the same words by its condition. A message says what to do; the field is
named by the path before it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Reason = Literal["FieldValueInvalid", "FieldValueRequired", "FieldValueForbidden"]
"""Not FieldValueDuplicate: with it the API server leaves the message out."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Something that must hold within one object.

    `cel` sees the object as `self`, with defaults filled in. `check` sees the parsed model; it is only asked
    when all fields by themselves are valid. `field` is the field that is blamed, by its name in the API and
    below the object; empty: the object itself.
    """

    cel: str
    message: str
    check: Callable[[Any], bool]
    field: str = ""
    reason: Reason = "FieldValueInvalid"

    def schema(self) -> dict[str, Any]:
        """As an item of `x-kubernetes-validations`."""
        return _validation(self.cel, self.message, self.field, self.reason)


@dataclass(frozen=True, slots=True)
class Transition:
    """Something that must hold between the object before an edit and after it: CEL with `oldSelf`.

    `check` gets the new model, then the old one.
    """

    cel: str
    message: str
    check: Callable[[Any, Any], bool]
    field: str = ""
    reason: Reason = "FieldValueForbidden"

    def schema(self) -> dict[str, Any]:
        """As an item of `x-kubernetes-validations`."""
        return _validation(self.cel, self.message, self.field, self.reason)


class RuleErrors(ValueError):
    """Rules that an object breaks: (field below the object, message) each."""

    def __init__(self, broken: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{field}: {message}" if field else message for field, message in broken))
        self.broken = broken


def exactly_one_of(*names: str) -> Rule:
    """One of these optional fields is set, and no other."""
    return Rule(
        cel=f"{_set(names)}.filter(present, present).size() == 1",
        message=f"set exactly one of {_listed(names)}",
        check=lambda model: len(_present(model, names)) == 1,
    )


def at_most_one_of(*names: str, field: str) -> Rule:
    """No two of these optional fields are set."""
    return Rule(
        cel=f"{_set(names)}.filter(present, present).size() <= 1",
        message=f"set only one of {_listed(names)}",
        check=lambda model: len(_present(model, names)) <= 1,
        field=field,
        reason="FieldValueForbidden",
    )


def at_least_one_of(*names: str, example: str) -> Rule:
    """Some of these optional fields are set."""
    return Rule(
        cel=f"{_set(names)}.exists(present, present)",
        message=f"set at least one of {_listed(names)}; {example}",
        check=lambda model: bool(_present(model, names)),
        reason="FieldValueRequired",
    )


def unique(listed: str, key: str, message: str) -> Rule:
    """No two items of a list have the same value of a field that all have."""

    def check(model: Any) -> bool:
        values = [value_of(item, key) for item in value_of(model, listed)]
        return len(values) == len(set(values))

    return Rule(
        cel=f"self.{listed}.all(a, self.{listed}.exists_one(b, b.{key} == a.{key}))",
        message=message,
        check=check,
        field=listed,
    )


def immutable(name: str, message: str) -> Transition:
    """An optional field that stays as it was, unset included."""
    return Transition(
        cel=(
            f"has(self.{name}) == has(oldSelf.{name}) && (!has(self.{name}) || self.{name} == oldSelf.{name})"
        ),
        message=message,
        check=lambda new, old: value_of(new, name) == value_of(old, name),
        field=name,
    )


def _set(names: tuple[str, ...]) -> str:
    return "[" + ", ".join(f"has(self.{name})" for name in names) + "]"


def _present(model: Any, names: tuple[str, ...]) -> list[str]:
    return [name for name in names if value_of(model, name) is not None]


def value_of(model: Any, alias: str) -> Any:
    """The value of a model's field, by its name in the API."""
    for name, field in type(model).model_fields.items():
        if field.alias == alias:
            return getattr(model, name)
    raise AttributeError(f"{type(model).__name__} has no field {alias}")


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:-1]) + " and " + names[-1]


def _validation(cel: str, message: str, field: str, reason: str) -> dict[str, Any]:
    schema = {"rule": cel, "message": message}
    if field:
        schema["fieldPath"] = f".{field}"
    if reason != "FieldValueInvalid":  # the default
        schema["reason"] = reason
    return schema
