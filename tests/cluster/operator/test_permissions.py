"""The operator as the chart's ServiceAccount: its rules are enough, and one that lacks is named."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from buildgrid_operator.cluster.client import Client

from tests.cluster.conftest import Kubectl
from tests.cluster.operator.conftest import Apply, Json, Start
from tests.cluster.operator.processes import becomes
from tests.unit.charts.rendering import needs_helm, objects, template

pytestmark = [needs_helm, pytest.mark.timeout(300)]
RELEASE = "rel"
ACCOUNT = f"{RELEASE}-buildgrid-operator"


@pytest.fixture(scope="module")
def rules(namespace: str) -> list[Json]:
    """The chart's objects that say what the operator may do in a namespace."""
    rendered = template({"operator": {"scope": "Namespaced"}}, release=RELEASE, namespace=namespace)
    assert rendered.returncode == 0, rendered.stderr
    kinds = ("ServiceAccount", "Role", "RoleBinding")
    return [
        obj for obj in objects(rendered.stdout) if obj["kind"] in kinds and ACCOUNT in obj["metadata"]["name"]
    ]


@pytest.fixture(scope="module")
def kubeconfig(kubectl: Kubectl, namespace: str, rules: list[Json], tmp_path_factory: Any) -> Path:
    """How the ServiceAccount reaches the cluster."""
    kubectl("-n", namespace, "apply", "-f", "-", stdin=yaml.safe_dump_all(rules), check=True)
    token = kubectl("-n", namespace, "create", "token", ACCOUNT, check=True).stdout.strip()
    config: Json = json.loads(kubectl("config", "view", "--raw", "--minify", "-o", "json", check=True).stdout)
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    file: Path = tmp_path_factory.mktemp("kubeconfig") / "config"
    file.write_text(yaml.safe_dump(config))
    return file


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
    flags = (f"--kubeconfig={kubeconfig}", f"--leader-election-name={ACCOUNT}")
    operator = start_operator(*flags, identity="pod-0").leads()
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
    kubectl("-n", namespace, "delete", "schedulers.buildgrid.build", "allowed", check=True, timeout=90)
    assert "may not" not in operator.log
    assert operator.metric(r'^buildgrid_operator_api_calls_total\{.*code="403"') == 0
    assert operator.stop() == 0


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
    kubectl("-n", namespace, "apply", "-f", "-", stdin=yaml.safe_dump_all(fewer), check=True)
    flags = (f"--kubeconfig={kubeconfig}", f"--leader-election-name={ACCOUNT}")
    operator = start_operator(*flags, identity="pod-0").leads()
    ref = apply(f"lacks-{resource}")
    found = becomes(client, ref, "Ready", "False", "PermissionMissing")
    assert resource in found["message"]
    assert "grant its service account the verb" in found["message"]
    kubectl("-n", namespace, "apply", "-f", "-", stdin=yaml.safe_dump_all(rules), check=True)
    becomes(client, ref, "Ready", "True")
    # It watches what it may watch now.
    becomes(client, ref, "Degraded", "False")
    assert operator.stop() == 0
