"""From the fields of a spec to those of the scheduler's configuration, as their `Config` marks say."""

from datetime import timedelta
from typing import Any, Literal, get_args, get_origin

from buildgrid_scheduler.config.values import show_size
from pydantic.alias_generators import to_snake
from pydantic.fields import FieldInfo

from buildgrid_operator.api.auth import Auth
from buildgrid_operator.api.durations import show_duration
from buildgrid_operator.api.jobs import Pruning
from buildgrid_operator.api.model import ApiModel, Config
from buildgrid_operator.api.quantities import Quantity
from buildgrid_operator.api.schema import unwrapped
from buildgrid_operator.api.storage import ManagedStorage
from buildgrid_operator.api.types import CaSecretKeyRef, ConfigMapKeyRef, SecretKeyRef
from buildgrid_operator.desired.files import Files
from buildgrid_operator.desired.names import Json

_References = SecretKeyRef | CaSecretKeyRef | ConfigMapKeyRef
_BUILT_ELSEWHERE = (Auth, ManagedStorage)
"""Sections that are more than their fields: see `auth` and `storage_config`."""
NULL_FOR_ZERO = frozenset({"abandoned_operation_timeout", "lease_start_timeout", "refresh_after"})
"""Durations whose "never" is 0s in the spec and null in the configuration."""
_TLS_KEYS = ("tls.crt", "tls.key")
"""of a Secret of type kubernetes.io/tls"""


def configured(section: ApiModel, files: Files) -> Json:
    """What a section of a spec is in the configuration, below its own place there.

    Fields without a mark are the operator's, and a section without one stands where the one around it does.
    Unset fields are left out. References become paths, and `files` collects them.
    """
    tree: Json = {}
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if value is None or isinstance(value, _BUILT_ELSEWHERE):
            continue
        paths = paths_of(field)
        if isinstance(value, ApiModel) and not isinstance(value, _References):
            if isinstance(value, Pruning) and not value.enabled:
                put(tree, paths[0], None)
            else:
                merge(tree, paths[0] if paths else "", configured(value, files))
        elif len(paths) > 1:
            for path, key in zip(paths, _TLS_KEYS, strict=True):
                put(tree, path, files.secret(value, key))
        elif paths:
            put(tree, paths[0], _converted(value, field, paths[0], files))
    return tree


def paths_of(field: FieldInfo) -> tuple[str, ...]:
    """Where a field goes, below its section; empty: nowhere by itself."""
    return next((mark.paths for mark in field.metadata if isinstance(mark, Config)), ())


def put(tree: Json, path: str, value: Any) -> None:
    """Set a value at a dotted path."""
    *way, last = path.split(".")
    _section(tree, way)[last] = value


def merge(tree: Json, path: str, section: Json) -> None:
    """Put a section into the one at a dotted path; empty: into the tree itself."""
    here = _section(tree, path.split(".") if path else [])
    for name, value in section.items():
        if isinstance(value, dict):
            merge(here.setdefault(name, {}), "", value)
        else:
            here[name] = value


def _section(tree: Json, way: list[str]) -> Json:
    for name in way:
        tree = tree.setdefault(name, {})
    return tree


def _converted(value: Any, field: FieldInfo, path: str, files: Files) -> Any:
    if isinstance(value, timedelta):
        return None if not value and path.rpartition(".")[2] in NULL_FOR_ZERO else show_duration(value)
    annotation, marks = unwrapped(field.annotation, tuple(field.metadata))
    if any(isinstance(mark, Quantity) for mark in marks):
        return show_size(value)
    return _plain(value, _words(annotation), files)


def _plain(value: Any, words: frozenset[str], files: Files) -> Any:
    match value:
        case SecretKeyRef() | CaSecretKeyRef():
            return files.secret(value.name, value.key)
        case ConfigMapKeyRef():
            return files.config_map(value.name, value.key)
        case ApiModel():
            return configured(value, files)
        case dict():
            return {key: _plain(inner, words, files) for key, inner in value.items()}
        case tuple():
            return [_plain(inner, words, files) for inner in value]
        case str() if value in words:
            return to_snake(value).replace("_", "-")
    return value


def _words(annotation: Any) -> frozenset[str]:
    """The words of a choice that are CamelCase, as Kubernetes has it: the configuration has kebab-case."""
    if get_origin(annotation) is Literal:
        words = frozenset(get_args(annotation))
        return words if all(word.isalpha() and word[0].isupper() for word in words) else frozenset()
    return frozenset().union(*(_words(part) for part in get_args(annotation)))
