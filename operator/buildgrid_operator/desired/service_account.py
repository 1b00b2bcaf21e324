"""ServiceAccounts: of the replicas, and of the managed storage. Neither may do anything in the cluster."""

from buildgrid_operator.desired import names
from buildgrid_operator.desired.inputs import Inputs
from buildgrid_operator.desired.names import Json


def scheduler_account(inputs: Inputs) -> Json:
    """Of the replicas; its annotations may give them an identity in a cloud."""
    name, annotations = names.scheduler_name(inputs.metadata), inputs.spec.service_account.annotations
    return _account(inputs, name, names.SCHEDULER, annotations)


def storage_account(inputs: Inputs) -> Json:
    """Of the managed storage."""
    return _account(inputs, names.storage_name(inputs.metadata), names.STORAGE, {})


def _account(inputs: Inputs, name: str, component: str, annotations: dict[str, str]) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": names.metadata(inputs.metadata, name, component, annotations=annotations),
        "automountServiceAccountToken": False,
    }
