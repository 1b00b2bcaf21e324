"""From a model to the structural schema of a CRD.

Not pydantic's JSON schema: structural schemas allow no `$ref`, no `anyOf` with null and no `const`, want each
node typed, and have words of their own (`x-kubernetes-...`).
"""

from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import TypeAdapter
from pydantic.fields import FieldInfo

from buildgrid_operator.api.model import ApiModel, Unwritten
from buildgrid_operator.api.shapes import Shape

Schema = dict[str, Any]
VALIDATIONS = "x-kubernetes-validations"
LIST_TYPE = "x-kubernetes-list-type"


class SchemaError(TypeError):
    """A model cannot be written as a structural schema. The message names the field and the remedy."""


def object_schema(model: type[ApiModel]) -> Schema:
    """The schema of an object: its fields, which of them are required, and its rules."""
    schema: Schema = {"type": "object"}
    required = []
    properties: Schema = {}
    for name, field in model.model_fields.items():
        alias = field.alias or name
        try:
            properties[alias] = field_schema(field)
        except SchemaError as error:
            raise SchemaError(f"{model.__name__}.{name}: {error}") from error
        if field.is_required():
            required.append(alias)
    schema["properties"] = properties
    if required:
        schema["required"] = required
    elif any(found.get("default") and found.get(LIST_TYPE) == "set" for found in properties.values()):
        # `{}` is a whole section then. Applied twice, it would vanish the second time: the API server takes
        # items that it filled in for what the applier wrote, and writes no longer (kubernetes#135841).
        schema["x-kubernetes-map-type"] = "atomic"
    validations = [rule.schema() for rule in model.rules] + [rule.schema() for rule in model.transitions]
    if validations:
        schema[VALIDATIONS] = validations
    return schema


def field_schema(field: FieldInfo) -> Schema:
    """The schema of a field, with its description and default."""
    schema = _value_schema(field.annotation, tuple(field.metadata))
    description = field.description or _first_words(field.annotation)
    if not description:
        raise SchemaError("has no description; write a string below the field")
    found: Schema = {"description": " ".join(description.split())}
    written = not field.is_required() and not any(isinstance(mark, Unwritten) for mark in field.metadata)
    if written and (default := default_of(field)) is not None:
        found["default"] = default
    return found | schema


def default_of(field: FieldInfo) -> Any:
    """The default of a field as the API writes it; None for a field that is unset by default.

    Of a section it is whole: the API server holds the rules of the section against it before it fills in the
    defaults below.
    """
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None:
        return None
    if isinstance(value, ApiModel):
        return value.to_dict()
    whole: Any = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    return TypeAdapter(whole).dump_python(value, mode="json", by_alias=True)


def item_models(annotation: Any) -> list[type[ApiModel]]:
    """The models that a field with this annotation holds, itself or as items."""
    if isinstance(annotation, type) and issubclass(annotation, ApiModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in item_models(part)]


def unwrapped(annotation: Any, metadata: tuple[Any, ...] = ()) -> tuple[Any, tuple[Any, ...]]:
    """What is below `Annotated` and `| None`, and all marks on the way."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *marks = get_args(annotation)
        return unwrapped(inner, (*marks, *metadata))
    if origin in (Union, UnionType):
        parts = [part for part in get_args(annotation) if part is not type(None)]
        if len(parts) == 1:
            return unwrapped(parts[0], metadata)
    return annotation, metadata


def _value_schema(annotation: Any, metadata: tuple[Any, ...]) -> Schema:
    annotation, metadata = unwrapped(annotation, metadata)
    schema = _typed(annotation)
    for mark in metadata:
        if isinstance(mark, Shape):
            added = mark.schema()
            validations = [*schema.get(VALIDATIONS, ()), *added.get(VALIDATIONS, ())]
            schema |= added
            if validations:
                schema[VALIDATIONS] = validations
    _must_be_bounded(schema)
    return schema


def _typed(annotation: Any) -> Schema:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, ApiModel):
        return object_schema(annotation)
    if origin is Literal:
        return {"type": "string", "enum": list(arguments)}
    if origin is tuple and len(arguments) == 2 and arguments[1] is ...:
        return {"type": "array", "items": _value_schema(arguments[0], ())}
    if origin is dict and arguments[0] is str:
        if arguments[1] is Any:
            return {}
        return {"type": "object", "additionalProperties": _value_schema(arguments[1], ())}
    return {"type": "boolean"} if annotation is bool else {}


def _must_be_bounded(schema: Schema) -> None:
    kind = schema.get("type")
    if kind is None and not schema.get("x-kubernetes-int-or-string"):
        raise SchemaError("has no type; put a shape on its annotation (Text, Range, Duration, AnyObject ...)")
    if kind == "string" and not {"maxLength", "enum", "format"} & schema.keys():
        raise SchemaError("is an unbounded text; put Text(MAXIMUM) on its annotation")
    if kind == "integer" and not {"minimum", "maximum"} <= schema.keys():
        raise SchemaError("is an unbounded number; put Range(MINIMUM, MAXIMUM) on its annotation")
    if kind == "array" and "maxItems" not in schema:
        raise SchemaError("is an unbounded list; put Items(MAXIMUM) on its annotation")
    if "additionalProperties" in schema and "maxProperties" not in schema:
        raise SchemaError("is an unbounded map; put Entries(MAXIMUM) on its annotation")


def _first_words(annotation: Any) -> str:
    models = item_models(annotation)
    return (models[0].__doc__ or "").split("\n\n")[0] if models else ""
