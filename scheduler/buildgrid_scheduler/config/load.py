"""Reads a configuration; errors name the file, the field and the remedy."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from buildgrid_scheduler.config.model import Config


class ConfigError(Exception):
    """The configuration cannot be used; the message is for the person who wrote it."""


def load_config(path: Path | None, overrides: Mapping[str, Any] | None = None) -> Config:
    """The configuration in a file (None: the defaults), with top-level fields replaced by `overrides`."""
    values: Any = {}
    if path is not None:
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: is not YAML: {error}") from error
        if not isinstance(values, dict):
            raise ConfigError(f"{path}: must be a mapping of fields, is a {type(values).__name__}")
    values = {**values, **(overrides or {})}
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        where = path or "command line"
        lines = [f"{where}: {_explain(problem)}" for problem in error.errors()]
        raise ConfigError("\n".join(lines)) from error


def _explain(problem: Any) -> str:
    location = [str(part) for part in problem["loc"]]
    field = ".".join(location) or "configuration"
    if problem["type"] != "extra_forbidden":
        return f"{field}: {problem['msg']} (is {problem['input']!r})"
    known = _fields_at(location[:-1])
    nearest = difflib.get_close_matches(location[-1], known, n=1)
    hint = f"; did you mean {nearest[0]}?" if nearest else f"; known here are {', '.join(sorted(known))}"
    return f"{field}: unknown field{hint}"


def _fields_at(location: list[str]) -> list[str]:
    model: type[BaseModel] = Config
    for part in location:
        annotation = model.model_fields[part].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)
