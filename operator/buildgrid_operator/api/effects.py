"""What an edit causes: a reload, a rollout, or neither."""

from typing import Any

from pydantic.fields import FieldInfo

from buildgrid_operator.api.model import ApiModel, Effect


def effect_of(field: FieldInfo) -> Effect | None:
    """What a change of the field causes; None: what its section says."""
    return next((mark for mark in field.metadata if isinstance(mark, Effect)), None)


def rollout_view(spec: ApiModel, effect: Effect | None = None) -> dict[str, Any]:
    """The fields whose change replaces the pods, as the API writes them, without what is a default.

    A hash of it stays the same when a newer operator knows more fields. `effect` is that of the section
    around.
    """
    view: dict[str, Any] = {}
    for name, field in type(spec).model_fields.items():
        value, here = getattr(spec, name), effect_of(field) or effect
        alias = field.alias or name
        if isinstance(value, ApiModel):
            default = None if field.is_required() else field.get_default(call_default_factory=True)
            inner = rollout_view(value, here)
            if inner or (here is Effect.ROLLOUT and default is None):
                view[alias] = inner
        elif here is Effect.ROLLOUT and (field.is_required() or value != _default(field)):
            view[alias] = spec.to_dict().get(alias)
    return view


def _default(field: FieldInfo) -> Any:
    return field.get_default(call_default_factory=True, validated_data={})
