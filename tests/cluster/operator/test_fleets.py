"""Fleets on a real API server, with a real scheduler: they follow the work, and end none of it."""

from datetime import UTC, datetime

from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.kinds import POD, POD_DISRUPTION_BUDGET, SERVICE_ACCOUNT, ObjectRef
from google.rpc.code_pb2 import OK

from tests.cluster.conftest import Kubectl
from tests.cluster.operator.farm_fixtures import (
    Make,
    StartOperator,
    farm,
    make,
    operator,
    start_fleet_operator,
)
from tests.cluster.operator.played_farm import PlayedFarm
from tests.cluster.operator.processes import Operator, becomes, condition, eventually

__all__ = ["farm", "make", "operator", "start_fleet_operator"]


def test_a_fleet_at_zero_is_ready_and_has_what_its_bots_need(
    client: Client, namespace: str, make: Make, farm: PlayedFarm
) -> None:
    linux = make("linux")
    becomes(client, linux, "Ready", "True", "AsWanted")
    becomes(client, linux, "ScalingActive", "True", "FollowsWork")
    becomes(client, linux, "MetricsStale", "False", "Fresh")
    status = farm.status("linux")
    assert status["replicas"] == status["desiredBots"] == 0
    assert "buildgrid.build/fleet=linux" in status["selector"]
    assert client.find(SERVICE_ACCOUNT, namespace, "linux-bots") is not None
    assert client.find(POD_DISRUPTION_BUDGET, namespace, "linux-bots") is not None


def test_a_fleet_grows_from_zero_with_the_work_and_goes_back_to_zero(
    client: Client, make: Make, farm: PlayedFarm
) -> None:
    linux = make("linux", scaling={"maxBots": 5})
    becomes(client, linux, "Ready", "True")
    farm.bots.seconds, farm.bots.most = 1.0, 0
    begun = datetime.now(UTC)
    answers = farm.execute(20)
    eventually(lambda: farm.pods("linux"), "a pod is made")
    asked = (datetime.now(UTC) - begun).total_seconds()
    print(f"from the first Execute until a pod was seen: {asked:.2f} s")
    assert all(answer.status.code == OK for answer in answers.result(120))
    assert 2 <= farm.bots.most <= 5
    farm.has("linux", 0)
    eventually(lambda: "not more than 0 were needed" in _decision(farm), "what was decided is told")
    assert farm.bots.killed == []
    eventually(lambda: farm.status("linux").get("replicas") == 0, "its status tells so")


def _decision(farm: PlayedFarm) -> str:
    decision: dict[str, str] = farm.status("linux").get("lastDecision") or {}
    return decision.get("message", "")


def test_bots_that_work_are_not_let_go_and_idle_ones_are(make: Make, farm: PlayedFarm) -> None:
    make("linux", scaling={"maxBots": 4})
    farm.bots.seconds = 8.0
    answers = farm.execute(4)
    eventually(lambda: len(farm.bots.busy) == 4, "four bots work")
    farm.bots.seconds = 0.5
    more = farm.execute(2)
    assert all(answer.status.code == OK for answer in [*answers.result(120), *more.result(120)])
    farm.has("linux", 0)
    assert farm.bots.killed == []


def test_a_new_template_reaches_bots_that_are_never_idle(
    client: Client, kubectl: Kubectl, namespace: str, make: Make, farm: PlayedFarm
) -> None:
    make("linux", scaling={"maxBots": 4, "minBots": 2}, rollout={"maxSurge": 1})
    farm.has("linux", 2)
    farm.bots.seconds = 0.5
    before = {pod["metadata"]["uid"] for pod in farm.pods("linux")}
    answers = farm.execute(60)
    eventually(lambda: len(farm.bots.busy) >= 2, "the bots work")
    patch = '{"spec": {"workerProperties": [{"key": "rack", "value": "7"}]}}'
    kubectl("-n", namespace, "patch", "bgf", "linux", "--type=merge", f"-p={patch}", check=True)
    eventually(
        lambda: not before & {pod["metadata"]["uid"] for pod in farm.pods("linux")}, "all are replaced", 120
    )
    assert all(answer.status.code == OK for answer in answers.result(120))
    assert farm.bots.killed == []
    assert [answer.result.exit_code for answer in answers.result()] == [0] * 60


def test_kubectl_scale_pins_a_fleet_and_says_so(
    client: Client, kubectl: Kubectl, namespace: str, make: Make, farm: PlayedFarm
) -> None:
    linux = make("linux", scaling={"maxBots": 4})
    becomes(client, linux, "Ready", "True")
    kubectl("-n", namespace, "scale", "bgf/linux", "--replicas=3", check=True)
    farm.has("linux", 3)
    assert "replicas" in becomes(client, linux, "ScalingActive", "True", "Pinned")["message"]
    patch = '{"spec": {"replicas": null}}'
    kubectl("-n", namespace, "patch", "bgf", "linux", "--type=merge", f"-p={patch}", check=True)
    farm.has("linux", 0)


def test_an_operator_that_is_killed_goes_on_where_it_was(
    client: Client,
    make: Make,
    farm: PlayedFarm,
    operator: Operator,
    start_fleet_operator: StartOperator,
) -> None:
    make("linux", scaling={"maxBots": 3})
    farm.bots.seconds = 3.0
    answers = farm.execute(9)
    eventually(lambda: len(farm.bots.busy) == 3, "three bots work")
    names = {pod["metadata"]["name"] for pod in farm.pods("linux")}
    operator.kill()
    start_fleet_operator()
    assert all(answer.status.code == OK for answer in answers.result(120))
    farm.has("linux", 0, 120)
    assert farm.bots.killed == []
    assert names


def test_work_that_two_fleets_can_do_goes_to_the_first_and_is_not_counted_twice(
    make: Make, farm: PlayedFarm
) -> None:
    make("cheap", scaling={"maxBots": 2, "priority": 0})
    make("dear", scaling={"maxBots": 4, "priority": 1})
    farm.bots.seconds = 4.0
    answers = farm.execute(3)
    eventually(lambda: len(farm.pods("cheap")) == 2 and len(farm.pods("dear")) == 1, "two and one")
    assert all(answer.status.code == OK for answer in answers.result(120))
    farm.has("cheap", 0)
    farm.has("dear", 0)


def test_a_pod_that_is_deleted_by_hand_is_not_the_jobs_fault(
    client: Client, make: Make, farm: PlayedFarm
) -> None:
    make("linux", scaling={"maxBots": 1})
    farm.bots.seconds = 3.0
    answers = farm.execute(1)
    eventually(lambda: farm.bots.busy, "a bot works")
    (busy,) = farm.pods("linux")
    client.delete(ObjectRef.of(busy))
    farm.bots.seconds = 0.2
    assert all(answer.status.code == OK for answer in answers.result(180))
    farm.bots.killed.clear()


def test_a_fleet_without_its_scheduler_says_so(client: Client, make: Make) -> None:
    lost = make("lost", schedulerRef={"name": "nowhere"})
    message = becomes(client, lost, "Ready", "False", "SchedulerMissing")["message"]
    assert "nowhere" in message
    assert condition(client, lost, "ScalingActive")["status"] == "False"


def test_a_pod_that_the_api_server_refuses_is_told_before_it_is_needed(
    client: Client, make: Make, namespace: str
) -> None:
    bad = make("bad", priorityClassName="no-such-class")
    found = becomes(client, bad, "Ready", "False", "PodRefused")
    assert "no-such-class" in found["message"]
    assert client.list(POD, namespace, labels="buildgrid.build/fleet=bad").items == ()
