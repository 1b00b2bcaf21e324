"""Edits while a build runs: one that reaches the running replicas, and one that rolls them."""

import time

import pytest

from tests.cluster.images.building import GATED, STEPS, Bazel, Gate, all_steps
from tests.cluster.images.figures import Figure
from tests.cluster.images.installation import PROPERTY_SET, RELEASE, Installation
from tests.cluster.operator.processes import eventually

pytestmark = pytest.mark.timeout(600)
REACHED_IN = 10.0
"""seconds, although a kubelet by itself looks for changed volumes once a minute"""


@pytest.fixture(scope="module")
def three(installation: Installation) -> Installation:
    """With three replicas."""
    installation.change({"replicas": 3})
    installation.wait_until_serving(3)
    return installation


def _refusing(installation: Installation) -> list[str]:
    """Which replicas refuse a job that has the property `network`."""
    replicas = installation.pods("scheduler")
    flags = ("--property=Pool=toolchain", "--property=network=off")
    return [
        name
        for name, pod in replicas.items()
        if installation.execute(f"grpc://{pod['status']['podIP']}:50051", *flags).returncode
    ]


def test_a_property_set_reaches_three_replicas_without_a_restart(
    three: Installation, bazel: Bazel, gate: Gate, figure: Figure
) -> None:
    before = three.pods("scheduler")
    build = bazel.start("build", GATED, *gate.flags)
    gate.wait_for(2)
    # The bot is held; this asks for nothing but an answer.
    assert len(_refusing(three)) == 3

    began = time.monotonic()
    three.change({"dynamic": {"wildcardKeys": ["network"]}}, PROPERTY_SET)
    generation = three.get(PROPERTY_SET, RELEASE)["metadata"]["generation"]

    def in_force() -> bool:
        status = three.scheduler()["status"]
        applied = next(each for each in status["conditions"] if each["type"] == "ConfigApplied")
        return bool(status["propertySet"]["generation"] == generation and applied["status"] == "True")

    eventually(in_force, "the edit is in force", 60)
    took = time.monotonic() - began
    figure("PropertySet edit to ConfigApplied, 3 replicas, a build running", f"{took:.1f} s")
    assert took < REACHED_IN
    assert three.scheduler()["status"]["configuredReplicas"] == 3

    gate.open()
    build.succeeded()
    assert _refusing(three) == []
    assert set(three.pods("scheduler")) == set(before)
    assert three.restarts("scheduler") == 0
    gate.wait_for(len(STEPS))
    assert sorted(gate.arrived) == list(STEPS)


def test_an_edit_that_rolls_the_replicas_leaves_a_build_alone(
    three: Installation, bazel: Bazel, gate: Gate
) -> None:
    before = three.pods("scheduler")
    build = bazel.start("build", GATED, *gate.flags)
    gate.wait_for(2)

    three.change({"resources": {"requests": {"cpu": "60m"}}})
    three.wait_until_serving(3)

    assert not set(three.pods("scheduler")) & set(before)
    assert build.runs()
    gate.open()
    build.succeeded()
    assert bazel.output("gated/gated.txt") == all_steps()
    gate.wait_for(len(STEPS))
    assert sorted(gate.arrived) == list(STEPS)
