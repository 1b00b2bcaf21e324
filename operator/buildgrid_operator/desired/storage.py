"""The managed storage: a StatefulSet of one pod that serves the CAS from a volume.

The volume's claim is an object of its own, not a template of the StatefulSet: those cannot be changed, so
that a volume could not grow.
"""

from buildgrid_operator.api.quantities import show_quantity
from buildgrid_operator.desired import names
from buildgrid_operator.desired.config import Written
from buildgrid_operator.desired.images import version_of
from buildgrid_operator.desired.inputs import Inputs
from buildgrid_operator.desired.names import Json
from buildgrid_operator.desired.pod import storage_pod
from buildgrid_operator.desired.rollout import with_template_noted


def volume_claim(inputs: Inputs) -> Json:
    """The volume's claim.

    With the retention policy Retain nothing owns it: it outlives its Scheduler, and the next one of the same
    name takes it over.
    """
    owner, managed = inputs.metadata, inputs.spec.storage.managed
    if managed is None:
        raise ValueError("there is no managed storage")
    metadata = names.metadata(owner, names.volume_claim_name(owner), names.STORAGE)
    if managed.retention_policy == "Retain":
        del metadata["ownerReferences"], metadata["labels"][names.OWNER_UID_LABEL]
    spec: Json = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": show_quantity(managed.size)}},
    }
    if managed.storage_class_name is not None:
        spec["storageClassName"] = managed.storage_class_name
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


def stateful_set(inputs: Inputs, written: Written, template_hash: str) -> Json:
    """One pod, never two on the volume. Raises InvalidSpec."""
    owner = inputs.metadata
    name = names.storage_name(owner)
    version = version_of(inputs.images.storage or "")
    wanted = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": names.metadata(owner, name, names.STORAGE, version=version),
        "spec": {
            "replicas": 1,
            "revisionHistoryLimit": 3,
            "serviceName": name,
            # OrderedReady would wait for a pod that does not start, also when the template has been mended.
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": names.selector(owner, names.STORAGE)},
            "template": storage_pod(inputs, written, template_hash),
        },
    }
    return with_template_noted(wanted, template_hash)
