"""What a farm pass is about."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from buildgrid_operator.cluster.kinds import SCHEDULER, ObjectRef


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
