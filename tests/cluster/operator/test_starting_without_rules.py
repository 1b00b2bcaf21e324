"""An operator that starts with none of the rules that it needs to begin: it names one after the other."""

from pathlib import Path

import pytest
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.kinds import LEASE, ObjectRef

from tests.cluster.conftest import Kubectl
from tests.cluster.operator.accounts import ACCOUNT, FLAGS
from tests.cluster.operator.conftest import Apply, Start
from tests.cluster.operator.processes import becomes, condition, eventually
from tests.cluster.operator.withdrawal import (
    Rules,
    all_rules,
    apply_fleet,
    kubeconfig,
    named,
    rules,
    says,
)
from tests.unit.charts.permissions import BLOCKING, OPTIONAL, OURS
from tests.unit.charts.rendering import needs_helm

__all__ = ["all_rules", "kubeconfig", "rules"]
pytestmark = [needs_helm, pytest.mark.timeout(300)]
LEASES = ("coordination.k8s.io", "leases")
CUSTOM = [(OURS, plural) for plural in ("schedulers", "propertysets", "botfleets")]
CHILDREN = [
    (group, resource)
    for kinds in (BLOCKING, OPTIONAL)
    for group, resources in kinds.items()
    for resource in resources
]
PODS = ("", "pods")
NAMESPACE = ("", "namespaces", "get")


def test_it_starts_with_nothing_and_names_one_rule_after_the_other(
    client: Client,
    kubectl: Kubectl,
    namespace: str,
    apply: Apply,
    rules: Rules,
    start_operator: Start,
    kubeconfig: Path,
) -> None:
    lists = [(*each, "list") for each in (*CUSTOM, *CHILDREN, PODS)]
    later = {*lists, NAMESPACE}
    rules.withhold({*later, *((*LEASES, verb) for verb in ("get", "create", "update"))})
    main = apply()
    linux = apply_fleet(kubectl, namespace, "linux", "main")
    operator = start_operator(*FLAGS, f"--kubeconfig={kubeconfig}", identity="pod-0")

    def is_logged(words: str) -> None:
        eventually(lambda: words in operator.log, f"it logs {words}")

    is_logged(named(*LEASES, "get"))
    free = {"holderIdentity": "", "leaseDurationSeconds": 1, "leaseTransitions": 0}
    lease = {
        "apiVersion": LEASE.api_version,
        "kind": LEASE.kind,
        "metadata": {"name": ACCOUNT, "namespace": namespace},
        "spec": free,
    }
    client.create(lease)
    rules.withhold({*later, (*LEASES, "create"), (*LEASES, "update")})
    is_logged(named(*LEASES, "update"))
    client.delete(ObjectRef.of(lease))
    rules.withhold({*later, (*LEASES, "create")})
    is_logged(named(*LEASES, "create"))
    rules.withhold(later)
    operator.leads()
    for number, each in enumerate(CUSTOM):
        rules.withhold({*lists[number:], NAMESPACE})
        is_logged(named(*each, "list"))
    # It works, and does not see what becomes of what it makes.
    rules.withhold({*lists[len(CUSTOM) :], NAMESPACE})
    says(client, main, "Degraded", "the operator may not list")
    message = condition(client, main, "Degraded")["message"]
    first, _, others = message.partition("; the same goes for ")
    for group, resource in (*CHILDREN, PODS):
        full = f"{resource}.{group}" if group else resource
        assert named(group, resource, "list") in first or full in others.split(", "), message
    says(client, linux, "Ready", named(*PODS, "list"))
    # It may list, and not watch; that is found out with the next list.
    rules.withhold({*((*each, "watch") for each in (*CUSTOM, *CHILDREN, PODS)), NAMESPACE})
    for group, resource in (*CUSTOM, *CHILDREN, PODS):
        is_logged(f'cannot watch resource "{resource}" in API group "{group}"')
    says(client, linux, "Ready", named(*NAMESPACE))
    rules.withhold(())
    becomes(client, main, "Ready", "True")
    becomes(client, main, "Degraded", "False")
    becomes(client, linux, "Ready", "True")
    assert operator.stop() == 0
