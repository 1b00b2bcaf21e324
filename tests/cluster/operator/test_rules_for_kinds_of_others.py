"""The rules for kinds whose CRDs somebody else brings. Where the cluster has none, they are played: alone."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.kinds import GRPC_ROUTE, SERVICE_MONITOR, Kind

from tests.cluster.conftest import Kubectl
from tests.cluster.operator.accounts import FLAGS
from tests.cluster.operator.conftest import Apply, Json, Start
from tests.cluster.operator.control_plane import told
from tests.cluster.operator.permission_walk import walk
from tests.cluster.operator.processes import becomes, eventually
from tests.cluster.operator.withdrawal import Rules, all_rules, kubeconfig, named, rules, says
from tests.unit.charts.permissions import FOREIGN
from tests.unit.charts.rendering import needs_helm

__all__ = ["all_rules", "kubeconfig", "rules"]
pytestmark = [needs_helm, pytest.mark.alone, pytest.mark.timeout(300)]
RESOURCES = [(group, resource) for group, resources in FOREIGN.items() for resource in resources]
SPEC: Json = {
    "grpcRoute": {"parentRefs": [{"name": "gateway"}], "hostnames": ["builds.example.org"]},
    "monitoring": {"serviceMonitor": {}},
}


def _crd(kind: Kind) -> Json:
    """Which takes whatever comes."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": kind.api_version.rpartition("/")[2], "served": True, "storage": True}
    names = {"kind": kind.kind, "plural": kind.plural, "singular": kind.kind.lower()}
    name = f"{kind.plural}.{kind.group}"
    approved = {"api-approved.kubernetes.io": "unapproved, for a test"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name, "annotations": approved},
        "spec": {
            "group": kind.group,
            "scope": "Namespaced",
            "names": names,
            "versions": [{**version, "schema": {"openAPIV3Schema": schema}}],
        },
    }


@pytest.fixture(scope="module", autouse=True)
def served(kubectl: Kubectl) -> Iterator[None]:
    """The cluster knows the kinds, as long as this file is tested."""
    told("DISPOSABLE")
    crds = [_crd(kind) for kind in (GRPC_ROUTE, SERVICE_MONITOR)]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": crds})
    names = [f"crd/{crd['metadata']['name']}" for crd in crds]
    kubectl("create", "-f", "-", stdin=text, check=True)
    kubectl("wait", "--for=condition=Established", "--timeout=60s", *names, check=True, timeout=90)
    yield
    kubectl("delete", *names, "--timeout=60s", check=True, timeout=90)


def test_each_call_for_kinds_of_others_is_named(
    client: Client, apply: Apply, rules: Rules, start_operator: Start, kubeconfig: Path
) -> None:
    rules.withhold((*each, "list") for each in RESOURCES)
    operator = start_operator(*FLAGS, f"--kubeconfig={kubeconfig}", identity="pod-0").leads()
    blind = apply("blind", **SPEC)
    first, second = RESOURCES
    says(client, blind, "Degraded", named(*first, "list"))
    says(client, blind, "Degraded", f"the same goes for {'.'.join(reversed(second))}")
    rules.withhold((*each, "watch") for each in RESOURCES)
    for group, resource in RESOURCES:
        words = f'cannot watch resource "{resource}" in API group "{group}"'
        eventually(lambda w=words: w in operator.log, f"it logs {words}")  # type: ignore[misc]
    rules.withhold(())
    becomes(client, blind, "Degraded", "False")
    walk(client, rules, apply, [(*each, "Degraded") for each in RESOURCES], SPEC, every_verb=True)
    assert operator.stop() == 0
