"""Fleets when something is wrong around them: nothing is let go blindly, nobody is left in the dark."""

import json
import re
import subprocess

import pytest
import yaml
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.kinds import POD, Manifest, ObjectRef
from google.rpc.code_pb2 import OK

from tests.cluster.conftest import Kubectl
from tests.cluster.operator.farm_fixtures import Make, farm, make, operator, start_fleet_operator
from tests.cluster.operator.played_bots import COMPONENT
from tests.cluster.operator.played_farm import PlayedFarm
from tests.cluster.operator.processes import becomes, eventually

__all__ = ["farm", "make", "operator", "start_fleet_operator"]
pytestmark = pytest.mark.timeout(240)
HUGE = {"requests": {"cpu": "900"}}


def test_nothing_is_let_go_while_the_scheduler_is_away(client: Client, make: Make, farm: PlayedFarm) -> None:
    linux = make("linux", scaling={"maxBots": 3})
    farm.bots.seconds = 1.0
    assert all(answer.status.code == OK for answer in farm.execute(3).result(120))
    farm.replica.kill()
    there = {pod["metadata"]["uid"] for pod in farm.pods("linux")}
    assert there
    becomes(client, linux, "MetricsStale", "True", "SchedulerUnreachable")
    becomes(client, linux, "ScalingActive", "False", "SchedulerUnreachable")
    assert {pod["metadata"]["uid"] for pod in farm.pods("linux")} == there
    farm.replica.start()
    becomes(client, linux, "MetricsStale", "False")
    farm.has("linux", 0, 120)


def test_a_bot_that_never_registers_is_replaced_and_the_reason_is_told(
    client: Client, make: Make, farm: PlayedFarm
) -> None:
    farm.bots.silent = {"quiet"}
    quiet = make("quiet", scaling={"minBots": 1, "maxBots": 1}, startup={"timeout": "30s"})
    first = {pod["metadata"]["uid"] for pod in eventually(lambda: farm.pods("quiet"), "a pod is made")}
    message = becomes(client, quiet, "Ready", "False", "BotNeverRegistered")["message"]
    assert re.search(r"kubectl logs quiet-[0-9a-f]{5}-1\b", message), message
    farm.bots.silent = set()
    eventually(
        lambda: {pod["metadata"]["uid"] for pod in farm.pods("quiet")} - first, "another pod is made", 120
    )
    becomes(client, quiet, "Ready", "True", "AsWanted")


def test_pods_without_a_node_are_kept_and_their_work_goes_elsewhere(
    client: Client, make: Make, farm: PlayedFarm
) -> None:
    huge = make("huge", scaling={"maxBots": 2, "priority": 0}, resources=HUGE)
    make("small", scaling={"maxBots": 2, "priority": 1})
    farm.bots.seconds = 0.5
    answers = farm.execute(2)
    message = becomes(client, huge, "CapacityBlocked", "True", "Unschedulable")["message"]
    assert "cpu" in message
    assert all(answer.status.code == OK for answer in answers.result(120))
    assert farm.bots.killed == []


def test_a_quota_is_told_and_the_fleet_goes_on_when_it_is_raised(
    client: Client, kubectl: Kubectl, namespace: str, make: Make, farm: PlayedFarm
) -> None:
    eventually(lambda: not client.list(POD, namespace, labels=COMPONENT).items, "other bots are gone")
    there = len(client.list(POD, namespace).items)
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "few", "namespace": namespace},
        "spec": {"hard": {"pods": str(there + 1)}},
    }
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump(quota), check=True)
    try:
        eventually(lambda: _quota_counts(kubectl, namespace), "the quota is in force")
        linux = make("linux", scaling={"minBots": 3})
        message = becomes(client, linux, "ScalingLimited", "True", "StartsFail")["message"]
    finally:
        kubectl("-n", namespace, "delete", "resourcequota", "few", check=True)
    assert "exceeded quota: few" in message
    farm.has("linux", 3, 120)
    becomes(client, linux, "Ready", "True", "AsWanted")


def _quota_counts(kubectl: Kubectl, namespace: str) -> bool:
    answer = kubectl("-n", namespace, "get", "resourcequota", "few", "-o", "json", check=True)
    return "pods" in (json.loads(answer.stdout).get("status") or {}).get("used", {})


def test_bots_of_a_cordoned_node_finish_and_come_up_elsewhere(
    client: Client, kubectl: Kubectl, make: Make, farm: PlayedFarm
) -> None:
    make("linux", scaling={"maxBots": 2, "minBots": 1})
    farm.bots.seconds = 4.0
    answers = farm.execute(1)
    eventually(lambda: farm.bots.busy, "a bot works")
    (name,) = farm.bots.names(farm.bots.busy)
    node = client.get(POD, farm.namespace, name)["spec"]["nodeName"]
    kubectl("cordon", node, check=True)
    try:
        assert all(answer.status.code == OK for answer in answers.result(120))
        eventually(
            lambda: (
                farm.pods("linux") and all(pod["spec"].get("nodeName") != node for pod in farm.pods("linux"))
            ),
            "the bots are on other nodes",
            120,
        )
    finally:
        kubectl("uncordon", node, check=True)
    assert farm.bots.killed == []


