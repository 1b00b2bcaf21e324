"""What exists for a BotFleet besides its pods, in the order in which it is applied."""

from buildgrid_operator.desired.bots import names
from buildgrid_operator.desired.bots.inputs import FleetInputs
from buildgrid_operator.desired.names import Json

KINDS = (
    ("v1", "ServiceAccount"),
    ("policy/v1", "PodDisruptionBudget"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
)
"""apiVersion and kind of whatever may be made, to look for what is not wanted any more."""
MORE_THAN_ANY = 1_000_000
"""pods: no fleet has so many, so that no eviction leaves enough"""


def fleet_objects(inputs: FleetInputs) -> tuple[Json, ...]:
    """They are made before the first pod, and go with the BotFleet."""
    policies = inputs.scheduler.spec.network_policy.enabled
    return (account(inputs), disruption_budget(inputs), *((network_policy(inputs),) if policies else ()))


def account(inputs: FleetInputs) -> Json:
    """Of the bots. They may do nothing in the cluster; annotations may give them an identity in a cloud."""
    owner, annotations = inputs.metadata, inputs.spec.service_account.annotations
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": names.metadata(owner, names.account_name(owner), annotations),
        "automountServiceAccountToken": False,
    }


def disruption_budget(inputs: FleetInputs) -> Json:
    """No bot is evicted that may be given work; the operator takes the label from one that is not.

    The number is not a share: that of a budget for pods of a kind without a scale is not defined.
    """
    owner = inputs.metadata
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": names.metadata(owner, names.bots_name(owner)),
        "spec": {
            "minAvailable": MORE_THAN_ANY,
            "unhealthyPodEvictionPolicy": "IfHealthyBudget",
            "selector": {"matchLabels": {**names.selector(owner), names.PROTECTED_LABEL: names.PROTECTED}},
        },
    }


def network_policy(inputs: FleetInputs) -> Json:
    """Nobody may connect to a bot, which listens to nothing, or to what its actions run.

    Where they go out to is not limited: to the scheduler, the CAS and a DNS, and actions that ask for the
    network may need any address.
    """
    owner = inputs.metadata
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": names.metadata(owner, names.bots_name(owner)),
        "spec": {"podSelector": {"matchLabels": names.selector(owner)}, "policyTypes": ["Ingress"]},
    }
