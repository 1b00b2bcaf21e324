"""Who can open connections to the pods, as a table of flows."""

from typing import Any

import pytest
from buildgrid_operator.desired import Inputs, build
from buildgrid_operator.desired.bots import bot_pod

from tests.unit.operator.desired.bots.cases import fleet, fleet_inputs
from tests.unit.operator.desired.cases import EVERYBODY, NAMESPACE, TLS, inputs, scheduler
from tests.unit.operator.desired.flows import Caller, Outside, Pod, is_allowed
from tests.unit.operator.desired.found import kinds, templates

CLIENTS = [
    {"namespace": "ci"},
    {"namespace": "shared", "podLabels": {"app": "builder"}},
    {"podLabels": {"app": "bot"}},
    {"cidr": "192.168.0.0/16"},
    {"cidr": "fd00::/8"},
]
OPEN = inputs(scheduler())
LIMITED = inputs(scheduler(networkPolicy={"clients": CLIENTS}))
SHARED = inputs(scheduler(networkPolicy={"clients": CLIENTS}, allowedFleetNamespaces=["pools", NAMESPACE]))
OF_ALL = inputs(scheduler(networkPolicy={"clients": CLIENTS}, allowedFleetNamespaces=["*"]))
LIMITED_BEHIND_TLS = inputs(scheduler(tls={"secretName": "server-tls"}, networkPolicy={"clients": CLIENTS}))
BEHIND_TLS = inputs(scheduler(tls=TLS, auth={"mtls": {}, "policy": EVERYBODY}))
OFF = inputs(scheduler(networkPolicy={"enabled": False, "clients": CLIENTS}))

OPERATOR = Pod("buildgrid-system", {"app.kubernetes.io/name": "operator"})
NEIGHBOUR = Pod("buildgrid-system", {"app": "x"})
CI = Pod("ci", {"app": "anything"})
BUILDER, OTHER_IN_SHARED = Pod("shared", {"app": "builder"}), Pod("shared", {"app": "web"})
BOT, BOT_ELSEWHERE = Pod(NAMESPACE, {"app": "bot"}), Pod("elsewhere", {"app": "bot"})
STRANGER = Pod("elsewhere", {"app": "web"})
OF_FLEET = bot_pod(fleet_inputs(fleet()), 1)["metadata"]["labels"]
FLEETS, FLEETS_IN_POOLS = Pod(NAMESPACE, OF_FLEET), Pod("pools", OF_FLEET)
FLEETS_ELSEWHERE = Pod("elsewhere", OF_FLEET)
PROMETHEUS = Pod("monitoring", {"app": "prometheus"})
OFFICE, OFFICE_6, INTERNET = Outside("192.168.3.4"), Outside("fd00::7"), Outside("203.0.113.9")


def pod_of(given: Inputs, component: str) -> Pod:
    labels = [template["metadata"]["labels"] for template in templates(build(given))]
    (found,) = [each for each in labels if each["app.kubernetes.io/component"] == component]
    return Pod(NAMESPACE, found)


def allowed(given: Inputs, caller: Caller | str, target: str, port: int) -> bool:
    policies = [obj for obj in build(given).objects if obj["kind"] == "NetworkPolicy"]
    who = pod_of(given, caller) if isinstance(caller, str) else caller
    return is_allowed(policies, who, pod_of(given, target), port)


