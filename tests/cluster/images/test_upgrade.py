"""`helm upgrade` to another tag while a build runs: every replica is exchanged, and the build finishes."""

import pytest

from tests.cluster.images.building import GATED, STEPS, Bazel, Gate, all_steps
from tests.cluster.images.built import next_version, version
from tests.cluster.images.installation import Installation, image_flags
from tests.cluster.operator.processes import eventually

pytestmark = pytest.mark.timeout(600)


def _image(pod: dict[str, dict[str, list[dict[str, str]]]]) -> str:
    return pod["spec"]["containers"][0]["image"]


def test_a_build_outlives_an_upgrade_and_the_way_back(
    installation: Installation, bazel: Bazel, gate: Gate
) -> None:
    storage = installation.pods("storage")
    build = bazel.start("build", GATED, *gate.flags)
    gate.wait_for(2)
    for tag in (next_version(), version()):
        old = installation.pods("scheduler")
        installation.succeed("upgrade", *image_flags(tag, "operator", "scheduler"))
        eventually(
            lambda wanted=tag: installation.scheduler()["status"]["image"].endswith(f":{wanted}"),  # type: ignore[misc]
            f"the Scheduler follows to {tag}",
            120,
        )
        installation.wait_until_serving(1)
        new = installation.pods("scheduler")
        assert not set(new) & set(old)
        assert all(_image(pod).endswith(f":{tag}") for pod in new.values())
        assert build.runs()
        assert len(gate.arrived) == 2
    gate.open()
    build.succeeded()
    assert bazel.output("gated/gated.txt") == all_steps()
    # Bots kept what they had: nothing was begun twice.
    gate.wait_for(len(STEPS))
    assert sorted(gate.arrived) == list(STEPS)
    # What stores is not exchanged with what schedules: its volume is on one node at a time.
    assert set(installation.pods("storage")) == set(storage)
