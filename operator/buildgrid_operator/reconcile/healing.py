"""What others put into the pod templates that we own, and how it is taken out again.

Server-side apply keeps our own fields as they are wanted, but leaves items of lists that others add: a
foreign container, volume, environment variable or mount would run with the scheduler's rights. Foreign labels
and annotations stay, for they belong to mesh, backup and delivery tools.

An item is foreign when it is not wanted and none of its fields is ours by managedFields. What an admission
webhook adds to our own request is recorded as ours: taking it out would be a fight without an end.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from buildgrid_operator.cluster.client import FIELD_MANAGER
from buildgrid_operator.reconcile.managed_fields import Fields, item_fields, list_fields, owners

Operation = dict[str, Any]

_POD = ("spec", "template", "spec")
_CONTAINERS = ("initContainers", "containers")
_OF_CONTAINER = {"env": "name", "volumeMounts": "mountPath", "volumeDevices": "devicePath"}
_ATOMIC = ("envFrom",)


def has_pod_template(obj: Mapping[str, Any]) -> bool:
    """Whether there is a pod template to look after."""
    return "spec" in ((obj.get("spec") or {}).get("template") or {})


def foreign_removals(
    live: Mapping[str, Any], desired: Mapping[str, Any], manager: str = FIELD_MANAGER
) -> list[Operation]:
    """JSON patch operations that remove what is foreign from the pod template of `live`; may be none.

    They are for exactly this version of the object: send them with a test of its resourceVersion.
    """
    here, wanted = _pod(live), _pod(desired)
    ours = [list_fields(fields, *_POD) for name, fields in owners(live) if name == manager]
    operations: list[Operation] = []
    for name in _CONTAINERS:
        operations += _in_containers(here, wanted, ours, name)
    for name in (*_CONTAINERS, "volumes"):
        below = [list_fields(fields, name) for fields in ours]
        items, kept = here.get(name) or [], wanted.get(name) or []
        operations += _removals(_path(name), _foreign(items, kept, below, "name"))
    return operations


def _in_containers(
    here: Mapping[str, Any], wanted: Mapping[str, Any], ours: Sequence[Fields], name: str
) -> Iterator[Operation]:
    """In containers that stay. They come first, for removing a container moves those after it."""
    desired = {container["name"]: container for container in wanted.get(name) or ()}
    for index, container in enumerate(here.get(name) or ()):
        template = desired.get(container["name"])
        if template is None:
            continue
        owned = [item_fields(list_fields(fields, name), container) or {} for fields in ours]
        for part, key in _OF_CONTAINER.items():
            below = [list_fields(fields, part) for fields in owned]
            foreign = _foreign(container.get(part) or [], template.get(part) or [], below, key)
            yield from _removals(_path(name, str(index), part), foreign)
        for part in _ATOMIC:
            if container.get(part) and not template.get(part) and not any(f"f:{part}" in f for f in owned):
                yield {"op": "remove", "path": _path(name, str(index), part)}


def _foreign(
    items: Sequence[Mapping[str, Any]],
    wanted: Sequence[Mapping[str, Any]],
    ours: Sequence[Fields],
    key: str,
) -> list[int]:
    """Positions of what is neither wanted nor ours."""
    names = {item.get(key) for item in wanted}
    return [
        position
        for position, item in enumerate(items)
        if item.get(key) not in names
        and not any(item_fields(fields, {key: item.get(key)}) is not None for fields in ours)
    ]


def _removals(path: str, positions: Sequence[int]) -> list[Operation]:
    """From the last to the first, so that each position is still right when its turn comes."""
    return [{"op": "remove", "path": f"{path}/{position}"} for position in reversed(positions)]


def _pod(obj: Mapping[str, Any]) -> Mapping[str, Any]:
    pod: Mapping[str, Any] = obj["spec"]["template"]["spec"]
    return pod


def _path(*parts: str) -> str:
    return "/" + "/".join((*_POD, *parts))
