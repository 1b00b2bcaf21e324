"""How far a pod is, and why it does not come up."""

from typing import Any

import pytest
from buildgrid_operator.fleets.pods import pod_view
from buildgrid_operator.fleets.views import Phase, StartTrouble

from tests.unit.operator.fleets.seen import NOON, UNSCHEDULABLE, ago, manifest, seen_pod, waiting


def test_a_pod_without_a_number_is_no_bot() -> None:
    pod = manifest()
    del pod["metadata"]["labels"]
    assert pod_view(pod) is None


def test_what_its_metadata_say() -> None:
    pod = seen_pod(7, template="abc", created=ago(60))
    assert (pod.name, pod.uid, pod.number, pod.template_hash) == ("linux-7", "uid-7", 7, "abc")
    assert (pod.created, pod.scheduled, pod.node) == (ago(60), ago(60), "node-1")
    assert (pod.phase, pod.ending, pod.trouble) == (Phase.RUNNING, False, None)


def test_one_that_no_node_takes_tells_why_in_the_kube_schedulers_words() -> None:
    pod = seen_pod(phase="Pending", node=None, conditions=[UNSCHEDULABLE])
    assert pod.phase is Phase.UNSCHEDULABLE
    assert pod.words == "0/3 nodes are available: 3 Insufficient cpu."
    assert pod.scheduled is None
    assert pod.trouble is None


def test_one_that_has_just_been_made_is_pending() -> None:
    pod = manifest(node=None)
    del pod["status"]
    found = pod_view(pod)
    assert found is not None
    assert (found.phase, found.scheduled, found.node) == (Phase.PENDING, None, None)


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "InvalidImageName"])
@pytest.mark.parametrize("where", ["container", "init"])
def test_an_image_that_cannot_be_pulled_is_named(reason: str, where: str) -> None:
    told: dict[str, Any] = {where: waiting(reason, "not found")}
    pod = seen_pod(phase="Pending", **told)
    assert pod.phase is Phase.PENDING
    assert pod.trouble is StartTrouble.IMAGE_PULL
    name = "bot" if where == "container" else "install"
    assert pod.words == (
        f"the image registry/{name}:1 cannot be pulled (not found): check its name, and spec.imagePullSecrets"
    )


@pytest.mark.parametrize(
    "reason", ["CreateContainerConfigError", "CreateContainerError", "RunContainerError"]
)
def test_a_container_that_cannot_start_is_told_of(reason: str) -> None:
    pod = seen_pod(phase="Pending", container=waiting(reason, 'secret "x" not found'))
    assert pod.trouble is StartTrouble.CONTAINER
    assert pod.words == 'container bot cannot start: secret "x" not found'


def test_containers_that_are_being_created_are_no_trouble() -> None:
    assert seen_pod(phase="Pending", container=waiting("ContainerCreating")).trouble is None


def test_one_that_failed_tells_the_exit_code_and_the_last_words_in_one_line() -> None:
    end = {"terminated": {"exitCode": 2, "message": "no such\n  option", "reason": "Error"}}
    pod = seen_pod(phase="Failed", container=end)
    assert pod.phase is Phase.ENDED
    assert pod.words == "container bot of the pod linux-1 ended with exit code 2: no such option"


def test_one_that_its_node_ended_tells_the_nodes_words() -> None:
    pod = seen_pod(phase="Failed", reason="Evicted", message="low on memory")
    assert pod.words == "the pod linux-1 was ended by its node (Evicted): low on memory"


def test_one_that_succeeded_has_ended_by_itself() -> None:
    pod = seen_pod(phase="Succeeded", container={"terminated": {"exitCode": 0, "reason": "Completed"}})
    assert (pod.phase, pod.words) == (Phase.ENDED, "the pod linux-1 ended by itself")


def test_it_ends_from_its_deletion_on_or_from_ours() -> None:
    by_somebody, by_us = seen_pod(ending=True), seen_pod(deleted=True)
    assert (by_somebody.ending, by_somebody.deleted) == (True, False)
    assert (by_us.ending, by_us.deleted) == (True, True)


def test_an_eviction_that_was_announced_is_seen() -> None:
    target = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
    assert seen_pod(conditions=[target]).disrupted
    assert not seen_pod(conditions=[{**target, "status": "False"}]).disrupted


def test_a_node_without_the_condition_counts_from_the_pods_creation() -> None:
    pod = manifest(created=NOON)
    pod["status"]["conditions"] = []
    found = pod_view(pod)
    assert found is not None
    assert found.scheduled == NOON
