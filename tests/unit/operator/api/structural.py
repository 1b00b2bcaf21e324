"""What Kubernetes asks of a structural schema, checked without a cluster.

The rules are those of apiextensions.k8s.io/v1, "Specifying a structural schema", and this project's own: each
property is described, and each text, list, map and number is bounded.
"""

from typing import Any

Schema = dict[str, Any]

FORBIDDEN = (
    "$ref", "$schema", "$defs", "id", "definitions", "dependencies", "deprecated", "discriminator", "const",
    "patternProperties", "readOnly", "writeOnly", "xml", "allOf", "oneOf", "not", "title",
)  # fmt: skip
KNOWN = frozenset({
    "type", "description", "default", "enum", "format", "pattern", "minLength", "maxLength", "minimum",
    "maximum", "minItems", "maxItems", "items", "properties", "required", "additionalProperties",
    "maxProperties", "anyOf", "x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string",
    "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type",
    "x-kubernetes-validations",
})  # fmt: skip
_TYPES = ("object", "array", "string", "integer", "boolean")
_INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]


def faults(schema: Schema, path: str = "") -> list[str]:
    """Everything that is wrong with a schema; empty if nothing is."""
    found = [f"{path}: {word} is forbidden" for word in FORBIDDEN if word in schema]
    found += [f"{path}: {word} is unknown" for word in sorted(schema.keys() - KNOWN - set(FORBIDDEN))]
    if schema.get("x-kubernetes-int-or-string"):
        if "type" in schema or schema.get("anyOf") != _INT_OR_STRING:
            found.append(f"{path}: an int-or-string has no type, and anyOf integer and string")
    else:
        if schema.get("type") not in _TYPES:
            found.append(f"{path}: has no type")
        if "anyOf" in schema:
            found.append(f"{path}: anyOf is for int-or-string")
    found += _unbounded(schema, path)
    found += _badly_listed(schema, path)
    if schema.get("x-kubernetes-map-type", "atomic") != "atomic" or (
        "x-kubernetes-map-type" in schema and schema.get("type") != "object"
    ):
        found.append(f"{path}: x-kubernetes-map-type is for objects, and atomic")
    found += _bad_rules(schema, path)
    if "default" in schema:
        found += [f"{path}: default: {fault}" for fault in mismatches(schema["default"], schema)]
    if schema.keys() >= {"properties", "additionalProperties"}:
        found.append(f"{path}: is a map and an object")
    for name in schema.get("required", ()):
        if name not in schema.get("properties", {}):
            found.append(f"{path}: requires {name}, which it does not have")
        elif "default" in schema["properties"][name]:
            found.append(f"{path}.{name}: is required and has a default")
    for name, inner in schema.get("properties", {}).items():
        if path and path != ".metadata" and "description" not in inner:
            found.append(f"{path}.{name}: is not described")
        found += faults(inner, f"{path}.{name}")
    for word, mark in (("items", "[]"), ("additionalProperties", "[KEY]")):
        if word in schema:
            found += faults(schema[word], path + mark)
    return found


def _unbounded(schema: Schema, path: str) -> list[str]:
    if path == ".metadata.name":  # the API server bounds it
        return []
    kind = schema.get("type")
    bounds = {
        "string": ("maxLength", "enum", "format"),
        "integer": ("maximum",),
        "array": ("maxItems",),
    }.get(str(kind), ())
    if "additionalProperties" in schema:
        bounds = ("maxProperties",)
    return [f"{path}: is unbounded"] if bounds and not set(bounds) & schema.keys() else []


def _badly_listed(schema: Schema, path: str) -> list[str]:
    kind = schema.get("x-kubernetes-list-type")
    if schema.get("type") != "array":
        return [f"{path}: is no list and has a list type"] if kind else []
    if kind not in ("atomic", "set", "map"):
        return [f"{path}: has no list type"]
    if "items" not in schema:
        return [f"{path}: has no items"]
    item, keys = schema["items"], schema.get("x-kubernetes-list-map-keys", [])
    if kind == "set" and item.get("type") in ("object", "array"):
        return [f"{path}: is a set of what is not scalar"]
    if (kind == "map") != bool(keys):
        return [f"{path}: a list of type map, and only one, has keys"]
    return [
        f"{path}: its key {key} must be required or have a default"
        for key in keys
        if key not in item.get("required", ()) and "default" not in item.get("properties", {}).get(key, {})
    ]


def _bad_rules(schema: Schema, path: str) -> list[str]:
    found = []
    for rule in schema.get("x-kubernetes-validations", ()):
        if not rule.get("rule") or not rule.get("message") or "\n" in rule["message"]:
            found.append(f"{path}: a rule needs CEL and a message of one line")
        if "fieldPath" in rule and not _has(schema, rule["fieldPath"]):
            found.append(f"{path}: {rule['fieldPath']} of a rule is not there")
    return found


def _has(schema: Schema, field_path: str) -> bool:
    here = schema
    for part in field_path.removeprefix(".").split("."):
        if part not in here.get("properties", {}):
            return False
        here = here["properties"][part]
    return True


def mismatches(value: Any, schema: Schema) -> list[str]:
    """Why a value is not of a schema, as far as types, bounds and words go."""
    kind = schema.get("type")
    types = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
    if kind and (not isinstance(value, types[kind]) or (kind == "integer" and isinstance(value, bool))):
        return [f"{value!r} is no {kind}"]
    found = [f"{value!r} is none of {schema['enum']}"] if value not in schema.get("enum", [value]) else []
    if kind == "integer" and not schema["minimum"] <= value <= schema["maximum"]:
        found.append(f"{value!r} is out of range")
    if kind == "array":
        found += [fault for item in value for fault in mismatches(item, schema["items"])]
    if kind == "object" and "properties" in schema:
        found += [f"{name} is missing" for name in schema.get("required", ()) if name not in value]
        for name, inner in value.items():
            known = schema["properties"].get(name)
            found += [f"{name} is unknown"] if known is None else mismatches(inner, known)
    return found
