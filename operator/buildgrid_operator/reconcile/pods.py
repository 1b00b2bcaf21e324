"""A Scheduler's pods, as the watch shows them: which serve, which do not and why, which need to hear of a
configuration. Pure, but for the look at a pod's events."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.kinds import EVENT, Manifest
from buildgrid_operator.desired.names import CONFIG_HASH
from buildgrid_operator.status.workload import Trouble, trouble_of

COMPONENT = "app.kubernetes.io/component"
_PATIENCE = timedelta(seconds=5)
"""A pod that is younger only needs time: its events are not asked for."""
Pod = Mapping[str, Any]


def of_component(pods: Iterable[Manifest], component: str) -> list[Manifest]:
    """The pods of a component that are not ending."""
    return [
        pod
        for pod in pods
        if (pod["metadata"].get("labels") or {}).get(COMPONENT) == component
        and not pod["metadata"].get("deletionTimestamp")
        and (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
    ]


def is_ready(pod: Pod) -> bool:
    """Whether it serves."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions)


def unaware(pods: Iterable[Manifest], config_hash: str) -> list[Manifest]:
    """Those that were not told of the configuration yet."""
    return [pod for pod in pods if (pod["metadata"].get("annotations") or {}).get(CONFIG_HASH) != config_hash]


def troubles(client: Client, pods: Sequence[Manifest], now: datetime) -> tuple[Trouble, ...]:
    """What keeps pods from being ready, that of the newest first. Asks for the events of one pod at most.

    Raises ClusterError.
    """
    found = []
    asked = False
    for pod in sorted(pods, key=lambda pod: str(pod["metadata"].get("creationTimestamp")), reverse=True):
        if is_ready(pod):
            continue
        trouble = trouble_of(pod)
        if trouble is None and not asked and _waits_for_volumes(pod, now):
            asked = True
            metadata = pod["metadata"]
            fields = f"regarding.uid={metadata['uid']}"
            trouble = trouble_of(pod, client.list(EVENT, metadata["namespace"], fields=fields).items)
        if trouble is not None:
            found.append(trouble)
    return tuple(found)


def _waits_for_volumes(pod: Pod, now: datetime) -> bool:
    """A container that has not begun to run may wait for a Secret, which shows only in events."""
    created = datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
    if now - created < _PATIENCE:
        return False
    status = pod.get("status") or {}
    statuses = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    return not any("running" in (each.get("state") or {}) for each in statuses)
