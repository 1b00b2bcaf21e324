"""What goes wrong while a build runs: the build finishes all the same, and statuses say what is wrong."""

import signal

import pytest

from tests.cluster.images.building import GATED, STEPS, Bazel, Build, Gate, all_steps
from tests.cluster.images.built import next_version
from tests.cluster.images.installation import RELEASE, Installation, image_flags
from tests.cluster.operator.processes import eventually

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def build(installation: Installation, bazel: Bazel, gate: Gate) -> Build:
    """One whose actions are held in the middle of their run."""
    build = bazel.start("build", GATED, *gate.flags)
    gate.wait_for(2)
    return build


def _finishes(build: Build, bazel: Bazel, gate: Gate) -> None:
    """To a good end, and no action was begun twice."""
    assert build.runs()
    gate.open()
    build.succeeded()
    assert bazel.output("gated/gated.txt") == all_steps()
    gate.wait_for(len(STEPS))
    assert sorted(gate.arrived) == list(STEPS)


def test_a_tag_that_no_registry_has_changes_nothing_but_the_status(
    installation: Installation, bazel: Bazel, gate: Gate, build: Build
) -> None:
    before = installation.pods("scheduler")
    image = installation.scheduler()["status"]["image"].rpartition(":")[0] + ":no-such-tag"
    installation.change({"image": image, "upgradePolicy": "Manual"})

    def told() -> str | None:
        conditions = installation.scheduler()["status"]["conditions"]
        words = " ".join(f"{each['reason']} {each['message']}" for each in conditions)
        return words if "ImagePull" in words else None

    words = eventually(told, f"a condition tells of it\n{installation.scheduler()['status']}", 120)
    assert "no-such-tag" in words
    pods = installation.pods("scheduler")
    assert set(before) < set(pods)
    for name in before:
        (container,) = pods[name]["status"]["containerStatuses"]
        assert (container["ready"], container["restartCount"]) == (True, 0)
    installation.change({"image": None, "upgradePolicy": "Automatic"})
    installation.wait_until_serving(1)
    assert set(installation.pods("scheduler")) == set(before)
    _finishes(build, bazel, gate)


def test_a_database_pod_that_is_deleted_comes_back(
    installation: Installation, bazel: Bazel, gate: Gate, build: Build
) -> None:
    installation.run("delete", "pod", f"{RELEASE}-postgresql-0")
    installation.wait_for_pod(f"{RELEASE}-postgresql-0")
    _finishes(build, bazel, gate)
    installation.wait_for("Ready", "True")
    assert installation.restarts("scheduler") == 0


def test_a_scheduler_that_is_killed_starts_again(
    installation: Installation, bazel: Bazel, gate: Gate, build: Build
) -> None:
    (pod,) = installation.pods("scheduler")
    # The child of tini, which tells of its end.
    kill = "kill -KILL $(cat /proc/1/task/1/children)"
    # The shell may end with the container.
    installation.kubectl(
        *("-n", installation.namespace, "exec", pod, "-c", "scheduler", "--", "sh", "-c", kill)
    )
    eventually(lambda: installation.restarts("scheduler") >= 1, "it was started again", 60)
    status = installation.get("pod", pod)["status"]["containerStatuses"][0]["lastState"]["terminated"]
    assert status["exitCode"] == 128 + signal.SIGKILL
    installation.wait_for_pod(pod)
    _finishes(build, bazel, gate)
    installation.wait_for("Ready", "True")


def test_an_operator_that_is_lost_in_an_upgrade_finishes_it_later(
    installation: Installation, bazel: Bazel, gate: Gate, build: Build
) -> None:
    old = installation.pods("scheduler")
    installation.succeed("upgrade", *image_flags(next_version(), "scheduler"))
    installation.run(
        *("delete", "pod", "-l", "app.kubernetes.io/component=operator"), "--grace-period=0", "--force"
    )
    eventually(
        lambda: installation.scheduler()["status"]["image"].endswith(f":{next_version()}"), "it follows", 120
    )
    installation.wait_until_serving(1)
    assert not set(installation.pods("scheduler")) & set(old)
    _finishes(build, bazel, gate)
