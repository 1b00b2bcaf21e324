"""Reads a configuration; errors name the file, the line, the field and the remedy."""

import os
from collections.abc import Mapping
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
    items_models,
    models_of,
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

    def error(self, findings: Mapping[Location, str]) -> ConfigError:
        """What was found out about fields later on, told as if it had been found out while reading."""
        problems = [
            Problem(message, show_path(path), self.lines.line_of(path), source=self.lines.source_of(path))
            for path, message in findings.items()
        ]
        return ConfigError(self.source, problems)


def read_config(
    path: Path | None,
    overrides: Mapping[str, Any] | None = None,
    *,
    environment: Mapping[str, str] = os.environ,
) -> ReadConfig:
    """As `load_config`, and keeps the lines."""
    document = Document(COMMAND_LINE) if path is None else read_document(path, environment)
    return _validate(document, overrides or {})


def _validate(document: Document, overrides: Mapping[str, Any]) -> ReadConfig:
    values = _Filling(document.empty).section(document.values, [Config], ())
    for name, value in overrides.items():
        values = _with(values, tuple(name.split(".")), value)
    lines = _Lines(document, {tuple(name.split(".")) for name in overrides})
    try:
        return ReadConfig(Config.model_validate(values), document.source, lines)
    except ValidationError as error:
        problems = [explain(found, Config, lines) for found in _causes(error.errors())]
        raise ConfigError(document.source, _once(problems)) from error


@dataclass(frozen=True, slots=True)
class _Filling:
    """Puts in what may be left out: the fields of an empty section, and the tag of the default choice."""

    empty: set[Location]

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


def _with(values: Any, path: tuple[str, ...], value: Any) -> Any:
    if not isinstance(values, dict):
        return values  # a problem of its own, which is told
    first, *rest = path
    return {**values, first: _with(values.get(first, {}), tuple(rest), value) if rest else value}


def _causes(errors: list[ErrorDetails]) -> list[ErrorDetails]:
    """Without complaints that a list is too short which has items, all of them wrong."""
    return [
        error
        for error in errors
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
