"""All pods of the chart: what they may do, where their images come from, where they run."""

import pytest
import yaml

from tests.unit.charts.rendering import (
    CHART,
    DIGEST,
    VALUES,
    Json,
    arguments_of,
    find,
    needs_helm,
    pods,
    rendered,
)
from tests.unit.operator.desired.restricted import violations

pytestmark = needs_helm


@pytest.mark.parametrize("name", VALUES)
def test_every_pod_is_restricted(name: str) -> None:
    found = {pod: violations(template) for pod, template in pods(rendered(name))}
    assert found
    assert not {pod: what for pod, what in found.items() if what}


@pytest.mark.parametrize("name", VALUES)
def test_every_pod_has_a_read_only_root_and_an_account_of_its_own(name: str) -> None:
    accounts = {obj["metadata"]["name"] for obj in rendered(name) if obj["kind"] == "ServiceAccount"}
    for pod, template in pods(rendered(name)):
        spec = template["spec"]
        assert spec["serviceAccountName"] in accounts, pod
        for container in spec["containers"]:
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, pod


def test_every_container_asks_for_resources_unless_somebody_removes_that() -> None:
    for pod, template in pods(rendered("everything")):
        assert all("requests" in container["resources"] for container in template["spec"]["containers"]), pod
    (operator,) = pods(rendered("nothing but the operator"))
    assert "resources" not in operator[1]["spec"]["containers"][0]


def test_all_images_come_from_one_registry() -> None:
    found = rendered("everything")
    images = {container["image"] for _, pod in pods(found) for container in pod["spec"]["containers"]}
    version = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))["appVersion"]
    registry = "registry.example.org/mirror/buildgrid-kubernetes"
    assert images == {
        f"{registry}/operator:1.2.3",
        f"{registry}/scheduler:{version}",
        f"{registry}/postgres:{version}",
    }
    arguments = arguments_of(find(found, "Deployment", "demo-buildgrid-operator"))
    assert f"--scheduler-image={registry}/scheduler:{version}" in arguments
    assert f"--bot-image={registry}/bot@{DIGEST}" in arguments
    assert "--image-registry=registry.example.org/mirror" in arguments


def test_digests_count_more_than_tags() -> None:
    found = rendered("air gap example")
    images = [container["image"] for _, pod in pods(found) for container in pod["spec"]["containers"]]
    arguments = arguments_of(find(found, "Deployment", "demo-buildgrid-operator"))
    told = [argument.partition("-image=")[2] for argument in arguments if "-image=" in argument]
    assert len(told) == 2
    images += [*told, find(found, "BotFleet", "demo-buildgrid")["spec"]["image"]]
    assert all(image.startswith("registry.example.org/") and "@sha256:" in image for image in images)


def test_every_pod_has_what_is_said_for_all_and_keeps_its_own_labels() -> None:
    for name, pod in pods(rendered("everything")):
        spec, metadata = pod["spec"], pod["metadata"]
        assert spec["imagePullSecrets"] == [{"name": "one"}, {"name": "two"}], name
        assert spec["nodeSelector"] == {"pool": "system"}, name
        assert spec["tolerations"] == [{"key": "system", "operator": "Exists"}], name
        assert spec["affinity"] == {"podAntiAffinity": {}}, name
        assert spec["priorityClassName"] == "system-cluster-critical", name
        assert all(container["imagePullPolicy"] == "Always" for container in spec["containers"]), name
        assert metadata["annotations"]["note"] == "seen", name
        assert metadata["labels"]["team"] == "builds", name
        assert metadata["labels"]["app.kubernetes.io/component"] != "stolen", name


def test_pull_secrets_reach_the_pods_that_the_operator_makes() -> None:
    arguments = arguments_of(find(rendered("everything"), "Deployment", "demo-buildgrid-operator"))
    told = [argument for argument in arguments if argument.startswith("--image-pull-secret=")]
    assert told == ["--image-pull-secret=one", "--image-pull-secret=two"]


@pytest.mark.parametrize("name", VALUES)
def test_only_who_calls_the_api_server_has_a_token(name: str) -> None:
    with_token = {
        pod for pod, template in pods(rendered(name)) if template["spec"]["automountServiceAccountToken"]
    }
    jobs = {"Job demo-buildgrid-crds", "Job demo-buildgrid-password", "Job demo-buildgrid-uninstall"}
    assert with_token - jobs == {"Deployment demo-buildgrid-operator"}


@pytest.mark.parametrize("name", VALUES)
def test_no_password_is_in_a_pod(name: str) -> None:
    assert "changeme" not in str([template for _, template in pods(rendered(name))])


def test_the_operator_knows_which_pods_are_its_own() -> None:
    deployment = find(rendered("everything"), "Deployment", "demo-buildgrid-operator")
    told = dict(
        argument.removeprefix("--pod-label=").split("=", 1)
        for argument in arguments_of(deployment)
        if argument.startswith("--pod-label=")
    )
    assert told == deployment["spec"]["selector"]["matchLabels"]
    assert told.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()


def test_a_single_operator_has_no_disruption_budget() -> None:
    def budgets(name: str) -> list[Json]:
        return [obj for obj in rendered(name) if obj["kind"] == "PodDisruptionBudget"]

    assert budgets("defaults") == []
    (budget,) = budgets("production example")
    assert budget["spec"]["maxUnavailable"] == 1
    assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_replicas_are_not_written_unless_somebody_asks() -> None:
    for kind, name in (
        ("Deployment", "demo-buildgrid-operator"),
        ("Scheduler", "demo-buildgrid"),
        ("BotFleet", "demo-buildgrid"),
    ):
        assert "replicas" not in find(rendered("defaults"), kind, name)["spec"]
    assert find(rendered("everything"), "Deployment", "demo-buildgrid-operator")["spec"]["replicas"] == 3
