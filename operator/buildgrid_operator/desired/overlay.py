"""Puts a spec's podTemplate over a pod template: a strategic merge patch.

Maps are merged, null removes, and lists whose items have a merge key in the API of pods are merged by it; all
others are replaced as wholes. `$patch: delete` removes an item or a map, `$patch: replace` replaces it. A
volume has one source: another one takes its place (in the API that is the strategy retainKeys).
"""

from typing import Any

from buildgrid_operator.api.problems import InvalidSpec, Problem
from buildgrid_operator.api.types import PodTemplate
from buildgrid_operator.desired.names import Json
from buildgrid_operator.desired.overlay_limits import forbidden

Path = tuple[str, ...]

_PATCH = "$patch"
_CONTAINERS = ("containers", "initContainers", "ephemeralContainers")
_POD_KEYS: dict[str, Path] = {
    **dict.fromkeys(_CONTAINERS, ("name",)),
    "volumes": ("name",),
    "imagePullSecrets": ("name",),
    "hostAliases": ("ip",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
    "schedulingGates": ("name",),
    "resourceClaims": ("name",),
}
_CONTAINER_KEYS: dict[str, Path] = {
    "env": ("name",),
    "ports": ("containerPort", "protocol"),
    "volumeMounts": ("mountPath",),
    "volumeDevices": ("devicePath",),
}
_MERGE_KEYS: dict[Path, Path] = {
    **{("spec", name): keys for name, keys in _POD_KEYS.items()},
    **{("spec", where, name): keys for where in _CONTAINERS for name, keys in _CONTAINER_KEYS.items()},
}
"""By the place of the list, without the numbers of items."""
_KEY_DEFAULTS = {"protocol": "TCP", "whenUnsatisfiable": "DoNotSchedule"}


def overlaid(template: Json, overlay: PodTemplate, field: str, *, main: str, privileged: bool) -> Json:
    """The template with the overlay put over it; neither is changed.

    `field` is where the overlay stands, `main` the container that must remain, `privileged` whether pods may
    reach out of themselves. Raises InvalidSpec with everything that is wrong with the overlay.
    """
    patch = overlay.to_dict()
    merging = _Merging()
    result = merging.map(template, patch, (), field)
    problems = merging.problems or forbidden(template, result, patch, field, main=main, privileged=privileged)
    if problems:
        raise InvalidSpec(problems)
    return result


class _Merging:
    """Merges, and notes what cannot be merged with its field."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def map(self, base: Json, patch: Json, path: Path, field: str) -> Json:
        """A copy of `base` with the patch in it. Nothing is changed in place: containers share maps."""
        directive = patch.get(_PATCH, "merge")
        if directive not in ("merge", "replace"):
            self._complain(field, f"$patch: {directive} cannot be here; use replace, or null to remove it")
        result = {} if directive == "replace" else dict(base)
        for name, value in patch.items():
            where, told = (*path, name), f"{field}.{name}"
            if name.startswith("$"):
                if name != _PATCH:
                    self._complain(told, "is not supported; $patch: delete and $patch: replace are")
            elif value is None or (isinstance(value, dict) and value.get(_PATCH) == "delete"):
                result.pop(name, None)
            elif (keys := _MERGE_KEYS.get(where)) is not None:
                result[name] = self._list(result.get(name), value, keys, where, told)
            elif isinstance(value, dict):
                result[name] = self.map(_map_in(result, name), value, where, told)
            elif isinstance(result.get(name), dict):
                self._complain(told, "must be a mapping, or null to remove it")
            else:
                result[name] = value
        return result

    def _list(self, base: Any, patch: Any, keys: Path, path: Path, field: str) -> list[Json]:
        items = list(base or [])
        if not isinstance(patch, list) or not all(isinstance(item, dict) for item in patch):
            self._complain(field, "must be a list of mappings")
            return items
        if {_PATCH: "replace"} in patch:
            items = []
            patch = [item for item in patch if item != {_PATCH: "replace"}]
        for number, item in enumerate(patch):
            where = f"{field}[{number}]"
            if item.get(keys[0]) is None:
                self._complain(f"{where}.{keys[0]}", "is missing; it says which item is meant")
                continue
            found = next((n for n, old in enumerate(items) if _same(old, item, keys)), None)
            if item.get(_PATCH) == "delete":
                items = [old for n, old in enumerate(items) if n != found]
            elif found is None:
                items.append(self.map({}, item, path, where))
            else:
                old = _without_source(items[found], item) if path == ("spec", "volumes") else items[found]
                items[found] = self.map(old, item, path, where)
        return items

    def _complain(self, field: str, message: str) -> None:
        self.problems.append(Problem(field, message))


def _map_in(base: Json, name: str) -> Json:
    found = base.get(name)
    return found if isinstance(found, dict) else {}


def _same(old: Json, new: Json, keys: Path) -> bool:
    return all(old.get(key, _KEY_DEFAULTS.get(key)) == new.get(key, _KEY_DEFAULTS.get(key)) for key in keys)


def _without_source(old: Json, new: Json) -> Json:
    """The volume without its source, if it is to have another."""
    sources = {name for name, value in new.items() if name not in ("name", _PATCH) and value is not None}
    return old if not sources or sources & old.keys() else {"name": old["name"]}
