"""The one finalizer: on a Scheduler with spec.deletion.drain, so that deleting it waits for its jobs."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from buildgrid_operator.api.scheduler import Deletion
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.fleet import FleetState
from buildgrid_operator.cluster.kinds import Manifest, ObjectRef
from buildgrid_operator.status.scheduler_conditions import Draining

FINALIZER = "buildgrid.build/drain"


def is_held(obj: Mapping[str, Any]) -> bool:
    """Whether the object has our finalizer."""
    return FINALIZER in (obj["metadata"].get("finalizers") or ())


def with_finalizer(client: Client, obj: Manifest, wanted: bool) -> Manifest:
    """Set or remove the finalizer if that is needed. Returns the object as it is then.

    Raises Conflict if it has changed since it was read, and NotFound.
    """
    finalizers = list(obj["metadata"].get("finalizers") or ())
    if (FINALIZER in finalizers) == wanted:
        return obj
    kept = [name for name in finalizers if name != FINALIZER]
    operation = {
        "op": "add",
        "path": "/metadata/finalizers",
        "value": [*kept, FINALIZER] if wanted else kept,
    }
    version = obj["metadata"]["resourceVersion"]
    return client.patch_json(ObjectRef.of(obj), [operation], resource_version=version)


def still_draining(
    deletion: Deletion | None, state: FleetState | None, *, served: bool, since: datetime, now: datetime
) -> Draining | None:
    """What a Scheduler that is being deleted waits for; None: for nothing.

    `deletion` is None where the spec cannot be read. `state` is None when the replicas do not answer. Without
    replicas that ever served there are no jobs. Time is up `drainTimeout` after `since`.
    """
    if deletion is None or not deletion.drain or not served or now - since >= deletion.drain_timeout:
        return None
    if state is None:
        return Draining(None, None)
    return Draining(state.queued, state.executing) if state.queued or state.executing else None
