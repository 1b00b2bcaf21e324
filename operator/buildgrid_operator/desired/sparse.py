"""Leaves out of a configuration what is a default of the program that reads it.

So an older scheduler, which a newer operator keeps running, is not handed fields that it does not know.
"""

from typing import Any

from buildgrid_scheduler.config.fields import TAG_FIELDS
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from buildgrid_operator.desired.names import Json


def sparse(values: Json, read: BaseModel) -> Json:
    """The values that are no defaults, in the order of the model's fields. `read`: the validated values."""
    kept: Json = {}
    for name, field in type(read).model_fields.items():
        if name in values and (name in TAG_FIELDS or not _is_default(getattr(read, name), field)):
            kept[name] = _inner(values[name], getattr(read, name))
    return kept


def _inner(value: Any, read: Any) -> Any:
    if isinstance(read, BaseModel) and isinstance(value, dict):
        return sparse(value, read)
    if isinstance(read, tuple) and isinstance(value, list):
        return [_inner(item, parsed) for item, parsed in zip(value, read, strict=True)]
    return value


def _is_default(read: Any, field: FieldInfo) -> bool:
    if field.is_required() or field.default_factory_takes_validated_data:
        return False
    default: Any = field.get_default(call_default_factory=True)
    return bool(read == default)
