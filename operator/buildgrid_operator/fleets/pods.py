"""A bot pod, from what the API server shows of it."""

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any

from buildgrid_operator.cluster.kinds import Manifest
from buildgrid_operator.desired.bots.names import is_protected, number_of, template_hash_of
from buildgrid_operator.fleets.views import Phase, PodView, StartTrouble

_TROUBLES = {
    **dict.fromkeys(
        ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"),
        StartTrouble.IMAGE_PULL,
    ),
    **dict.fromkeys(
        (
            "CreateContainerConfigError",
            "CreateContainerError",
            "RunContainerError",
            "PreStartHookError",
            "PostStartHookError",
        ),
        StartTrouble.CONTAINER,
    ),
}
"""By the reason for which a container waits."""
_LONGEST_WORDS = 500
Object = Mapping[str, Any]


def pod_view(pod: Manifest, *, ended_uids: Collection[str] = ()) -> PodView | None:
    """What a manifest says; None: it is no bot pod. `ended_uids`: of those that we have deleted."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    number = number_of(metadata)
    if number is None:
        return None
    conditions = {str(each.get("type")): each for each in status.get("conditions") or ()}
    phase = _phase(pod, status, conditions)
    trouble, words = _trouble(metadata["name"], phase, status, conditions)
    return PodView(
        name=metadata["name"],
        uid=metadata["uid"],
        number=number,
        template_hash=template_hash_of(metadata),
        phase=phase,
        created=datetime.fromisoformat(metadata["creationTimestamp"]),
        scheduled=_scheduled(pod, conditions),
        node=(pod.get("spec") or {}).get("nodeName") or None,
        ending=bool(metadata.get("deletionTimestamp")) or metadata["uid"] in ended_uids,
        trouble=trouble,
        words=words,
        disrupted=_is_true(conditions.get("DisruptionTarget")),
        deleted=metadata["uid"] in ended_uids,
        protected=is_protected(metadata),
    )


def _phase(pod: Object, status: Object, conditions: Mapping[str, Object]) -> Phase:
    told = status.get("phase")
    if told in ("Succeeded", "Failed"):
        return Phase.ENDED
    placed = conditions.get("PodScheduled", {})
    if placed.get("status") == "False" and placed.get("reason") == "Unschedulable":
        return Phase.UNSCHEDULABLE
    # The phase is Running from the first container on that ever ran.
    running = told == "Running" and any("running" in _state(each) for each in _bots(status))
    return Phase.RUNNING if running else Phase.PENDING


def _scheduled(pod: Object, conditions: Mapping[str, Object]) -> datetime | None:
    placed = conditions.get("PodScheduled")
    if _is_true(placed) and placed is not None and placed.get("lastTransitionTime"):
        return datetime.fromisoformat(placed["lastTransitionTime"])
    if (pod.get("spec") or {}).get("nodeName"):
        return datetime.fromisoformat(pod["metadata"]["creationTimestamp"])
    return None


def _trouble(
    name: str, phase: Phase, status: Object, conditions: Mapping[str, Object]
) -> tuple[StartTrouble | None, str]:
    if phase is Phase.UNSCHEDULABLE:
        return None, _short(conditions["PodScheduled"].get("message") or "")
    if phase is Phase.ENDED:
        return None, _end(name, status)
    for container in _containers(status):
        waiting = _state(container).get("waiting") or {}
        reason = waiting.get("reason") or ""
        if (trouble := _TROUBLES.get(reason)) is not None:
            return trouble, _words(trouble, container, _short(waiting.get("message") or reason))
    return None, ""


def _words(trouble: StartTrouble, container: Object, told: str) -> str:
    if trouble is StartTrouble.IMAGE_PULL:
        return (
            f"the image {container.get('image', '')} cannot be pulled ({told}): check its name, and "
            "spec.imagePullSecrets"
        )
    return f"container {container.get('name', '')} cannot start: {told}"


def _end(name: str, status: Object) -> str:
    """How a pod ended: by its first container that failed, or by what the node says of the pod."""
    if reason := status.get("reason"):
        return f"the pod {name} was ended by its node ({reason}): {_short(status.get('message') or reason)}"
    ends = [(each, _state(each).get("terminated") or {}) for each in _containers(status)]
    for container, end in ends:
        if code := end.get("exitCode"):
            said = _short(end.get("message") or end.get("reason") or "")
            told = f": {said}" if said else ""
            return (
                f"container {container.get('name', '')} of the pod {name} ended with exit code {code}{told}"
            )
    return f"the pod {name} ended by itself"


def _containers(status: Object) -> Iterator[Object]:
    yield from status.get("initContainerStatuses") or ()
    yield from _bots(status)


def _bots(status: Object) -> Collection[Object]:
    return status.get("containerStatuses") or ()


def _state(container: Object) -> Object:
    return container.get("state") or {}


def _is_true(condition: Object | None) -> bool:
    return condition is not None and condition.get("status") == "True"


def _short(words: str) -> str:
    """One line of what may be a log."""
    line = " ".join(str(words).split())
    return line if len(line) <= _LONGEST_WORDS else f"...{line[-_LONGEST_WORDS:]}"
