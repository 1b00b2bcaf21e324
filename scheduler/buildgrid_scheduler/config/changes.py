"""What differs between two configurations, and which of it a running server takes up."""

from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel

from buildgrid_scheduler.config.fields import is_reloadable

M = TypeVar("M", bound=BaseModel)


@dataclass(slots=True)
class Changes:
    """Dotted names of fields. A section that is reloadable as a whole is named as a whole."""

    reloadable: list[str] = field(default_factory=list)
    at_restart: list[str] = field(default_factory=list)


def changes(old: BaseModel, new: BaseModel, path: str = "") -> Changes:
    """From the configuration in force to another."""
    found = Changes()
    for name, spec in type(old).model_fields.items():
        before, after = getattr(old, name), getattr(new, name)
        inner = f"{path}.{name}" if path else name
        if before == after:
            continue
        if is_reloadable(spec):
            found.reloadable.append(inner)
        elif _same_section(before, after):
            below = changes(before, after, inner)
            found.reloadable += below.reloadable
            found.at_restart += below.at_restart
        else:
            found.at_restart.append(inner)
    return found


def in_force(old: M, new: M) -> M:
    """What a running server makes of a new configuration: its reloadable fields, the others as ever."""
    values: dict[str, Any] = {}
    for name, spec in type(old).model_fields.items():
        before, after = getattr(old, name), getattr(new, name)
        if is_reloadable(spec):
            values[name] = after
        elif _same_section(before, after):
            values[name] = in_force(before, after)
    return old.model_copy(update=values)


def _same_section(before: Any, after: Any) -> bool:
    return isinstance(before, BaseModel) and type(before) is type(after)
