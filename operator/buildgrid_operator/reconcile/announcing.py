"""Tells pods of a configuration: an annotation makes the kubelet bring it at once, not within a minute."""

from collections.abc import Iterable

from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.errors import ClusterError, NotFound
from buildgrid_operator.cluster.kinds import Manifest, ObjectRef
from buildgrid_operator.desired.names import CONFIG_HASH
from buildgrid_operator.reconcile.apply_set import Failure
from buildgrid_operator.reconcile.cache import Cache
from buildgrid_operator.reconcile.pods import unaware
from buildgrid_operator.reconcile.refusals import refusal_of
from buildgrid_operator.status.scheduler_conditions import Refusal


def announce(client: Client, cache: Cache, pods: Iterable[Manifest], config_hash: str) -> Refusal | None:
    """Annotate those that were not told yet; returns why that is not allowed.

    Raises ClusterError where trying again may help.
    """
    for pod in unaware(pods, config_hash):
        ref = ObjectRef.of(pod)
        try:
            cache.put(client.patch_merge(ref, {"metadata": {"annotations": {CONFIG_HASH: config_hash}}}))
        except NotFound:
            cache.discard(ref, pod["metadata"]["uid"])
        except ClusterError as error:
            if error.transient:
                raise
            refusal = refusal_of(Failure(ref, error))
            return Refusal(refusal.reason, refusal.message, blocking=False)
    return None