def test_nobody_evicts_a_bot_that_may_get_work(
    client: Client, kubectl: Kubectl, make: Make, farm: PlayedFarm
) -> None:
    linux = make("linux", scaling={"minBots": 1})
    becomes(client, linux, "Ready", "True")
    eventually(lambda: farm.status("linux").get("idleBots") == 1, "a bot idles")
    (pod,) = farm.pods("linux")
    assert "disruption budget" in _evict(kubectl, pod).stderr


def test_a_bot_that_a_person_drained_may_be_evicted_until_the_drain_is_taken_back(
    client: Client, kubectl: Kubectl, make: Make, farm: PlayedFarm
) -> None:
    make("linux", scaling={"minBots": 2, "maxBots": 4, "pausedScaleIn": True})
    eventually(lambda: farm.status("linux").get("idleBots") == 2, "two bots idle")
    drained, other = farm.pods("linux")
    ref = ObjectRef.of(drained)
    farm.drain(ref.name)
    eventually(lambda: not _is_protected(client, ref), "it is let go of")
    farm.drain(ref.name, undo=True)
    eventually(lambda: _is_protected(client, ref), "it is kept again")
    farm.drain(ref.name)
    eventually(lambda: not _is_protected(client, ref), "it is let go of again")
    assert "disruption budget" in _evict(kubectl, other).stderr
    eventually(lambda: not _evict(kubectl, drained).returncode, "it is evicted")
    eventually(lambda: ref.name not in [each["metadata"]["name"] for each in farm.pods("linux")], "it goes")
    assert farm.bots.killed == []


def test_pods_that_a_fleet_left_behind_finish_what_they_run_and_go(
    client: Client, kubectl: Kubectl, namespace: str, make: Make, farm: PlayedFarm
) -> None:
    make("left", scaling={"minBots": 2, "maxBots": 2})
    eventually(lambda: farm.status("left").get("idleBots") == 2, "two bots idle")
    farm.bots.seconds = 6.0
    answers = farm.execute(1)
    eventually(lambda: farm.bots.busy, "a bot works")
    kubectl("-n", namespace, "delete", "bgf", "left", "--cascade=orphan", check=True)
    farm.has("left", 1)
    assert farm.bots.busy, "the one that works stays"
    assert all(answer.status.code == OK for answer in answers.result(120))
    farm.has("left", 0)
    assert farm.bots.killed == []


def _is_protected(client: Client, pod: ObjectRef) -> bool:
    return "buildgrid.build/protected" in client.get(pod.kind, pod.namespace, pod.name)["metadata"]["labels"]


def _evict(kubectl: Kubectl, pod: Manifest) -> "subprocess.CompletedProcess[str]":
    """As `kubectl drain` does."""
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": namespace},
    }
    path = f"/api/v1/namespaces/{namespace}/pods/{name}/eviction"
    return kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))


def test_a_pause_and_a_dry_run_change_nothing_and_say_so(
    client: Client, make: Make, farm: PlayedFarm
) -> None:
    paused = make("paused", scaling={"paused": True, "minBots": 1})
    becomes(client, paused, "Paused", "True", "Paused")
    trial = make("trial", scaling={"dryRun": True, "minBots": 1})
    message = becomes(client, trial, "Ready", "True")["message"]
    assert message.startswith("dry run, nothing is done: ")
    becomes(client, trial, "ScalingActive", "False", "DryRun")
    assert farm.pods("paused") == farm.pods("trial") == []


@pytest.mark.alone
def test_from_none_to_two_hundred_and_back(make: Make, farm: PlayedFarm) -> None:
    make("many", scaling={"maxBots": 200})
    farm.bots.seconds, farm.bots.most = 20.0, 0
    answers = farm.execute(200)
    farm.has("many", 200, 120)
    eventually(lambda: farm.bots.most == 200, "all run", 120)
    assert all(answer.status.code == OK for answer in answers.result(180))
    farm.has("many", 0, 120)
    assert farm.bots.killed == []


def test_an_edit_that_cannot_be_leaves_the_bots_alone(
    client: Client, kubectl: Kubectl, namespace: str, make: Make, farm: PlayedFarm
) -> None:
    linux = make("linux", scaling={"minBots": 2})
    farm.has("linux", 2)
    before = {pod["metadata"]["uid"] for pod in farm.pods("linux")}
    patch = {"spec": {"scaling": {"schedules": [{"start": "0 7 31 2 *", "duration": "1h", "minBots": 1}]}}}
    kubectl("-n", namespace, "patch", "bgf", "linux", "--type=merge", "-p", json.dumps(patch), check=True)
    message = becomes(client, linux, "Ready", "False", "InvalidSpec")["message"]
    assert message.startswith("spec.scaling.schedules[0].start: ")
    assert {pod["metadata"]["uid"] for pod in farm.pods("linux")} == before


def test_a_namesake_that_is_made_anew_is_another_fleet(
    client: Client, kubectl: Kubectl, make: Make, farm: PlayedFarm
) -> None:
    linux = make("linux", scaling={"minBots": 2})
    farm.has("linux", 2)
    client.delete(ObjectRef(linux.kind, linux.namespace, linux.name))
    eventually(lambda: not farm.status("linux"), "it is gone")
    make("linux", scaling={"minBots": 2})
    farm.bots.seconds = 0.2
    assert all(answer.status.code == OK for answer in farm.execute(4).result(120))
