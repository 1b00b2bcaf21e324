"""The real API server takes every object as it is, in a namespace that enforces restricted Pod Security."""

import json
from collections.abc import Iterator

import pytest
from buildgrid_operator.desired import Settings, build

from tests.cluster.api.objects import changed, scheduler
from tests.cluster.conftest import Kubectl
from tests.unit.operator.desired.cases import CASES, SETTINGS, inputs
from tests.unit.operator.desired.found import Json

MANAGER = "buildgrid-operator"
FOREIGN = ("GRPCRoute", "ServiceMonitor")
"""Kinds of other projects, whose CRDs this cluster may not have."""


@pytest.fixture(scope="module")
def restricted(kubectl: Kubectl, namespace: str) -> str:
    """The namespace, in which pods that are not restricted are refused, and warned about in templates."""
    labels = [f"pod-security.kubernetes.io/{mode}=restricted" for mode in ("enforce", "warn")]
    kubectl("label", "namespace", namespace, *labels, check=True)
    return namespace


def apply(kubectl: Kubectl, obj: Json, namespace: str, *arguments: str) -> Json:
    """Server-side apply as the operator does it; fails on warnings as well."""
    here = changed(obj, {"metadata.namespace": namespace})
    answer = kubectl(
        *("apply", "--server-side", "--force-conflicts", f"--field-manager={MANAGER}"),
        *("--validate=strict", "-o", "json", "-f", "-"),
        *arguments,
        stdin=json.dumps(here),
    )
    assert answer.returncode == 0, answer.stderr
    assert "Warning" not in answer.stderr
    found: Json = json.loads(answer.stdout)
    return found


def own(obj: Json) -> bool:
    return obj["kind"] not in FOREIGN


@pytest.mark.parametrize("name", CASES)
def test_every_object_is_accepted(name: str, kubectl: Kubectl, restricted: str) -> None:
    objects = [obj for obj in build(CASES[name]).objects if own(obj)]
    assert len(objects) > 5
    for obj in objects:
        apply(kubectl, obj, restricted, "--dry-run=server")


@pytest.mark.parametrize("name", CASES)
def test_the_pods_themselves_are_accepted(name: str, kubectl: Kubectl, restricted: str) -> None:
    """A Deployment is only warned about; a pod is refused."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": ""}}
    for obj in build(CASES[name]).objects:
        template = obj.get("spec", {}).get("template")
        if template is None:
            continue
        service_account = template["spec"]["serviceAccountName"]
        apply(kubectl, changed(account, {"metadata.name": service_account}), restricted)
        pod = {"apiVersion": "v1", "kind": "Pod", **template}
        apply(kubectl, changed(pod, {"metadata.name": "a-pod"}), restricted, "--dry-run=server")


def test_a_pod_that_reaches_out_is_refused_by_the_same_namespace(kubectl: Kubectl, restricted: str) -> None:
    settings = Settings(SETTINGS.operator, SETTINGS.scheduler_image, allow_privileged_pods=True)
    obj = scheduler(podTemplate={"spec": {"hostNetwork": True}})
    (found,) = [
        each for each in build(inputs(obj, settings=settings)).objects if each["kind"] == "Deployment"
    ]
    with pytest.raises(AssertionError, match="would violate PodSecurity"):
        apply(kubectl, found, restricted, "--dry-run=server")


@pytest.fixture(params=["minimal", "production"])
def applied(request: pytest.FixtureRequest, kubectl: Kubectl, restricted: str) -> Iterator[list[Json]]:
    """All objects of a Scheduler, really applied (no owner: there is no Scheduler of that UID)."""
    orphan: Json = {"metadata.ownerReferences": []}
    objects = [changed(obj, orphan) for obj in build(CASES[request.param]).objects if own(obj)]
    yield [apply(kubectl, obj, restricted) for obj in objects]
    for obj in objects:
        kubectl("delete", obj["kind"], obj["metadata"]["name"], "-n", restricted, "--wait=false", check=True)


def test_applied_twice_nothing_changes(
    applied: list[Json], kubectl: Kubectl, restricted: str, request: pytest.FixtureRequest
) -> None:
    """Else each pass would write, and a Deployment would roll."""
    case = request.node.callspec.params["applied"]
    objects = [obj for obj in build(CASES[case]).objects if own(obj)]
    assert len(applied) == len(objects) > 5
    for first, obj in zip(applied, objects, strict=True):
        again = apply(kubectl, changed(obj, {"metadata.ownerReferences": []}), restricted)
        assert again["metadata"].get("generation") == first["metadata"].get("generation"), obj["kind"]
        assert again.get("spec") == first.get("spec") or obj["kind"] == "PersistentVolumeClaim"


def test_the_storage_can_be_changed_when_its_volume_grows(kubectl: Kubectl, restricted: str) -> None:
    """The claim is no template of the StatefulSet: that could not be changed."""
    sizes = {}
    for size in ("50Gi", "80Gi"):
        found = build(inputs(scheduler("grows", storage={"managed": {"size": size}}))).objects
        (obj,) = [each for each in found if each["kind"] == "StatefulSet"]
        sizes[size] = apply(kubectl, changed(obj, {"metadata.ownerReferences": []}), restricted)
    assert sizes["50Gi"]["metadata"]["uid"] == sizes["80Gi"]["metadata"]["uid"]
    assert sizes["50Gi"]["metadata"]["generation"] < sizes["80Gi"]["metadata"]["generation"]
    kubectl("delete", "statefulset", "grows-storage", "-n", restricted, "--wait=false", check=True)
