"""Who reaches whom with the chart's NetworkPolicies and those of its Scheduler."""

import pytest
from buildgrid_operator.desired import build
from buildgrid_operator.desired.bots import FleetInputs, bot_pod, fleet_objects

from tests.unit.charts.rendering import NAMESPACE, Json, find, needs_helm, rendered
from tests.unit.operator.desired.bots.cases import fleet_inputs
from tests.unit.operator.desired.cases import changed, inputs
from tests.unit.operator.desired.flows import Outside, Pod, is_allowed

pytestmark = needs_helm


def _pod(kind: str, name: str) -> Pod:
    labels = find(rendered("defaults"), kind, name)["spec"]["template"]["metadata"]["labels"]
    return Pod(NAMESPACE, labels)


def _policies() -> list[Json]:
    scheduler = find(rendered("defaults"), "Scheduler", "demo-buildgrid")
    made = (*build(inputs(scheduler)).objects, *fleet_objects(_of_bots()))
    return [obj for obj in (*rendered("defaults"), *made) if obj["kind"] == "NetworkPolicy"]


def _of_scheduler(kind: str, name: str, namespace: str = NAMESPACE) -> Pod:
    scheduler = find(rendered("defaults"), "Scheduler", "demo-buildgrid")
    owner = find(list(build(inputs(scheduler)).objects), kind, name)
    return Pod(namespace, owner["spec"]["template"]["metadata"]["labels"])


def _of_bots() -> FleetInputs:
    found = rendered("defaults")
    fleet = changed(find(found, "BotFleet", "demo-buildgrid"), {"metadata.uid": "5d2c0f6e"})
    return fleet_inputs(fleet, find(found, "Scheduler", "demo-buildgrid"))


FLOWS = [
    ("replica", "postgresql", 5432, True),
    ("bot", "postgresql", 5432, False),
    ("operator", "postgresql", 5432, False),
    ("storage", "postgresql", 5432, False),
    ("stranger", "postgresql", 5432, False),
    ("replica elsewhere", "postgresql", 5432, False),
    ("outside", "postgresql", 5432, False),
    ("replica", "postgresql", 22, False),
    ("stranger", "operator", 8080, True),
    ("outside", "operator", 8080, False),
    ("stranger", "operator", 22, False),
    ("stranger", "bot", 50051, False),
    ("replica", "bot", 50051, False),
    ("operator", "bot", 50051, False),
    ("bot", "bot", 50051, False),
    ("bot", "storage", 50051, True),
    ("bot", "replica", 50051, True),
    ("operator", "replica", 50051, True),
    ("outside", "replica", 50051, True),
]


@pytest.mark.parametrize(("caller", "target", "port", "allowed"), FLOWS)
def test_a_connection_comes_through_or_not(caller: str, target: str, port: int, allowed: bool) -> None:
    places: dict[str, Pod | Outside] = {
        "replica": _of_scheduler("Deployment", "demo-buildgrid-scheduler"),
        "replica elsewhere": _of_scheduler("Deployment", "demo-buildgrid-scheduler", "elsewhere"),
        "storage": _of_scheduler("StatefulSet", "demo-buildgrid-storage"),
        "operator": _pod("Deployment", "demo-buildgrid-operator"),
        "bot": Pod(NAMESPACE, bot_pod(_of_bots(), 1)["metadata"]["labels"]),
        "postgresql": _pod("StatefulSet", "demo-buildgrid-postgresql"),
        "stranger": Pod("elsewhere", {"app": "stranger"}),
        "outside": Outside("203.0.113.9"),
    }
    to = places[target]
    assert isinstance(to, Pod)
    assert is_allowed(_policies(), places[caller], to, port) == allowed


@pytest.mark.parametrize(
    ("values", "namespace", "allowed"),
    [
        ("everything", "keda", True),
        ("everything", "autoscaling", True),
        ("everything", "elsewhere", False),
        ("defaults", "keda", False),
    ],
)
def test_who_may_ask_how_many_bots_are_needed(values: str, namespace: str, allowed: bool) -> None:
    found = rendered(values)
    policies = [obj for obj in found if obj["kind"] == "NetworkPolicy"]
    labels = find(found, "Deployment", "demo-buildgrid-operator")["spec"]["template"]["metadata"]["labels"]
    assert is_allowed(policies, Pod(namespace, {"app": "keda"}), Pod(NAMESPACE, labels), 9090) == allowed


def test_the_postgresql_opens_no_connection() -> None:
    policy = find(rendered("defaults"), "NetworkPolicy", "demo-buildgrid-postgresql")["spec"]
    assert "Egress" in policy["policyTypes"]
    assert "egress" not in policy


def test_no_list_is_empty() -> None:
    """Applied on the server a second time, an empty list is gone, and the object has changed."""
    for obj in rendered("defaults"):
        if obj["kind"] == "NetworkPolicy":
            assert [] not in obj["spec"].values()
