"""Objects as watches show them."""

from typing import Any

from buildgrid_operator.cluster.kinds import Kind, ObjectRef
from buildgrid_operator.desired.names import SCHEDULER_LABEL

Json = dict[str, Any]
NAMESPACE = "farm"


def obj(kind: Kind, name: str, *, version: int = 1, uid: str = "", scheduler: str = "", **more: Any) -> Json:
    """An object, with the label of a Scheduler if it belongs to one."""
    labels = {SCHEDULER_LABEL: scheduler} if scheduler else {}
    metadata = {
        "name": name,
        "namespace": NAMESPACE,
        "uid": uid or f"uid-{name}",
        "resourceVersion": str(version),
        "labels": labels,
    }
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata, **more}


def ref(kind: Kind, name: str) -> ObjectRef:
    """Which object."""
    return ObjectRef(kind, NAMESPACE, name)
