"""What a spec's podTemplate may not do: reach out of the pod, or take apart what the operator relies on."""

from collections.abc import Iterator
from typing import Any

from buildgrid_operator.api.problems import Problem
from buildgrid_operator.desired.names import Json

_ASK = "is not allowed; remove it, or let whoever runs the operator allow privileged pod templates"
_HOST_NAMESPACES = ("hostNetwork", "hostPID", "hostIPC")
_CONTAINERS = ("containers", "initContainers", "ephemeralContainers")
_METADATA = ("labels", "annotations")


def forbidden(
    template: Json, result: Json, patch: Json, field: str, *, main: str, privileged: bool
) -> list[Problem]:
    """What is wrong with a merged pod template.

    `template` is as it was before, `patch` what was merged into it, `field` where the patch stands. Fields
    are named where they are in the patch.
    """
    naming = _Naming(patch, field)
    found = list(_relied_on(template, result, patch, field, main))
    if not privileged:
        found += _reaching_out(template, result, naming, field)
    return found


class _Naming:
    """Where the items of a list are in the patch: `containers[0]`."""

    def __init__(self, patch: Json, field: str) -> None:
        self._spec = _map(patch.get("spec"))
        self._field = f"{field}.spec"

    def item(self, listed: str, name: Any) -> str:
        """By the name of the item; the list itself if the patch does not mention it."""
        for number, item in enumerate(self._spec.get(listed) or ()):
            if item.get("name") == name:
                return f"{self._field}.{listed}[{number}]"
        return f"{self._field}.{listed}"


def _relied_on(template: Json, result: Json, patch: Json, field: str, main: str) -> Iterator[Problem]:
    for name in _map(patch.get("metadata")):
        if name not in _METADATA:
            yield Problem(f"{field}.metadata.{name}", "cannot be set; labels and annotations can")
    for kind in _METADATA:
        ours, theirs = template["metadata"][kind], _map(_map(result.get("metadata")).get(kind))
        for name, value in ours.items():
            if theirs.get(name) != value:
                yield Problem(f"{field}.metadata.{kind}", f"{name} is the operator's; remove it")
    containers = _map(result.get("spec")).get("containers") or ()
    if all(container.get("name") != main for container in containers):
        yield Problem(f"{field}.spec.containers", f"the container {main} must remain; do not remove it")


def _reaching_out(template: Json, result: Json, naming: _Naming, field: str) -> Iterator[Problem]:
    pod, account = _map(result.get("spec")), template["spec"]["serviceAccountName"]
    for name in _HOST_NAMESPACES:
        if pod.get(name):
            yield Problem(f"{field}.spec.{name}", _ASK)
    for name in ("serviceAccountName", "serviceAccount"):
        if pod.get(name, account) != account:
            yield Problem(f"{field}.spec.{name}", f"another ServiceAccount {_ASK}")
    if _host_process(pod):
        yield Problem(f"{field}.spec.securityContext.windowsOptions.hostProcess", _ASK)
    for volume in pod.get("volumes") or ():
        if "hostPath" in volume:
            yield Problem(f"{naming.item('volumes', volume['name'])}.hostPath", _ASK)
    for listed in _CONTAINERS:
        for container in pod.get(listed) or ():
            where = f"{naming.item(listed, container['name'])}.securityContext"
            if _map(container.get("securityContext")).get("privileged"):
                yield Problem(f"{where}.privileged", _ASK)
            if _host_process(container):
                yield Problem(f"{where}.windowsOptions.hostProcess", _ASK)


def _host_process(holder: Json) -> bool:
    return bool(_map(_map(holder.get("securityContext")).get("windowsOptions")).get("hostProcess"))


def _map(value: Any) -> Json:
    """What is no mapping is for the API server to refuse."""
    return value if isinstance(value, dict) else {}
