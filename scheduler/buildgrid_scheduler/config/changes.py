"""What differs between two configurations, and which of it a running server takes up."""

from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel

from buildgrid_scheduler.config.fields import is_marked, is_reloadable
from buildgrid_scheduler.config.section import RELOADABLE_ALONE

M = TypeVar("M", bound=BaseModel)


@dataclass(slots=True)
class Changes:
    """Dotted names of fields. A section that is reloadable as a whole is named as a whole."""

    reloadable: list[str] = field(default_factory=list)
    at_restart: list[str] = field(default_factory=list)


def changes(old: BaseModel, new: BaseModel, path: str = "") -> Changes:
    """From the configuration in force to another."""
    found = Changes()
    taken_up = _taken_up(old, new)
    for name in type(old).model_fields:
        before, after = getattr(old, name), getattr(new, name)
        inner = f"{path}.{name}" if path else name
        if before == after:
            continue
        if name in taken_up:
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
    taken_up = _taken_up(old, new)
    for name in type(old).model_fields:
        before, after = getattr(old, name), getattr(new, name)
        if name in taken_up:
            values[name] = after
        elif _same_section(before, after):
            values[name] = in_force(before, after)
    return old.model_copy(update=values)


def _taken_up(old: BaseModel, new: BaseModel) -> frozenset[str]:
    """The fields of a section whose new values a running server takes up, as wholes."""
    fields = type(old).model_fields
    waits = any(
        not is_reloadable(spec) and getattr(old, name) != getattr(new, name) for name, spec in fields.items()
    )
    return frozenset(
        name
        for name, spec in fields.items()
        if is_reloadable(spec) and not (waits and is_marked(spec, RELOADABLE_ALONE))
    )


def _same_section(before: Any, after: Any) -> bool:
    return isinstance(before, BaseModel) and type(before) is type(after)
