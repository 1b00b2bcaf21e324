"""The operator as the chart's ServiceAccount: its rules are enough, and one that lacks is named."""

import json
from pathlib import Path

import pytest
import yaml
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.kinds import POD

from tests.cluster.conftest import Kubectl
from tests.cluster.operator.accounts import FLAGS, grant, kubeconfig_of, rules_of
from tests.cluster.operator.conftest import Apply, Json, Start
from tests.cluster.operator.processes import becomes, eventually
from tests.unit.charts.rendering import needs_helm

pytestmark = [needs_helm, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def rules(namespace: str) -> list[Json]:
    """The chart's objects that say what the operator may do in a namespace."""
    return rules_of(namespace, {"scope": "Namespaced"})


@pytest.fixture(scope="module")
def kubeconfig(
    kubectl: Kubectl, namespace: str, rules: list[Json], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """How the ServiceAccount reaches the cluster."""
    grant(kubectl, rules)
    return kubeconfig_of(kubectl, namespace, tmp_path_factory.mktemp("kubeconfig") / "config")


def _without(rules: list[Json], resource: str) -> list[Json]:
    """The rules without a resource."""
    changed: list[Json] = json.loads(json.dumps(rules))
    for obj in changed:
        for rule in obj.get("rules", ()):
            rule["resources"] = [name for name in rule["resources"] if name != resource]
        if "rules" in obj:
            obj["rules"] = [rule for rule in obj["rules"] if rule["resources"]]
    return changed


def test_the_charts_rules_are_enough(
    client: Client, kubectl: Kubectl, namespace: str, apply: Apply, start_operator: Start, kubeconfig: Path
) -> None:
    operator = start_operator(*FLAGS, f"--kubeconfig={kubeconfig}", identity="pod-0").leads()
    apply("usual", kind="PropertySet", dynamic={"matchKeys": ["OSFamily"]})
    spec: Json = {
        "replicas": 2,
        "propertySetRef": {"name": "usual"},
        "deletion": {"drain": True},
        "ingress": {"host": "builds.example.org"},
        "auth": {
            "kubernetes": {"audience": "builds"},
            "policy": [{"identities": [{"subject": "**"}], "rights": ["Execute"]}],
        },
    }
    ref = apply("allowed", **spec)
    becomes(client, ref, "ConfigApplied", "True")
    becomes(client, ref, "Degraded", "False")
    apply("allowed", **{**spec, "replicas": 1, "logging": {"level": "Debug"}})
    becomes(client, ref, "ConfigApplied", "True")
    _bots_come_and_go(client, kubectl, namespace)
    kubectl("-n", namespace, "delete", "schedulers.buildgrid.build", "allowed", check=True, timeout=90)
    assert "may not" not in operator.log
    # Nodes it looks at only where that is asked for (operator.watchNodes).
    assert operator.metric(r'^buildgrid_operator_api_calls_total\{code="403",kind="(?!Node")') == 0
    assert operator.stop() == 0


def _bots_come_and_go(client: Client, kubectl: Kubectl, namespace: str) -> None:
    """A pod that ends by itself is deleted, and another one takes its place."""
    ends = {"metadata": {"annotations": {"vkubelet/run-seconds": "1"}}}
    fleet = {
        "apiVersion": "buildgrid.build/v1alpha1",
        "kind": "BotFleet",
        "metadata": {"name": "linux", "namespace": namespace},
        "spec": {"schedulerRef": {"name": "allowed"}, "scaling": {"minBots": 1}, "podTemplate": ends},
    }
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump(fleet), check=True)

    def names() -> set[str]:
        pods = client.list(POD, namespace, labels="buildgrid.build/fleet=linux").items
        return {pod["metadata"]["name"] for pod in pods}

    first = eventually(names, "a bot's pod is made")
    eventually(lambda: names() and not names() & first, "another one took its place")
    kubectl("-n", namespace, "delete", "bgf", "linux", check=True)


@pytest.mark.parametrize("resource", ["deployments", "services"])
def test_a_permission_that_lacks_is_named_and_its_grant_heals(
    client: Client,
    kubectl: Kubectl,
    namespace: str,
    apply: Apply,
    start_operator: Start,
    kubeconfig: Path,
    rules: list[Json],
    resource: str,
) -> None:
    fewer = _without(rules, resource)
    grant(kubectl, fewer)
    operator = start_operator(*FLAGS, f"--kubeconfig={kubeconfig}", identity="pod-0").leads()
    ref = apply(f"lacks-{resource}")
    found = becomes(client, ref, "Ready", "False", "PermissionMissing")
    assert resource in found["message"]
    assert "grant its service account the verb" in found["message"]
    grant(kubectl, rules)
    becomes(client, ref, "Ready", "True")
    # It watches what it may watch now.
    becomes(client, ref, "Degraded", "False")
    assert operator.stop() == 0
