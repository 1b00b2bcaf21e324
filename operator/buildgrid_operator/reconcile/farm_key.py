"""What a farm pass is about."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from buildgrid_operator.cluster.kinds import BOT_FLEET, SCHEDULER, ObjectRef
from buildgrid_operator.desired.bots.names import scheduler_told_by_pod


@dataclass(frozen=True, slots=True)
class FarmKey:
    """All BotFleets of a Scheduler, which need not exist: they are planned together."""

    scheduler: ObjectRef

    def __str__(self) -> str:
        return f"the fleets of {self.scheduler}"


def scheduler_of(fleet: Mapping[str, Any]) -> ObjectRef | None:
    """The Scheduler that a BotFleet refers to, whether or not its spec is valid."""
    spec = fleet.get("spec")
    reference = spec.get("schedulerRef") if isinstance(spec, Mapping) else None
    if not isinstance(reference, Mapping):
        return None
    name, namespace = reference.get("name"), reference.get("namespace")
    if not isinstance(name, str) or not name:
        return None
    own = fleet["metadata"].get("namespace") or ""
    return ObjectRef(SCHEDULER, namespace if isinstance(namespace, str) and namespace else own, name)


def scheduler_of_stray(pod: Mapping[str, Any]) -> ObjectRef | None:
    """The Scheduler that a bot pod works for whose BotFleet has left it behind; None: it is no such pod.

    What a BotFleet owns goes with it; what was deleted with --cascade=orphan has no owner any more.
    """
    metadata = pod["metadata"]
    if any(owner.get("kind") == BOT_FLEET.kind for owner in metadata.get("ownerReferences") or ()):
        return None
    told = scheduler_told_by_pod(metadata)
    return None if told is None else ObjectRef(SCHEDULER, *told)
