"""Whatever is changed by hand in what the operator made is put right within seconds."""

import json
from typing import Any

import pytest
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.errors import NotFound
from buildgrid_operator.cluster.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    NETWORK_POLICY,
    PERSISTENT_VOLUME_CLAIM,
    POD_DISRUPTION_BUDGET,
    SERVICE,
    SERVICE_ACCOUNT,
    STATEFUL_SET,
    Kind,
    ObjectRef,
)
from buildgrid_operator.desired.names import SCHEDULER_LABEL

from tests.cluster.conftest import Kubectl
from tests.cluster.operator.conftest import Apply, Json
from tests.cluster.operator.processes import Operator, becomes, eventually

pytestmark = pytest.mark.usefixtures("main")

EDITS: list[tuple[Kind, str, Json]] = [
    (CONFIG_MAP, "main-config", {"data": {"scheduler.yaml": "listen: nowhere"}}),
    (CONFIG_MAP, "main-storage-config", {"data": {"scheduler.yaml": None}}),
    (DEPLOYMENT, "main-scheduler", {"spec": {"replicas": 5}}),
    (DEPLOYMENT, "main-scheduler", {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 100}}}}),
    (STATEFUL_SET, "main-storage", {"spec": {"replicas": 0}}),
    (SERVICE, "main-scheduler", {"spec": {"selector": {"app": "x"}}}),
    (SERVICE, "main-bots", {"spec": {"selector": {"app.kubernetes.io/component": "x"}}}),
    (SERVICE, "main-admin", {"metadata": {"labels": {"buildgrid.build/scheduler": None}}}),
    (SERVICE, "main-scheduler", {"metadata": {"labels": {"app.kubernetes.io/managed-by": "x"}}}),
    (SERVICE, "main-storage", {"metadata": {"ownerReferences": []}}),
    (NETWORK_POLICY, "main-scheduler", {"spec": {"ingress": []}}),
    (NETWORK_POLICY, "main-storage", {"spec": {"policyTypes": ["Egress"]}}),
    (POD_DISRUPTION_BUDGET, "main-scheduler", {"spec": {"maxUnavailable": 2}}),
    (PERSISTENT_VOLUME_CLAIM, "main-storage-data", {"metadata": {"labels": {SCHEDULER_LABEL: "other"}}}),
    (SERVICE_ACCOUNT, "main-scheduler", {"metadata": {"labels": {"app.kubernetes.io/part-of": "x"}}}),
]
DELETED = [
    (CONFIG_MAP, "main-config"),
    (DEPLOYMENT, "main-scheduler"),
    (STATEFUL_SET, "main-storage"),
    (SERVICE, "main-scheduler"),
    (SERVICE_ACCOUNT, "main-storage"),
    (NETWORK_POLICY, "main-storage"),
    (POD_DISRUPTION_BUDGET, "main-scheduler"),
]


def _seen(obj: Any, edit: Any) -> Any:
    """What an object has where an edit changes it."""
    if not isinstance(edit, dict) or not isinstance(obj, dict):
        return obj
    return {name: _seen(obj.get(name), inner) for name, inner in edit.items()}


def _edit(kubectl: Kubectl, ref: ObjectRef, patch: Json) -> Json:
    """As a person does it; returns the object as it is then."""
    arguments = ("patch", ref.kind.plural, ref.name, "--type=merge", "-p", json.dumps(patch), "-o", "json")
    found: Json = json.loads(kubectl("-n", ref.namespace, *arguments, check=True).stdout)
    return found


@pytest.fixture(scope="module")
def main(client: Client, apply: Apply, operator: Operator) -> ObjectRef:
    """A Scheduler of two replicas, all of which is there."""
    ref = apply(replicas=2)
    becomes(client, ref, "ConfigApplied", "True")
    return ref


@pytest.mark.parametrize(
    ("kind", "name", "edit"), EDITS, ids=[f"{each[0]}-{each[1]}-{n}" for n, each in enumerate(EDITS)]
)
def test_an_edit_by_hand_is_undone(
    client: Client, kubectl: Kubectl, namespace: str, kind: Kind, name: str, edit: Json, main: ObjectRef
) -> None:
    ref = ObjectRef(kind, namespace, name)
    before = _seen(client.get(kind, namespace, name), edit)
    assert _seen(_edit(kubectl, ref, edit), edit) != before
    eventually(lambda: _seen(client.get(kind, namespace, name), edit) == before, f"{ref} is as before")
    becomes(client, main, "Ready", "True")


@pytest.mark.parametrize(("kind", "name"), DELETED, ids=[f"{kind}-{name}" for kind, name in DELETED])
def test_what_is_deleted_by_hand_is_made_again(
    client: Client, namespace: str, kind: Kind, name: str, main: ObjectRef
) -> None:
    before = client.get(kind, namespace, name)["metadata"]["uid"]
    client.delete(ObjectRef(kind, namespace, name))

    def made_again() -> bool:
        try:
            return bool(client.get(kind, namespace, name)["metadata"]["uid"] != before)
        except NotFound:
            return False

    eventually(made_again, f"there is another {name}")
    becomes(client, main, "Ready", "True")


def test_foreign_parts_of_a_pod_template_are_removed(
    client: Client, kubectl: Kubectl, namespace: str, main: ObjectRef
) -> None:
    kubectl("-n", namespace, "set", "env", "deployment/main-scheduler", "EXTRA=1", check=True)
    sidecar = {"name": "extra", "image": "example.org/extra:1"}
    volume = {"name": "extra", "emptyDir": {}}
    patch = {"spec": {"template": {"spec": {"containers": [sidecar], "volumes": [volume]}}}}
    kubectl("-n", namespace, "patch", "deployment", "main-scheduler", "-p", json.dumps(patch), check=True)

    def clean() -> bool:
        spec = client.get(DEPLOYMENT, namespace, "main-scheduler")["spec"]["template"]["spec"]
        (*others, container) = spec["containers"]
        names = [each["name"] for each in spec["volumes"]]
        return not others and not container.get("env") and "extra" not in names

    eventually(clean, "the template is as it was made")
    becomes(client, main, "Ready", "True")


def test_foreign_metadata_stays(client: Client, kubectl: Kubectl, namespace: str, main: ObjectRef) -> None:
    ref = ObjectRef(SERVICE, namespace, "main-scheduler")
    foreign = {"metadata": {"annotations": {"example.org/team": "a"}, "labels": {"example.org/team": "a"}}}
    _edit(kubectl, ref, foreign)
    # A later edit is undone, and that pass leaves what is foreign as it is.
    _edit(kubectl, ref, {"spec": {"selector": {"app": "x"}}})
    eventually(lambda: "app" not in client.get(SERVICE, namespace, ref.name)["spec"]["selector"], "undone")
    metadata = client.get(SERVICE, namespace, ref.name)["metadata"]
    assert metadata["annotations"]["example.org/team"] == metadata["labels"]["example.org/team"] == "a"


def test_an_object_of_somebody_else_with_the_name_is_not_touched(
    client: Client, kubectl: Kubectl, namespace: str, apply: Apply, main: ObjectRef
) -> None:
    kubectl("-n", namespace, "create", "configmap", "taken-config", "--from-literal=a=b", check=True)
    taken = apply("taken")
    found = becomes(client, taken, "Ready", "False", "NameTaken")
    assert "ConfigMap" in found["message"]
    assert client.get(CONFIG_MAP, namespace, "taken-config")["data"] == {"a": "b"}
    kubectl("-n", namespace, "delete", "configmap", "taken-config", check=True)
    becomes(client, taken, "Ready", "True")
