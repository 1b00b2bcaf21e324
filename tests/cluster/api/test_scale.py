"""`kubectl scale`, and whoever else writes the scale subresource, pins a fleet."""

import json

import pytest
from buildgrid_operator.api import BotFleetStatus

from tests.cluster.api.fleets import fleet
from tests.cluster.api.objects import Json
from tests.cluster.conftest import Kubectl

pytestmark = pytest.mark.usefixtures("crds")


def spec_of(kubectl: Kubectl, name: str, namespace: str) -> Json:
    answer = kubectl("get", "bgf", name, "-n", namespace, "-o", "json", check=True)
    found: Json = json.loads(answer.stdout)["spec"]
    return found


def scale_of(kubectl: Kubectl, name: str, namespace: str) -> Json:
    path = f"/apis/buildgrid.build/v1alpha1/namespaces/{namespace}/botfleets/{name}/scale"
    found: Json = json.loads(kubectl("get", "--raw", path, check=True).stdout)
    return found


def test_a_fleet_is_pinned_by_kubectl_scale_and_let_go_again(
    apply: Kubectl, kubectl: Kubectl, namespace: str
) -> None:
    apply(fleet("pinned"), check=True)
    assert "replicas" not in spec_of(kubectl, "pinned", namespace)
    kubectl("scale", "bgf/pinned", "--replicas=8", "-n", namespace, check=True)
    assert spec_of(kubectl, "pinned", namespace)["replicas"] == 8
    unpin = ["--type=merge", "-p", '{"spec":{"replicas":null}}']
    kubectl("patch", "bgf", "pinned", "-n", namespace, *unpin, check=True)
    assert "replicas" not in spec_of(kubectl, "pinned", namespace)


def test_a_fleet_that_follows_an_autoscaler_is_not_let_go(
    apply: Kubectl, kubectl: Kubectl, namespace: str
) -> None:
    apply(fleet("external", replicas=1, scaling={"mode": "External"}), check=True)
    unpin = ["--type=merge", "-p", '{"spec":{"replicas":null}}']
    answer = kubectl("patch", "bgf", "external", "-n", namespace, *unpin)
    assert answer.returncode != 0
    assert "must be set where scaling.mode is External" in answer.stderr


def test_an_autoscaler_reads_what_is_wanted_what_is_there_and_whose_pods_it_is_about(
    apply: Kubectl, kubectl: Kubectl, namespace: str
) -> None:
    apply(fleet("read", replicas=3), check=True)
    before = scale_of(kubectl, "read", namespace)
    assert (before["spec"]["replicas"], before["status"]["replicas"]) == (3, 0)
    status = BotFleetStatus(observed_generation=1, replicas=2, selector="buildgrid.build/fleet=read")
    patch = json.dumps({"status": status.to_dict()})
    kubectl(
        "patch", "bgf", "read", "-n", namespace, "--subresource=status", "--type=merge", "-p", patch,
        check=True,
    )  # fmt: skip
    assert scale_of(kubectl, "read", namespace)["status"] == {
        "replicas": 2,
        "selector": "buildgrid.build/fleet=read",
    }


def test_more_bots_than_a_fleet_has_are_refused(apply: Kubectl, kubectl: Kubectl, namespace: str) -> None:
    apply(fleet("many"), check=True)
    answer = kubectl("scale", "bgf/many", "--replicas=10001", "-n", namespace)
    assert answer.returncode != 0
    assert "spec.replicas" in answer.stderr
