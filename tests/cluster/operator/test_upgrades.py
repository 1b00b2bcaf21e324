"""A newer operator: what follows it, and what stays as it is."""

import pytest
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.kinds import DEPLOYMENT

from tests.cluster.operator.conftest import Apply, Start
from tests.cluster.operator.processes import becomes, eventually

pytestmark = pytest.mark.timeout(300)
OLD, NEW = "example.org/buildgrid/scheduler:1", "example.org/buildgrid/scheduler:2"


def test_a_newer_operator_rolls_only_what_follows_it(
    client: Client, namespace: str, apply: Apply, start_operator: Start
) -> None:
    first = start_operator(identity="pod-0").leads()
    names = {"follows-a": "Automatic", "follows-b": "Automatic", "stays": "Manual"}
    refs = [apply(name, upgradePolicy=policy) for name, policy in names.items()]
    for ref in refs:
        becomes(client, ref, "ConfigApplied", "True")
    generation = client.get(DEPLOYMENT, namespace, "stays-scheduler")["metadata"]["generation"]
    assert first.stop() == 0
    second = start_operator(f"--scheduler-image={NEW}", identity="pod-0").leads()

    def images() -> dict[str, str]:
        return {ref.name: client.get(ref.kind, namespace, ref.name)["status"]["image"] for ref in refs}

    wanted = {"follows-a": NEW, "follows-b": NEW, "stays": OLD}
    eventually(lambda: images() == wanted, f"images are {wanted}", timeout=110)
    for ref in refs:
        becomes(client, ref, "Ready", "True")
    second.comes_to_rest()
    assert client.get(DEPLOYMENT, namespace, "stays-scheduler")["metadata"]["generation"] == generation
    assert second.stop() == 0


def test_one_that_does_not_come_up_holds_the_others_back(
    client: Client, namespace: str, apply: Apply, start_operator: Start
) -> None:
    first = start_operator(identity="pod-0").leads()
    # Its pods never become ready in a rollout: the old one stays, as maxUnavailable is 0.
    pod = {"metadata": {"annotations": {"vkubelet/ready-delay": "600"}}}
    refs = [apply(name, upgradePolicy="Automatic") for name in ("one", "two")]
    for ref in refs:
        becomes(client, ref, "ConfigApplied", "True")
    assert first.stop() == 0
    for ref in refs:
        client.patch_merge(ref, {"spec": {"podTemplate": pod}})
    second = start_operator(f"--scheduler-image={NEW}", identity="pod-0").leads()

    def upgraded() -> list[str]:
        statuses = {ref.name: client.get(ref.kind, namespace, ref.name)["status"] for ref in refs}
        return [name for name, status in statuses.items() if status["image"] == NEW]

    eventually(upgraded, "one is upgraded")
    begun = second.passes()
    eventually(lambda: second.passes() >= begun + 8, "passes of both")
    assert len(upgraded()) == 1
    assert second.stop() == 0