FLOWS: list[tuple[Any, ...]] = [
    # spec.networkPolicy.clients is unset: the gRPC endpoint is for everybody
    (OPEN, STRANGER, "scheduler", 50051, True),
    (OPEN, INTERNET, "scheduler", 50051, True),
    (OPEN, OPERATOR, "scheduler", 50051, True),
    (OPEN, "scheduler", "storage", 50051, True),
    (OPEN, STRANGER, "storage", 50051, True),
    (OPEN, PROMETHEUS, "scheduler", 9090, True),
    (OPEN, PROMETHEUS, "storage", 9090, True),
    (OPEN, INTERNET, "scheduler", 9090, False),
    (OPEN, INTERNET, "storage", 9090, False),
    (OPEN, STRANGER, "scheduler", 5432, False),
    (OPEN, "scheduler", "storage", 22, False),
    # clients are named: they, the operator, and nobody else
    (LIMITED, CI, "scheduler", 50051, True),
    (LIMITED, BUILDER, "scheduler", 50051, True),
    (LIMITED, OTHER_IN_SHARED, "scheduler", 50051, False),
    (LIMITED, BOT, "scheduler", 50051, True),
    (LIMITED, BOT_ELSEWHERE, "scheduler", 50051, False),
    (LIMITED, STRANGER, "scheduler", 50051, False),
    (LIMITED, OFFICE, "scheduler", 50051, True),
    (LIMITED, OFFICE_6, "scheduler", 50051, True),
    (LIMITED, INTERNET, "scheduler", 50051, False),
    (LIMITED, OPERATOR, "scheduler", 50051, True),
    (LIMITED, NEIGHBOUR, "scheduler", 50051, False),
    (LIMITED, PROMETHEUS, "scheduler", 9090, True),
    (LIMITED, PROMETHEUS, "scheduler", 50051, False),
    # the storage: the replicas always, and clients, who may go past them
    (LIMITED, "scheduler", "storage", 50051, True),
    (LIMITED, BOT, "storage", 50051, True),
    (LIMITED, STRANGER, "storage", 50051, False),
    (LIMITED, OPERATOR, "storage", 50051, False),
    (LIMITED, "storage", "scheduler", 50051, False),
    # bots of fleets, in the namespaces that may have some
    (LIMITED, FLEETS, "scheduler", 50051, True),
    (LIMITED, FLEETS, "storage", 50051, True),
    (LIMITED, FLEETS_IN_POOLS, "scheduler", 50051, False),
    (SHARED, FLEETS, "scheduler", 50051, True),
    (SHARED, FLEETS_IN_POOLS, "scheduler", 50051, True),
    (SHARED, FLEETS_IN_POOLS, "storage", 50051, True),
    (SHARED, FLEETS_ELSEWHERE, "scheduler", 50051, False),
    (SHARED, FLEETS_ELSEWHERE, "storage", 50051, False),
    (SHARED, STRANGER, "scheduler", 50051, False),
    (OF_ALL, FLEETS, "scheduler", 50051, True),
    (OF_ALL, FLEETS_ELSEWHERE, "scheduler", 50051, True),
    (OF_ALL, FLEETS_ELSEWHERE, "storage", 50051, True),
    (OF_ALL, STRANGER, "scheduler", 50051, False),
    (OPEN, FLEETS_ELSEWHERE, "scheduler", 50051, True),
    (LIMITED_BEHIND_TLS, FLEETS, "scheduler", 50051, True),
    (LIMITED_BEHIND_TLS, FLEETS, "storage", 50051, False),
    (BEHIND_TLS, FLEETS, "scheduler", 50052, False),
    # behind TLS nobody goes past the replicas
    (BEHIND_TLS, STRANGER, "scheduler", 50051, True),
    (BEHIND_TLS, "scheduler", "storage", 50051, True),
    (BEHIND_TLS, BOT, "storage", 50051, False),
    (BEHIND_TLS, INTERNET, "storage", 50051, False),
    # the operator's own port, where all others need a certificate
    (BEHIND_TLS, OPERATOR, "scheduler", 50052, True),
    (BEHIND_TLS, NEIGHBOUR, "scheduler", 50052, False),
    (BEHIND_TLS, STRANGER, "scheduler", 50052, False),
    (BEHIND_TLS, PROMETHEUS, "scheduler", 50052, False),
    (BEHIND_TLS, INTERNET, "scheduler", 50052, False),
    (OPEN, OPERATOR, "scheduler", 50052, False),
    # switched off
    (OFF, STRANGER, "scheduler", 50051, True),
    (OFF, INTERNET, "storage", 9090, True),
]


@pytest.mark.parametrize(("given", "caller", "target", "port", "expected"), FLOWS)
def test_a_connection_comes_through_or_not(
    given: Inputs, caller: Caller | str, target: str, port: int, expected: bool
) -> None:
    assert allowed(given, caller, target, port) is expected


def test_two_schedulers_in_one_namespace_do_not_reach_each_others_storage() -> None:
    ours = inputs(scheduler("ours", networkPolicy={"clients": CLIENTS}))
    theirs = pod_of(inputs(scheduler("theirs")), "scheduler")
    assert allowed(ours, "scheduler", "storage", 50051) and not allowed(ours, theirs, "storage", 50051)


def test_there_is_a_policy_for_each_kind_of_pod_unless_they_are_switched_off() -> None:
    assert kinds(build(OPEN)).count("NetworkPolicy") == 2
    remote = inputs(scheduler(storage={"remote": {"endpoint": "grpc://cas:50051"}}))
    assert kinds(build(remote)).count("NetworkPolicy") == 1
    assert "NetworkPolicy" not in kinds(build(OFF))


def test_where_pods_go_out_to_is_not_limited() -> None:
    for obj in build(LIMITED).objects:
        if obj["kind"] == "NetworkPolicy":
            assert obj["spec"]["policyTypes"] == ["Ingress"]
