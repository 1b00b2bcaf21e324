"""From what pydantic found to words: what is wrong with which field, and how to mend it."""

import difflib
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Protocol

from pydantic_core import ErrorDetails

from buildgrid_scheduler.config.fields import TAG_FIELDS, Model, Place, choices_of, place_of, tags_of
from buildgrid_scheduler.config.problems import Location, Problem, show_path
from buildgrid_scheduler.config.section import FieldError
from buildgrid_scheduler.config.values import show_duration, show_size

_LONGEST_SHOWN = 60
_MAPPING = ("model_type", "model_attributes_type", "dict_type", "mapping_type", "dataclass_type")
_LIST = ("list_type", "tuple_type", "set_type", "frozen_set_type", "iterable_type")
_NUMBER = ("int_type", "int_parsing", "int_parsing_size", "float_type", "float_parsing", "finite_number")
_BOUNDS = {
    "greater_than": ("gt", "must be above {}"),
    "greater_than_equal": ("ge", "must be at least {}"),
    "less_than": ("lt", "must be below {}"),
    "less_than_equal": ("le", "must be at most {}"),
}


class Lines(Protocol):
    """Where the values are from."""

    written: Mapping[Location, str]

    def line_of(self, path: Location) -> int | None:
        """The line of a field, if it has one."""
        ...

    def source_of(self, path: Location) -> str | None:
        """Where a value is from, if not from the file."""
        ...


