"""The operator, and objects, of one version, and the CRDs of another one."""

from collections.abc import Iterator

import pytest
import yaml
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.kinds import BOT_FLEET, CONFIG_MAP, DEPLOYMENT, PROPERTY_SET, ObjectRef

from tests.cluster.conftest import Kubectl
from tests.cluster.operator.conftest import Apply, Json, Start
from tests.cluster.operator.control_plane import told
from tests.cluster.operator.old_crds import crds_of, install
from tests.cluster.operator.processes import becomes, eventually

pytestmark = [pytest.mark.alone, pytest.mark.timeout(300)]
NEW_FIELDS = {
    "schedulers": ("spec.logging", "spec.shutdown", "status.connectedBots", "status.propertySet"),
    "propertysets": ("status.usedBy",),
    "botfleets": ("spec.capacityClass", "status.lastDecision", "status.startSeconds", "status.sandbox"),
}
"""that an older version does not have"""
GONE_FIELDS: dict[str, dict[str, Json]] = {
    "schedulers": {"spec.legacyMode": {"type": "string", "maxLength": 16}},
    "botfleets": {"spec.scaling.legacySpeed": {"type": "integer"}},
}
"""that an older version has, and this one does not"""
SLEEPS: Json = {"metadata": {"annotations": {"vkubelet/run-seconds": "3600"}}}


@pytest.fixture(autouse=True)
def installed_again(kubectl: Kubectl) -> Iterator[None]:
    """The other files need the CRDs of this version."""
    told("DISPOSABLE")
    yield
    install(kubectl, crds_of({}, {}))


def _fleet(namespace: str, name: str, **spec: object) -> Json:
    return {
        "apiVersion": "buildgrid.build/v1alpha1",
        "kind": "BotFleet",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"schedulerRef": {"name": "main"}, "scaling": {"minBots": 1}, "podTemplate": SLEEPS, **spec},
    }


def _knows(kubectl: Kubectl, path: str, known: bool) -> None:
    """Wait until the API server does, or does not: what it publishes follows within seconds."""
    eventually(lambda: (kubectl("explain", path).returncode == 0) == known, f"{path} is known: {known}")


def test_new_objects_under_old_crds(
    client: Client, kubectl: Kubectl, namespace: str, apply: Apply, start_operator: Start
) -> None:
    install(kubectl, crds_of(NEW_FIELDS, {}))
    _knows(kubectl, "schedulers.buildgrid.build.spec.logging", False)
    operator = start_operator(identity="pod-0").leads()
    apply("usual", kind="PropertySet", dynamic={"matchKeys": ["OSFamily"]})
    main = apply(propertySetRef={"name": "usual"})
    # Who applies a field that is not known is told.
    obj = client.get(main.kind, namespace, "main")
    wanted = {**obj, "spec": {**obj["spec"], "logging": {"level": "Debug"}}}
    wanted["metadata"] = {"name": "main", "namespace": namespace}
    wanted.pop("status")
    refused = kubectl("apply", "-f", "-", stdin=yaml.safe_dump(wanted))
    assert refused.returncode != 0
    assert 'unknown field "spec.logging"' in refused.stderr
    # A program that does not ask is not: the field is dropped, and nothing else.
    kubectl("apply", "--validate=ignore", "-f", "-", stdin=yaml.safe_dump(wanted), check=True)
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump(_fleet(namespace, "linux")), check=True)
    assert client.get(main.kind, namespace, "main")["spec"] == obj["spec"]
    linux = ObjectRef(BOT_FLEET, namespace, "linux")
    usual = ObjectRef(PROPERTY_SET, namespace, "usual")
    for ref in (usual, main, linux):
        becomes(client, ref, "Ready", "True")
    becomes(client, main, "ConfigApplied", "True")
    assert client.get(main.kind, namespace, "main")["status"]["readyReplicas"] == 1
    assert "connectedBots" not in client.get(main.kind, namespace, "main")["status"]
    assert "the CRD of Scheduler has no status.connectedBots; it is older than the operator" in operator.log
    operator.comes_to_rest(2)
    # With the CRDs of its own version the object may have the field, and nothing else is made anew. What the
    # status could not tell before, the next operator tells, or this one ten minutes later.
    uid = client.get(DEPLOYMENT, namespace, "main-scheduler")["metadata"]["uid"]
    install(kubectl, crds_of({}, {}))
    _knows(kubectl, "schedulers.buildgrid.build.spec.logging", True)
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump(wanted), check=True)
    becomes(client, main, "ConfigApplied", "True")
    text = client.get(CONFIG_MAP, namespace, "main-config")["data"]["scheduler.yaml"]
    assert "debug" in text.lower()
    assert operator.stop() == 0
    operator = start_operator(identity="pod-0").leads()
    eventually(lambda: "connectedBots" in client.get(main.kind, namespace, "main")["status"], "all is told")
    assert client.get(DEPLOYMENT, namespace, "main-scheduler")["metadata"]["uid"] == uid
    operator.comes_to_rest(2)
    assert operator.stop() == 0


def test_old_objects_under_new_crds(
    client: Client, kubectl: Kubectl, namespace: str, apply: Apply, start_operator: Start
) -> None:
    install(kubectl, crds_of({}, GONE_FIELDS))
    _knows(kubectl, "schedulers.buildgrid.build.spec.legacyMode", True)
    operator = start_operator(identity="pod-0").leads()
    # As long as the API server knows the field, the operator sees it, and says that it does not know it.
    plain, old = apply("plain"), apply("old", legacyMode="fast")
    becomes(client, plain, "ConfigApplied", "True")
    found = becomes(client, old, "Ready", "False", "InvalidSpec")
    assert "spec.legacyMode: is not a field" in found["message"]
    fleet = _fleet(namespace, "old", scaling={"minBots": 1, "legacySpeed": 3}, schedulerRef={"name": "plain"})
    kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump(fleet), check=True)
    bots = ObjectRef(BOT_FLEET, namespace, "old")
    found = becomes(client, bots, "Ready", "False", "InvalidSpec")
    assert "spec.scaling.legacySpeed: is not a field" in found["message"]
    operator.comes_to_rest(2)
    install(kubectl, crds_of({}, {}))
    _knows(kubectl, "schedulers.buildgrid.build.spec.legacyMode", False)
    # What is stored has the field still, and what is read has not. No event tells of that; an edit does.
    for ref in (old, bots):
        client.patch_merge(ref, {"metadata": {"annotations": {"touched": "yes"}}})
    becomes(client, old, "ConfigApplied", "True")
    becomes(client, old, "Ready", "True")
    becomes(client, bots, "Ready", "True")
    assert "legacyMode" not in client.get(old.kind, namespace, "old")["spec"]
    # The field may be in what somebody applied: to the fleet it was, and it can be applied again without.
    del fleet["spec"]["scaling"]["legacySpeed"]
    kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump(fleet), check=True)
    becomes(client, bots, "Ready", "True")
    operator.comes_to_rest(2)
    assert operator.stop() == 0
