"""The one finalizer: on a Scheduler with spec.deletion.drain, so that deleting it waits for its jobs."""

import logging
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from buildgrid_operator.api.scheduler import Deletion
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.errors import ClusterError, Forbidden, NamespaceTerminating, NotFound
from buildgrid_operator.cluster.fleet_state import FleetState
from buildgrid_operator.cluster.kinds import CONFIG_MAP, SCHEDULER, Manifest, ObjectRef
from buildgrid_operator.status.scheduler_conditions import ConfigState, Draining

_log = logging.getLogger(__name__)
FINALIZER = "buildgrid.build/drain"
_ORPHAN = "orphan"
"""the finalizer by which the garbage collector lets go of what the object owns"""


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
    """Whether a namespace is being deleted, or the Schedulers' CRD is: what they own goes whatever waits for
    it. Raises ClusterError.

    It is asked by making nothing, since the operator may look neither at namespaces nor at CRDs.
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
        pass
    return not client.can_be_made(SCHEDULER)


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


def wait_until(
    scheduler: Mapping[str, Any],
    deletion: Deletion | None,
    deployment: Mapping[str, Any] | None,
    *,
    served: bool,
    now: datetime,
) -> datetime | None:
    """Until when a Scheduler that is being deleted waits for its jobs at most; None: it need not wait.

    `deletion` is None where the spec cannot be read. Without replicas that ever served there are no jobs, and
    without a Deployment nobody hands them out any more: `--cascade=foreground` takes it first. With
    `--cascade=orphan` its pods stay and serve on.
    """
    metadata = scheduler["metadata"]
    if deletion is None or not deletion.drain or not served or deployment is None:
        return None
    if deployment["metadata"].get("deletionTimestamp"):
        return None
    owners = deployment["metadata"].get("ownerReferences") or ()
    if _ORPHAN in metadata["finalizers"] or metadata["uid"] not in (owner["uid"] for owner in owners):
        return None
    until: datetime = datetime.fromisoformat(metadata["deletionTimestamp"]) + deletion.drain_timeout
    return until if now < until else None


def still_draining(
    state: FleetState | None, config: ConfigState, until: datetime, accepts: str | None = None
) -> Draining | None:
    """What a Scheduler waits for that is to wait; None: for nothing any more.

    `state` is None when the replicas do not answer. `config` tells which of them refuse new jobs: before all
    do, a queue that is empty may fill again. One that cannot take the configuration up is not waited for.
    `accepts`: why they cannot be told to refuse.
    """
    if state is None:
        return Draining(None, None, until, accepts=accepts)
    told = config.configured + len(config.errors)
    if not state.queued and not state.executing and (accepts is not None or told >= config.ready):
        return None
    if accepts is None and config.errors:
        accepts = config.errors[0][1]
    return Draining(state.queued, state.executing, until, config.configured, config.ready, accepts)
