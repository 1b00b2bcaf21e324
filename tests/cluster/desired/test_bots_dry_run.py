"""The real API server takes what is made for a BotFleet, where restricted Pod Security is enforced."""

import json
from collections.abc import Iterator

import pytest
from buildgrid_operator.desired.bots import bot_pod, fleet_objects

from tests.cluster.api.objects import changed
from tests.cluster.conftest import Kubectl
from tests.unit.operator.desired.bots.cases import CASES
from tests.unit.operator.desired.found import Json

MANAGER = "buildgrid-operator"


@pytest.fixture(scope="module")
def restricted(kubectl: Kubectl, namespace: str) -> Iterator[str]:
    """A namespace in which pods that are not restricted are refused."""
    labels = [f"pod-security.kubernetes.io/{mode}=restricted" for mode in ("enforce", "warn")]
    kubectl("label", "namespace", namespace, *labels, check=True)
    classes: list[Json] = [
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": "builds"},
            "value": 1000,
        },
        {
            "apiVersion": "node.k8s.io/v1",
            "kind": "RuntimeClass",
            "metadata": {"name": "gvisor"},
            "handler": "runsc",
        },
    ]
    for each in classes:
        kubectl("apply", "-f", "-", stdin=json.dumps(each), check=True)
    yield namespace
    for each in classes:
        kubectl("delete", each["kind"], each["metadata"]["name"], "--ignore-not-found", check=True)


def sent(kubectl: Kubectl, obj: Json, namespace: str, *command: str) -> Json:
    """What the API server makes of the object; fails on warnings as well."""
    here = changed(obj, {"metadata.namespace": namespace})
    answer = kubectl(*command, "--validate=strict", "-o", "json", "-f", "-", stdin=json.dumps(here))
    assert answer.returncode == 0, answer.stderr
    assert "Warning" not in answer.stderr
    found: Json = json.loads(answer.stdout)
    return found


@pytest.mark.parametrize("name", CASES)
def test_objects_are_accepted_and_stay_as_they_are_applied(
    name: str, kubectl: Kubectl, restricted: str
) -> None:
    orphan: Json = {"metadata.ownerReferences": []}
    apply = ("apply", "--server-side", f"--field-manager={MANAGER}")
    objects = [changed(obj, orphan) for obj in fleet_objects(CASES[name])]
    first = [sent(kubectl, obj, restricted, *apply) for obj in objects]
    again = [sent(kubectl, obj, restricted, *apply) for obj in objects]
    for before, after in zip(first, again, strict=True):
        assert after["metadata"].get("generation") == before["metadata"].get("generation")
        assert after.get("spec") == before.get("spec")
    (budget,) = [obj for obj in again if obj["kind"] == "PodDisruptionBudget"]
    assert budget["spec"]["minAvailable"] == 1_000_000


@pytest.mark.parametrize("name", CASES)
def test_pods_are_accepted(name: str, kubectl: Kubectl, restricted: str) -> None:
    account = fleet_objects(CASES[name])[0]
    kubectl(
        *("apply", "--server-side", "--force-conflicts", "-f", "-"),
        stdin=json.dumps(
            changed(account, {"metadata.namespace": restricted, "metadata.ownerReferences": []})
        ),
        check=True,
    )
    made = sent(kubectl, bot_pod(CASES[name], 1), restricted, "create", "--dry-run=server")
    assert made["spec"]["restartPolicy"] == "Never"
    assert made["spec"].get("hostUsers", True) is (CASES[name].spec.sandbox.type != "UserNamespace")
    assert made["metadata"]["ownerReferences"][0]["kind"] == "BotFleet"
