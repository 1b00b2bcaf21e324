"""What bots of a fleet offer, and what else they say of themselves."""

from buildgrid_operator.api.bot_fleet import BotFleetSpec, Sandbox
from buildgrid_operator.api.property_set import Property

FLEET_UID, CLUSTER_UID = "fleet-uid", "cluster-uid"
"""Worker properties by which the operator knows its bots again."""
SANDBOX_LEVEL = "sandbox-level"
"""The worker property that tells how the pod is kept apart; what the bot itself does is in `sandbox`."""
ARCHITECTURE = "kubernetes.io/arch"
_DEFAULTS = {"OSFamily": "linux", "ISA": "x86-64"}
_ARCHITECTURES = {
    **dict.fromkeys(("x86-64", "x86_64", "amd64", "x64"), "amd64"),
    **dict.fromkeys(("aarch64", "arm64", "armv8"), "arm64"),
}
"""What clients call an ISA, as Kubernetes calls it."""


def offered(spec: BotFleetSpec) -> tuple[tuple[str, str], ...]:
    """What is matched with what actions require: the spec's properties, and OSFamily and ISA in any case."""
    given = _pairs(spec.properties)
    keys = {key for key, _ in given}
    return (*given, *((key, value) for key, value in _DEFAULTS.items() if key not in keys))


def told(spec: BotFleetSpec, fleet_uid: str, cluster_uid: str) -> tuple[tuple[str, str], ...]:
    """Worker properties: not matched. The bot adds its capacity class."""
    return (
        (FLEET_UID, fleet_uid),
        (CLUSTER_UID, cluster_uid),
        (SANDBOX_LEVEL, sandbox_level(spec.sandbox)),
        *_pairs(spec.worker_properties),
    )


def sandbox_level(sandbox: Sandbox) -> str:
    """How actions are kept apart from the node: for `status.sandbox`, too."""
    return sandbox.type if sandbox.type != "RuntimeClass" else f"RuntimeClass/{sandbox.runtime_class_name}"


def architecture(spec: BotFleetSpec) -> str | None:
    """Of the nodes, in Kubernetes' words; None: any, because it has none for this ISA, or there are two."""
    values = {value.lower() for key, value in offered(spec) if key == "ISA"}
    found = {_ARCHITECTURES[value] for value in values if value in _ARCHITECTURES}
    return found.pop() if len(found) == 1 else None


def _pairs(properties: tuple[Property, ...]) -> tuple[tuple[str, str], ...]:
    return tuple((each.key, each.value) for each in properties)
