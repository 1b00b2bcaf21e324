"""How far a workload is, and what keeps its pods from coming up, from objects as a cluster shows them."""

from typing import Any

import pytest
from buildgrid_operator.status.workload import Trouble, Workload, trouble_of, workload_of

Json = dict[str, Any]


def deployment(**status: Any) -> Json:
    return {"metadata": {"generation": 2}, "spec": {"replicas": 3}, "status": status}


def test_all_pods_of_the_newest_template_are_settled() -> None:
    status = {"observedGeneration": 2, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 3}
    assert workload_of(deployment(**status)) == Workload(3, 3, 3, 3, settled=True)


@pytest.mark.parametrize(
    "status",
    [
        {"observedGeneration": 1, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 3},
        {"observedGeneration": 2, "replicas": 3, "updatedReplicas": 2, "readyReplicas": 3},
        {"observedGeneration": 2, "replicas": 4, "updatedReplicas": 3, "readyReplicas": 3},
        {},
    ],
)
def test_a_rollout_is_not_settled(status: Json) -> None:
    assert not workload_of(deployment(**status)).settled


def test_a_lost_pod_is_no_rollout() -> None:
    status = {"observedGeneration": 2, "replicas": 3, "updatedReplicas": 3, "readyReplicas": 2}
    assert workload_of(deployment(**status)).settled


def test_a_rollout_that_the_deployment_gave_up_is_told() -> None:
    stuck = [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]
    status = {"observedGeneration": 2, "replicas": 4, "updatedReplicas": 1, "readyReplicas": 3}
    assert workload_of(deployment(**status, conditions=stuck)).deadline_exceeded


def test_one_that_is_not_there_yet_has_nothing() -> None:
    assert workload_of(None) == Workload(0, 0, 0, 0, settled=False)


def pod(*containers: Json, init: tuple[Json, ...] = (), **conditions: str) -> Json:
    return {
        "metadata": {"name": "main-0"},
        "status": {
            "conditions": [{"type": name, "status": status} for name, status in conditions.items()],
            "initContainerStatuses": list(init),
            "containerStatuses": list(containers),
        },
    }


def waiting(reason: str, message: str = "", name: str = "scheduler", **more: Any) -> Json:
    state = {"waiting": {"reason": reason, "message": message}}
    return {"name": name, "image": "example.org/x:9", "state": state, **more}


def found(trouble: Trouble | None) -> Trouble:
    assert trouble is not None
    return trouble


def test_a_pod_that_is_ready_or_only_starts_has_no_trouble() -> None:
    assert trouble_of(pod(waiting("CrashLoopBackOff"), Ready="True")) is None
    assert trouble_of(pod(waiting("ContainerCreating"))) is None
    assert trouble_of({"metadata": {"name": "new"}}) is None


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "InvalidImageName"])
def test_an_image_that_cannot_be_pulled_is_named(reason: str) -> None:
    trouble = found(trouble_of(pod(waiting(reason, "not found"))))
    assert trouble.reason == "ImagePullFailed"
    assert (
        "example.org/x:9 cannot be pulled (not found): check its name, and spec.imagePullSecrets"
        in trouble.message
    )


def test_a_crash_loop_says_where_the_log_is() -> None:
    ended = {"terminated": {"exitCode": 3, "message": "database.url: no password"}}
    trouble = found(trouble_of(pod(init=(waiting("CrashLoopBackOff", name="migrate", lastState=ended),))))
    assert trouble.reason == "CrashLoop"
    assert "exit code 3: database.url: no password" in trouble.message
    assert "kubectl logs main-0 -c migrate --previous" in trouble.message


def test_a_pod_without_a_node_is_told_in_the_schedulers_words() -> None:
    unscheduled = pod()
    unscheduled["status"]["conditions"] = [
        {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": "0/3 nodes are available: 3 Insufficient cpu.",
        }
    ]
    trouble = found(trouble_of(unscheduled))
    assert trouble.reason == "Unschedulable"
    assert "3 Insufficient cpu" in trouble.message


@pytest.mark.parametrize("words", ["note", "message"])
@pytest.mark.parametrize(
    ("said", "reason", "told"),
    [
        (
            'MountVolume.SetUp failed for volume "database" : secret "farm-database" not found',
            "SecretMissing",
            "the Secret farm-database does not exist in this namespace",
        ),
        (
            'MountVolume.SetUp failed for volume "x" : configmap "jwks" not found',
            "ConfigMapMissing",
            "the ConfigMap jwks does not exist",
        ),
        (
            'MountVolume.SetUp failed for volume "x" : references non-existent secret key: url',
            "KeyMissing",
            "the key url is not in what the pod main-0 mounts",
        ),
        ("Unable to attach or mount volumes: timed out", "MountFailed", "timed out"),
    ],
)
def test_a_volume_that_cannot_be_mounted_is_read_from_the_events(
    said: str, reason: str, told: str, words: str
) -> None:
    old = {"reason": "FailedMount", words: "something else", "eventTime": "2026-01-01T00:00:00Z"}
    new = {
        "reason": "FailedMount",
        words: said,
        "eventTime": "2025-01-01T00:00:00Z",
        "series": {"lastObservedTime": "2026-01-01T00:01:00Z"},
    }
    other = {"reason": "Pulled", words: "x", "eventTime": "2027-01-01T00:00:00Z"}
    trouble = found(trouble_of(pod(waiting("ContainerCreating")), [new, old, other]))
    assert trouble.reason == reason
    assert told in trouble.message


def test_a_missing_key_of_an_env_is_read_from_the_container() -> None:
    trouble = found(trouble_of(pod(waiting("CreateContainerConfigError", 'secret "x" not found'))))
    assert trouble.reason == "SecretMissing"
