"""A running operator loses single rules: what says which one is missing, and that a grant heals.

Which rules there are, and where each is to be missed: tests/unit/charts/permissions.py.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.kinds import POD, PROPERTY_SET, ObjectRef

from tests.cluster.conftest import Kubectl
from tests.cluster.operator.accounts import FLAGS
from tests.cluster.operator.conftest import Apply, Json, Start
from tests.cluster.operator.permission_walk import walk
from tests.cluster.operator.processes import Operator, becomes, eventually
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
EVERYTHING: Json = {"replicas": 2, "ingress": {"host": "builds.example.org"}}
NEVER_STARTS: Json = {"metadata": {"annotations": {"vkubelet/start-delay": "3600"}}}
ENDS: Json = {"metadata": {"annotations": {"vkubelet/run-seconds": "1"}}}


@pytest.fixture
def operator(rules: Rules, start_operator: Start, kubeconfig: Path) -> Iterator[Operator]:
    """Under the rules."""
    started = start_operator(*FLAGS, f"--kubeconfig={kubeconfig}", identity="pod-0").leads()
    yield started
    started.close()


CHILDREN = [
    (group, resource, "Ready" if kinds is BLOCKING else "Degraded")
    for kinds in (BLOCKING, OPTIONAL)
    for group, resources in kinds.items()
    for resource in resources
]


def test_each_call_that_applies_an_object_is_named(
    client: Client, apply: Apply, rules: Rules, operator: Operator
) -> None:
    made = walk(client, rules, apply, CHILDREN, EVERYTHING)
    assert len(made) == 9
    for ref in made:
        client.delete(ref)
    assert operator.stop() == 0


AUTH: Json = {
    "kubernetes": {"audience": "builds"},
    "policy": [{"identities": [{"subject": "**"}], "rights": ["Execute"]}],
}


def test_what_a_scheduler_or_a_fleet_misses_is_named(
    client: Client, kubectl: Kubectl, namespace: str, apply: Apply, rules: Rules, operator: Operator
) -> None:
    plain = apply("plain")
    becomes(client, plain, "ConfigApplied", "True")
    events = "events.k8s.io"
    create, patch = ("", "pods", "create"), ("", "pods", "patch")
    lacks = {
        (OURS, "schedulers", "patch"),
        *(("", "pods", verb) for verb in ("get", "delete")),
        *((events, "events", verb) for verb in ("list", "create")),
        ("", "serviceaccounts/token", "create"),
    }
    rules.withhold({*lacks, create, patch})
    drains = apply("drains", deletion={"drain": True})
    secured = apply("secured", auth=AUTH)
    waits = apply("waits", podTemplate=NEVER_STARTS)
    plain = apply("plain", logging={"level": "Debug"})
    refused = apply_fleet(kubectl, namespace, "refused", "plain")
    says(client, drains, "Ready", named(OURS, "schedulers", "patch"))
    says(client, plain, "Degraded", named(*patch))
    says(client, refused, "Ready", named(*create))
    says(client, secured, "ConfigApplied", named("", "serviceaccounts/token", "create"))
    _is_logged(operator, named(events, "events", "create"))
    # Bots that are there: one has a name that is taken, the other one ends.
    rules.withhold(lacks)
    taken = apply_fleet(kubectl, namespace, "taken", "plain", scaling={"minBots": 0})
    becomes(client, taken, "Ready", "True")
    for number in range(3):
        _take_name(client, taken, number)
    apply_fleet(kubectl, namespace, "taken", "plain")
    apply_fleet(kubectl, namespace, "ends", "plain", podTemplate=ENDS)
    says(client, waits, "Degraded", named(events, "events", "list"))
    _is_logged(operator, named("", "pods", "get"))
    _is_logged(operator, named("", "pods", "delete"))
    # What cannot be told.
    statuses = [(OURS, f"{plural}/status", "patch") for plural in ("schedulers", "propertysets", "botfleets")]
    rules.withhold({*lacks, *statuses})
    apply("untold")
    apply("untold", kind="PropertySet", dynamic={})
    apply_fleet(kubectl, namespace, "untold", "plain")
    for each in statuses:
        _is_logged(operator, named(*each))
    rules.withhold(())
    for ref in (plain, drains, secured):
        becomes(client, ref, "ConfigApplied", "True")
        becomes(client, ref, "Degraded", "False")
    becomes(client, ObjectRef(PROPERTY_SET, namespace, "untold"), "Ready", "True")
    for ref in (taken, refused):
        becomes(client, ref, "Ready", "True")
    assert operator.stop() == 0


def _is_logged(operator: Operator, words: str) -> None:
    eventually(lambda: words in operator.log, f"it logs {words}")


def _take_name(client: Client, fleet: ObjectRef, number: int) -> None:
    """Of the bot that comes next."""
    uid = client.get(fleet.kind, fleet.namespace, fleet.name)["metadata"]["uid"]
    pod = {
        "apiVersion": POD.api_version,
        "kind": POD.kind,
        "metadata": {"name": f"{fleet.name}-{uid[:5]}-{number}", "namespace": fleet.namespace},
        "spec": {"containers": [{"name": "other", "image": "example.org/other:1"}]},
    }
    client.create(pod)
