"""Who owns which fields of an object: metadata.managedFields, as server-side apply keeps it.

A set of fields is a tree: `f:NAME` is a field, `k:{"name":"x"}` an item of a list by its keys, `v:VALUE` an
item of a set, `.` the thing itself; a leaf is owned with all that is below it. A change of a field by
somebody else takes it from its owners, so that what we own tells whether our fields are as we left them.
https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Fields = Mapping[str, Any]

# What names an object is not owned by anybody.
_NAMES = frozenset({"name", "namespace", "uid", "resourceVersion", "generateName"})


def applied_fields(obj: Mapping[str, Any], manager: str) -> Fields:
    """What `manager` owns by server-side apply of the object itself; empty when it owns nothing."""
    for entry in obj["metadata"].get("managedFields") or ():
        if (
            entry.get("manager") == manager
            and entry.get("operation") == "Apply"
            and not entry.get("subresource")
        ):
            return entry.get("fieldsV1") or {}
    return {}


def owners(obj: Mapping[str, Any]) -> Iterator[tuple[str, Fields]]:
    """Each (manager, fields) of the object itself, of whatever operation."""
    for entry in obj["metadata"].get("managedFields") or ():
        if not entry.get("subresource"):
            yield entry.get("manager", ""), entry.get("fieldsV1") or {}


def digest(fields: Fields) -> str:
    """Equal for equal sets of fields."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]


def covers(fields: Fields, desired: Mapping[str, Any]) -> bool:
    """Whether every field of an applied object is among `fields`."""
    for name, value in desired.items():
        if name in ("apiVersion", "kind"):
            continue
        if name == "metadata":
            value = {key: part for key, part in value.items() if key not in _NAMES}
            if not value:
                continue
        if not _has(fields, name, value):
            return False
    return True


def _has(fields: Fields, name: str, value: Any) -> bool:
    if value is None:
        return True
    below = fields.get(f"f:{name}")
    return below is not None and _covers_value(below, value)


def _covers_value(fields: Fields, value: Any) -> bool:
    if not fields:
        return True
    if isinstance(value, Mapping):
        return all(_has(fields, name, part) for name, part in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return all(_covers_item(fields, item) for item in value)
    return True


def _covers_item(fields: Fields, item: Any) -> bool:
    if isinstance(item, Mapping):
        found = item_fields(fields, item)
        return found is not None and _covers_value(found, item)
    return f"v:{json.dumps(item, separators=(',', ':'))}" in fields


def item_fields(fields: Fields, item: Mapping[str, Any]) -> Fields | None:
    """The fields of an item in those of its list, or None. A key that the item leaves out matches."""
    for key, below in fields.items():
        if not key.startswith("k:"):
            continue
        names = json.loads(key[2:])
        if all(item[name] == value if name in item else True for name, value in names.items()):
            return dict(below)
    return None


def list_fields(fields: Fields, *path: str) -> Fields:
    """The fields below `path`; empty when nothing there is owned."""
    for name in path:
        fields = fields.get(f"f:{name}") or {}
    return fields