def explain(error: ErrorDetails, root: Model, lines: Lines) -> Problem:
    """One problem, told in the words of the file."""
    cause = error.get("ctx", {}).get("error")
    place = place_of(root, error["loc"])
    if error["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return _wrong_tag(error["input"], place, lines)
    if isinstance(cause, FieldError):
        inner = tuple(int(part) if part.isdigit() else part for part in cause.field.split("."))
        place = place_of(root, (*error["loc"], *inner))
    nearest = None
    if error["type"] == "extra_forbidden":
        message, nearest = _unknown_field(place, place_of(root, error["loc"][:-1]), root)
    else:
        message = _words(error, place, lines.written)
        if error["type"] == "literal_error":
            nearest = _nearest(error["input"], _choices(place))
    return _problem(message, place.path, lines, nearest)


def _problem(message: str, path: Location, lines: Lines, nearest: str | None) -> Problem:
    return Problem(message, show_path(path), lines.line_of(path), nearest, lines.source_of(path))


def _wrong_tag(section: Any, place: Place, lines: Lines) -> Problem:
    """The field that says which section of a choice is meant says nothing that is known."""
    tags = sorted({tag for model in place.models for tag in tags_of(model)})
    names = [n for n in TAG_FIELDS if any(n in model.model_fields for model in place.models)]
    path = (*place.path, *names[:1])
    value = section.get(names[0]) if names and isinstance(section, dict) else None
    message = f"must be one of {', '.join(tags)}" + ("" if value is None else f" (is {value!r})")
    return _problem(message, path, lines, _nearest(value or "", tags))


def _unknown_field(place: Place, section: Place, root: Model) -> tuple[str, str | None]:
    name = str(place.path[-1])
    others = [m for m in place_of(root, section.path).models if name in m.model_fields]
    if others:
        return f"unknown field; {name} belongs to {_tags(others)}", None
    nearest = _nearest(name, section.known)
    if nearest is not None:
        return "unknown field", nearest
    choice = place_of(root, section.path)
    if nearest := _nearest(name, choice.known):
        others = [model for model in choice.models if nearest in model.model_fields]
        return f"unknown field; {nearest} belongs to {_tags(others)}", None
    elsewhere = _elsewhere(name, root)
    if elsewhere is not None:
        return f"unknown field here; {name} belongs to {elsewhere}", None
    return f"unknown field; known here are {', '.join(section.known) or 'none'}", None


def _tags(models: list[Model]) -> str:
    return " and ".join(sorted({tag for model in models for tag in tags_of(model)}))


def _elsewhere(name: str, root: Model) -> str | None:
    """The section that has a field of this name, for one that is only at the wrong place."""
    sections = [
        section for section, field in root.model_fields.items() if name in _names_in(field.annotation)
    ]
    if name in root.model_fields:
        return "the top level"
    return " or ".join(sections) or None


def _names_in(annotation: Any) -> list[str]:
    return Place((), (annotation,), None).known


def _nearest(word: Any, known: list[str]) -> str | None:
    folded = {name.lower().replace("-", "_"): name for name in known}
    found = difflib.get_close_matches(str(word).lower().replace("-", "_"), list(folded), n=1)
    return folded[found[0]] if found else None


def _words(error: ErrorDetails, place: Place, written: Mapping[Location, str]) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind in ("value_error", "assertion_error"):
        told = str(context["error"]) if "error" in context else error["msg"]
        # What came from a variable may be secret: the file's own text is shown.
        return told.replace(repr(error["input"]), repr(written.get(place.path, error["input"])))
    shown = _shown(error["input"], place, written)
    if kind == "missing":
        return "is required; add it"
    if error["input"] is None:
        return "is empty; give it a value, or remove the line for the default"
    if kind in _BOUNDS:
        key, words = _BOUNDS[kind]
        return f"{words.format(_bound(place, key, context[key]))} (is {shown})"
    if kind == "literal_error":
        return f"must be one of {', '.join(_choices(place))} (is {shown})"
    for kinds, explained in _EXPECTED:
        if kind in kinds:
            return explained(error["input"], shown)
    if kind in ("too_short", "string_too_short"):
        return (
            f"must not be empty (is {shown})" if _least(context) == 1 else f"needs {_least(context)} or more"
        )
    if kind in ("too_long", "string_too_long"):
        return f"is too long; at most {context.get('max_length')}"
    if kind == "string_pattern_mismatch":
        return f"is not of the form {context['pattern']} (is {shown})"
    return f"{error['msg']} (is {shown})"


def _choices(place: Place) -> list[str]:
    return [word for annotation in place.annotations for word in choices_of(annotation)]


def _text(value: Any, shown: str) -> str:
    if isinstance(value, bool):
        return f"must be text, is {shown}: YAML takes yes, no, on and off for that; put it in quotes"
    if isinstance(value, int | float):
        return f"must be text, is the number {shown}; put it in quotes"
    return f"must be text (is {shown})"


def _list(value: Any, shown: str) -> str:
    example = f"[{value}]" if isinstance(value, str | int) else "[A, B]"
    return f"must be a list, for example {example} (is {shown})"


_EXPECTED: tuple[tuple[tuple[str, ...], Callable[[Any, str], str]], ...] = (
    (_MAPPING, lambda _, shown: f"must be a section with fields of its own (is {shown})"),
    (_LIST, _list),
    (_NUMBER, lambda _, shown: f"must be a number (is {shown})"),
    (("int_from_float",), lambda _, shown: f"must be a whole number (is {shown})"),
    (("bool_type", "bool_parsing"), lambda _, shown: f"must be true or false (is {shown})"),
    (("string_type", "string_sub_type"), _text),
    (("path_type",), lambda _, shown: f"must be a path (is {shown})"),
)


def _bound(place: Place, key: str, told: Any) -> str:
    """As the field has it: pydantic tells a duration in Python's words."""
    metadata = place.field.metadata if place.field is not None else []
    value = next((getattr(entry, key) for entry in metadata if hasattr(entry, key)), told)
    if isinstance(value, timedelta):
        return show_duration(value)
    return show_size(value) if isinstance(value, int) and value >= 1024 * 1024 else str(value)


def _least(context: Mapping[str, Any]) -> int:
    least: int = context.get("min_length", 1)
    return least


def _shown(value: Any, place: Place, written: Mapping[Location, str]) -> str:
    if place.secret:
        return "not shown"
    value = written.get(place.path, value)
    if isinstance(value, timedelta):
        return show_duration(value)
    text = "empty" if value in ("", [], {}) else repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 3] + "..."
