"""How far a Deployment or a StatefulSet is, and what keeps its pods from coming up."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Workload:
    """Pods of a Deployment or a StatefulSet. `settled`: all are of the newest template."""

    wanted: int
    total: int
    ready: int
    updated: int
    settled: bool
    deadline_exceeded: bool = False
    """the Deployment gave up waiting (progressDeadlineSeconds); it goes on when its pods come up"""


def workload_of(obj: Object | None) -> Workload:
    """Of the live object; None is one that is not there yet."""
    if obj is None:
        return Workload(0, 0, 0, 0, settled=False)
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    wanted = int(spec.get("replicas", 1))
    total, ready = int(status.get("replicas") or 0), int(status.get("readyReplicas") or 0)
    updated = int(status.get("updatedReplicas") or 0)
    seen = int(status.get("observedGeneration") or 0) >= int(obj["metadata"].get("generation") or 0)
    exceeded = any(
        condition.get("type") == "Progressing" and condition.get("reason") == "ProgressDeadlineExceeded"
        for condition in status.get("conditions") or ()
    )
    settled = seen and updated >= wanted and total <= updated
    return Workload(wanted, total, ready, updated, settled, exceeded and not settled)


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a pod does not come up: a word for a condition, and what to do."""

    reason: str
    message: str


_SECRET = re.compile(r'secrets? "(?P<name>[^"]+)" not found')
_CONFIG_MAP = re.compile(r'configmaps? "(?P<name>[^"]+)" not found')
_KEY = re.compile(r"references non-existent (?:secret|config) key: (?P<key>[^\s\"]+)")
_IMAGE_REASONS = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")


def trouble_of(pod: Object, events: Iterable[Object] = ()) -> Trouble | None:
    """What is wrong with a pod that is not ready; None when it only needs time.

    `events` are those about the pod (events.k8s.io/v1 or v1): a volume that cannot be mounted is told only
    there, for the operator may not look at Secrets.
    """
    name = pod["metadata"]["name"]
    status = pod.get("status") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    if conditions.get("Ready", {}).get("status") == "True":
        return None
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        return Trouble("Unschedulable", f"no node takes the pod {name}: {scheduled.get('message', '')}")
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        if trouble := _trouble_of_container(name, container):
            return trouble
    return _trouble_of_volumes(name, events)


def _trouble_of_container(pod: str, container: Object) -> Trouble | None:
    waiting = (container.get("state") or {}).get("waiting") or {}
    reason, words = waiting.get("reason", ""), waiting.get("message", "")
    which = f"container {container['name']} of the pod {pod}"
    if reason in _IMAGE_REASONS:
        return Trouble(
            "ImagePullFailed",
            f"the image {container.get('image', '')} cannot be pulled ({words or reason}): "
            "check its name, and spec.imagePullSecrets",
        )
    if reason == "CrashLoopBackOff":
        ended = (container.get("lastState") or {}).get("terminated") or {}
        how = f"exit code {ended.get('exitCode')}" if ended else "it ends"
        said = f": {ended['message']}" if ended.get("message") else ""
        return Trouble(
            "CrashLoop",
            f"{which} ends again and again ({how}{said}); "
            f"see kubectl logs {pod} -c {container['name']} --previous",
        )
    if reason == "CreateContainerConfigError":
        return _reference_trouble(pod, words) or Trouble("PodRefused", f"{which} cannot start: {words}")
    if reason in ("CreateContainerError", "RunContainerError"):
        return Trouble("PodRefused", f"{which} cannot start: {words}")
    return None


def _trouble_of_volumes(pod: str, events: Iterable[Object]) -> Trouble | None:
    failed = [event for event in events if event.get("reason") in ("FailedMount", "FailedAttachVolume")]
    if not failed:
        return None
    latest = max(failed, key=_event_time)
    words = latest.get("note") or latest.get("message") or ""
    return _reference_trouble(pod, words) or Trouble(
        "MountFailed", f"a volume of the pod {pod} cannot be mounted: {words}"
    )


def _reference_trouble(pod: str, words: str) -> Trouble | None:
    for pattern, kind in ((_SECRET, "Secret"), (_CONFIG_MAP, "ConfigMap")):
        if found := pattern.search(words):
            return Trouble(
                f"{kind}Missing",
                f"the {kind} {found['name']} does not exist in this namespace, and the pod {pod} waits for "
                "it: create it, or change the reference in spec",
            )
    if found := _KEY.search(words):
        return Trouble("KeyMissing", f"the key {found['key']} is not in what the pod {pod} mounts: {words}")
    return None


def _event_time(event: Object) -> str:
    series = event.get("series") or {}
    return str(
        series.get("lastObservedTime")
        or event.get("lastTimestamp")
        or event.get("deprecatedLastTimestamp")
        or event.get("eventTime")
        or ""
    )
