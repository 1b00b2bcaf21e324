"""The one finalizer: on a Scheduler with spec.deletion.drain, so that deleting it waits for its jobs."""

import logging
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from buildgrid_operator.api.scheduler import Deletion
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.errors import ClusterError, Forbidden, NamespaceTerminating, NotFound
from buildgrid_operator.cluster.fleet import FleetState
from buildgrid_operator.cluster.kinds import CONFIG_MAP, Manifest, ObjectRef
from buildgrid_operator.status.scheduler_conditions import Draining

_log = logging.getLogger(__name__)
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


def is_ending(client: Client, namespace: str) -> bool:
    """Whether a namespace is being deleted: its pods go whatever waits for them. Raises ClusterError.

    It is asked by making nothing, since the operator may not look at namespaces.
    """
    nothing = {
        "apiVersion": CONFIG_MAP.api_version,
        "kind": CONFIG_MAP.kind,
        "metadata": {"generateName": "buildgrid-", "namespace": namespace},
    }
    try:
        client.create(nothing, dry_run=True)
    except (NamespaceTerminating, NotFound):
        return True
    except Forbidden:
        return False
    return False


def free_where_all_ends(client: Client, schedulers: Iterable[Manifest]) -> list[ObjectRef]:
    """Remove the finalizer of Schedulers whose namespaces are being deleted, and return which were freed.

    To be called when the operator ends: it may be in such a namespace itself, and then nobody else does it.
    """
    held = [obj for obj in schedulers if is_held(obj)]
    freed = []
    for namespace in sorted({obj["metadata"]["namespace"] for obj in held}):
        try:
            if not is_ending(client, namespace):
                continue
            for obj in held:
                if obj["metadata"]["namespace"] == namespace:
                    ref = ObjectRef.of(obj)
                    with_finalizer(client, client.get(ref.kind, ref.namespace, ref.name), False)
                    freed.append(ref)
        except ClusterError as error:
            _log.warning("Schedulers in %s may keep their finalizer: %s", namespace, error)
    return freed


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
