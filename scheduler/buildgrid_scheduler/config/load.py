"""Reads a configuration; errors name the file, the line, the field and the remedy."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from buildgrid_scheduler.config.document import Document, read_document
from buildgrid_scheduler.config.explain import Lines, explain
from buildgrid_scheduler.config.fields import (
    TAG_FIELDS,
    Model,
    accepts_none,
    is_plainly,
    items_models,
    models_of,
    place_of,
    tags_of,
)
from buildgrid_scheduler.config.model import Config
from buildgrid_scheduler.config.problems import ConfigError, Location, Problem, show_path

COMMAND_LINE = "command line"


def load_config(
    path: Path | None,
    overrides: Mapping[str, Any] | None = None,
    *,
    environment: Mapping[str, str] = os.environ,
) -> Config:
    """The configuration in a file (None: the defaults).

    `overrides` are from the command line and win: by dotted field, for example `monitoring.listen`. Raises
    ConfigError with all problems at once.
    """
    return read_config(path, overrides, environment=environment).config


@dataclass(frozen=True, slots=True)
class ReadConfig:
    """A configuration, and where each field of it is written."""

    config: Config
    source: str
    lines: Lines

    def error(self, findings: Mapping[Location, str], known: Sequence[Problem] = ()) -> ConfigError:
        """What was found out about fields later on, told as if it had been found out while reading.

        `known`: problems that have been found before.
        """
        problems = [_problem_at(path, message, self.lines) for path, message in findings.items()]
        return ConfigError(self.source, _once([*known, *problems]))


class InvalidConfigError(ConfigError):
    """A configuration with problems; what is left without them can be looked at further."""

    def __init__(self, source: str, problems: Sequence[Problem], rest: ReadConfig | None) -> None:
        """`rest`: without the fields that have problems; None where nothing can be made of it."""
        super().__init__(source, problems)
        self.rest = rest


def read_config(
    path: Path | None,
    overrides: Mapping[str, Any] | None = None,
    *,
    environment: Mapping[str, str] = os.environ,
) -> ReadConfig:
    """As `load_config`, and keeps the lines. Raises InvalidConfigError for what can be read as YAML."""
    document = Document(COMMAND_LINE) if path is None else read_document(path, environment)
    return _validate(document, overrides or {})


def _validate(document: Document, overrides: Mapping[str, Any]) -> ReadConfig:
    filling = _Filling(document.empty, document.written)
    values = filling.section(document.values, [Config], ())
    for name, value in overrides.items():
        values = _with(values, tuple(name.split(".")), value)
    lines = _Lines(document, {tuple(name.split(".")) for name in overrides})
    problems = [*document.problems]
    problems += [_problem_at(path, message, lines) for path, message in filling.wrong.items()]
    errors: list[ErrorDetails] = []
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        errors = error.errors()
        problems += [explain(found, Config, lines) for found in _causes(errors)]
    if not problems:
        return ReadConfig(config, document.source, lines)
    rest = _rest(values, errors)
    raise InvalidConfigError(
        document.source, _once(problems), None if rest is None else ReadConfig(rest, document.source, lines)
    )


def _rest(values: Any, errors: list[ErrorDetails]) -> Config | None:
    """What is left without the fields, and where that does not help without the sections, that are wrong."""
    for whole_section in (False, True):
        for error in errors:
            path = place_of(Config, error["loc"]).path
            values = _without(values, path[:1] if whole_section else path)
        try:
            return Config.model_validate(values)
        except ValidationError as error:
            errors = error.errors()
    return None


def _without(values: Any, path: Location) -> Any:
    """A list goes whole: what is left of it would stand at other numbers."""
    if not isinstance(values, dict) or not path or path[0] not in values:
        return values
    first, *below = path
    inner = values[first]
    if below and isinstance(inner, dict) and below[0] in inner:
        return {**values, first: _without(inner, tuple(below))}
    return {name: value for name, value in values.items() if name != first}


def _problem_at(path: Location, message: str, lines: Lines) -> Problem:
    return Problem(message, show_path(path), lines.line_of(path), source=lines.source_of(path))


@dataclass(frozen=True, slots=True)
class _Filling:
    """Puts in what may be left out: the fields of an empty section, and the tag of the default choice.

    And finds what pydantic would take for another kind of value, as it has to with what variables hold.
    """

    empty: set[Location]
    written: Mapping[Location, str]
    wrong: dict[Location, str] = field(default_factory=dict)

    def section(self, values: Any, models: list[Model], path: Location) -> Any:
        if path in self.empty and values is None:
            values = {}
        if len(models) > 1 and isinstance(values, dict):  # the one whose tag is there is meant
            told = {values[name] for name in TAG_FIELDS if isinstance(values.get(name), str)}
            models = [model for model in models if tags_of(model) & told]
        if len(models) != 1 or not isinstance(values, dict):
            return values
        return {
            name: self._field(value, models[0].model_fields.get(name), (*path, name))
            for name, value in values.items()
        }

    def _field(self, value: Any, field: FieldInfo | None, path: Location) -> Any:
        if field is None:
            return value
        if path not in self.written and (problem := _other_kind(value, field)) is not None:
            self.wrong[path] = problem
        if items := items_models(field.annotation):
            if value is None and not accepts_none(field.annotation) and not field.is_required():
                return field.get_default(call_default_factory=False)
            if not isinstance(value, list):
                return value
            return [self.section(item, items, (*path, number)) for number, item in enumerate(value)]
        models = models_of(field.annotation)
        if not models:
            return value
        if path in self.empty or (value is None and not accepts_none(field.annotation)):
            value = {}
        default = None if field.is_required() else field.get_default(call_default_factory=False)
        if isinstance(value, dict) and len(models) > 1 and isinstance(default, BaseModel):
            for name in TAG_FIELDS:
                if name in type(default).model_fields:
                    value = {name: getattr(default, name), **value}
        return self.section(value, models, path)


def _other_kind(value: Any, field: FieldInfo) -> str | None:
    """What is wrong with a number in quotes, or one for true."""
    if is_plainly(field, bool) and isinstance(value, int | float | str) and not isinstance(value, bool):
        return f"must be true or false (is {value!r})"
    if is_plainly(field, int) and isinstance(value, bool | str):
        shown = str(value).lower() if isinstance(value, bool) else repr(value)
        quotes = "; write it without quotes" if isinstance(value, str) and value.strip().isdigit() else ""
        return f"must be a number (is {shown}){quotes}"
    return None


def _with(values: Any, path: tuple[str, ...], value: Any) -> Any:
    if not isinstance(values, dict):
        return values  # a problem of its own, which is told
    first, *rest = path
    return {**values, first: _with(values.get(first, {}), tuple(rest), value) if rest else value}


def _causes(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """Without those that only follow from others.

    A list is too short which has items, all of them wrong; or a default goes by a field that is wrong.
    """
    return [
        error
        for error in errors
        if error["type"] != "default_factory_not_called"
        if error["type"] != "too_short"
        or not any(other is not error and _is_below(other["loc"], error["loc"]) for other in errors)
    ]


def _is_below(inner: Location, outer: Location) -> bool:
    return len(inner) > len(outer) and inner[: len(outer)] == outer


def _once(problems: list[Problem]) -> list[Problem]:
    """A value that fits none of several alternatives is one problem."""
    by_field: dict[tuple[str, int | None], Problem] = {}
    for problem in problems:
        by_field.setdefault((problem.field, problem.line), problem)
    return list(by_field.values())


@dataclass(slots=True)
class _Lines:
    document: Document
    overridden: set[tuple[str, ...]]
    written: Mapping[Location, str] = field(init=False)

    def __post_init__(self) -> None:
        self.written = self.document.written

    def line_of(self, path: Location) -> int | None:
        return None if self.source_of(path) else self.document.line_of(path)

    def source_of(self, path: Location) -> str | None:
        return COMMAND_LINE if any(path[: len(name)] == name for name in self.overridden) else None
