"""The PodDisruptionBudget of the replicas."""

from buildgrid_operator.desired import names
from buildgrid_operator.desired.inputs import Inputs
from buildgrid_operator.desired.names import Json


def disruption_budget(inputs: Inputs) -> Json | None:
    """One replica at a time may be evicted, and those that do not serve at any time.

    None for a single replica: it would keep its node from being drained.
    """
    if inputs.spec.replicas == 1 and not inputs.autoscaled:
        return None
    owner = inputs.metadata
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": names.metadata(owner, names.scheduler_name(owner), names.SCHEDULER),
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": names.selector(owner, names.SCHEDULER)},
        },
    }
