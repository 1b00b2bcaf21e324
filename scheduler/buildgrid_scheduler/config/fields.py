"""Finding one's way in the models: which fields there are at a place, and what a field may hold."""

from collections.abc import Iterator
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, JsonValue
from pydantic.fields import FieldInfo

from buildgrid_scheduler.config.problems import Location
from buildgrid_scheduler.config.section import RELOADABLE, SECRET

Model = type[BaseModel]
TAG_FIELDS = ("kind", "type")
"""Fields that say which section of a choice is meant."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a location leads.

    `path` is as in the file: without the tags of choices, which pydantic puts between. `annotations` is what
    may be there, and `field` the innermost field on the way.
    """

    path: Location
    annotations: tuple[Any, ...]
    field: FieldInfo | None
    secret: bool = False

    @property
    def models(self) -> list[Model]:
        """The sections that may be there."""
        return [model for annotation in self.annotations for model in models_of(annotation)]

    @property
    def known(self) -> list[str]:
        """The names of the fields that may be there."""
        return sorted({name for model in self.models for name in model.model_fields})


def place_of(root: Model, location: Location) -> Place:
    """Follow a location of pydantic, or a path of the file, as far as the models know it."""
    place = Place((), (root,), None)
    for part in location:
        if part != "[key]":  # pydantic's word for: not the value under the key before, but the key
            place = _step(place, part)
    return place


def _step(place: Place, part: str | int) -> Place:
    models = place.models
    tagged = [model for model in models if part in tags_of(model)]
    if len(models) > 1 and tagged:
        return Place(place.path, tuple(tagged), place.field, place.secret)
    path = (*place.path, part)
    for model in models:
        if (field := model.model_fields.get(str(part))) is not None:
            secret = place.secret or is_marked(field, SECRET)
            return Place(path, (field.annotation,), field, secret)
    items = [item for annotation in place.annotations for item in _items_of(annotation)]
    if not models and not items:
        return place  # which alternative of a plain value pydantic has tried
    return Place(path, tuple(items), place.field, place.secret)


def models_of(annotation: Any) -> list[Model]:
    """The sections that a field with this annotation holds itself: several for a choice, none for a value."""
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [model for part in alternatives(annotation) if part != annotation for model in models_of(part)]


def items_models(annotation: Any) -> list[Model]:
    """The sections that are items of a list with this annotation."""
    return [model for item in _items_of(annotation) for model in models_of(item)]


def accepts_none(annotation: Any) -> bool:
    """Whether null is a value of its own."""
    return type(None) in alternatives(annotation)


def is_plainly(field: FieldInfo, kind: type) -> bool:
    """Whether a field holds values of this kind, or null, and has no manner of writing them of its own."""
    kinds = set(alternatives(field.annotation)) - {type(None)}
    return kinds == {kind} and not any(isinstance(entry, BeforeValidator) for entry in field.metadata)


def choices_of(annotation: Any) -> list[str]:
    """The words of a Literal, also of an optional one."""
    return [
        str(word)
        for part in alternatives(annotation)
        if get_origin(part) is Literal
        for word in get_args(part)
    ]


def tags_of(model: Model) -> set[str]:
    """The words that tell a section of a choice from the others."""
    return {
        word
        for name in TAG_FIELDS
        if (field := model.model_fields.get(name)) is not None
        for word in choices_of(field.annotation)
    }


def is_marked(field: FieldInfo, mark: dict[str, JsonValue]) -> bool:
    """Whether a field carries a mark (RELOADABLE, SECRET)."""
    extra = field.json_schema_extra
    return isinstance(extra, dict) and all(extra.get(key) == value for key, value in mark.items())


def is_reloadable(field: FieldInfo) -> bool:
    """Whether a running server takes up a new value of the field."""
    return is_marked(field, RELOADABLE)


def alternatives(annotation: Any) -> Iterator[Any]:
    """The annotations that a union allows; any other one itself."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from alternatives(get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for part in get_args(annotation):
            yield from alternatives(part)
    else:
        yield annotation


def _items_of(annotation: Any) -> Iterator[Any]:
    for part in alternatives(annotation):
        origin, arguments = get_origin(part), get_args(part)
        if origin is dict:
            yield arguments[1]
        elif origin in (list, tuple, set, frozenset):
            yield arguments[0]
