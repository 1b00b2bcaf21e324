"""The Pod Security Standard `restricted`, as its page in the Kubernetes documentation lists the controls."""

from collections.abc import Iterator
from typing import Any

Json = dict[str, Any]

_VOLUMES = frozenset(
    {
        "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim",
        "projected", "secret",
    }
)  # fmt: skip
_SYSCTLS = frozenset({"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies"})


def violations(template: Json) -> list[str]:
    """What keeps a pod template from a namespace that enforces `restricted`."""
    return list(_violations(template["spec"]))


def _violations(pod: Json) -> Iterator[str]:
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(name):
            yield name
    for volume in pod.get("volumes", ()):
        if not (volume.keys() - {"name"}) <= _VOLUMES:
            yield f"volume {volume['name']}"
    shared = pod.get("securityContext", {})
    if {each["name"] for each in shared.get("sysctls", ())} - _SYSCTLS:
        yield "sysctls"
    for listed in ("containers", "initContainers"):
        for container in pod.get(listed, ()):
            for words in _of_container(container, shared):
                yield f"{container['name']}: {words}"


def _of_container(container: Json, shared: Json) -> Iterator[str]:
    own = container.get("securityContext", {})
    merged = {**shared, **own}
    if own.get("privileged"):
        yield "privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation"
    if merged.get("runAsNonRoot") is not True:
        yield "runAsNonRoot"
    if merged.get("runAsUser") == 0:
        yield "runAsUser"
    if merged.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "seccompProfile"
    capabilities = own.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", ()) or set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
        yield "capabilities"
    if own.get("procMount", "Default") != "Default":
        yield "procMount"
    if merged.get("windowsOptions", {}).get("hostProcess"):
        yield "hostProcess"
    if any(port.get("hostPort") for port in container.get("ports", ())):
        yield "hostPort"
