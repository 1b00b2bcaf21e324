"""Which nodes are about to go, and which bots somebody else ends."""

from typing import Any

import pytest
from buildgrid_operator.fleets.disruption import disrupted_bots, unavailable_nodes

from tests.unit.operator.fleets.seen import fleet_view, mark, seen_pod, session

EVICTED = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}


def node(name: str = "n", taints: list[str] | None = None, **spec: Any) -> dict[str, Any]:
    told = {"taints": [{"key": key, "effect": "NoSchedule"} for key in taints]} if taints else {}
    return {"metadata": {"name": name}, "spec": {**spec, **told}}


@pytest.mark.parametrize(
    "going",
    [
        node(unschedulable=True),
        node(taints=["ToBeDeletedByClusterAutoscaler"]),
        node(taints=["karpenter.sh/disrupted"]),
        node(taints=["karpenter.sh/disruption"]),
        node(taints=["node.kubernetes.io/out-of-service"]),
        {"metadata": {"name": "n", "deletionTimestamp": "2026-11-24T12:00:00Z"}},
    ],
    ids=["cordoned", "autoscaler", "Karpenter", "older Karpenter", "out of service", "deleted"],
)
def test_nodes_that_go(going: dict[str, Any]) -> None:
    assert unavailable_nodes([going, node("other")]) == {"n"}


def test_nodes_that_stay() -> None:
    kept = [node("a"), node("b", taints=["dedicated", "DeletionCandidateOfClusterAutoscaler"])]
    kept.append(node("c", taints=["node.kubernetes.io/not-ready"]))
    kept.append({"metadata": {"name": "d"}})
    assert unavailable_nodes(kept) == frozenset()


def test_bots_of_such_nodes_and_those_that_somebody_ends_are_disrupted() -> None:
    view = fleet_view(
        seen_pod(1, node="gone"),
        seen_pod(2, node="stays"),
        seen_pod(3, node="stays", ending=True),
        seen_pod(4, node="stays", deleted=True),
        seen_pod(5, node="stays", conditions=[EVICTED]),
        seen_pod(6, node="gone", phase="Failed"),
        seen_pod(7, node=None, phase="Pending"),
        unavailable=["gone"],
    )
    assert disrupted_bots(view) == ["linux-1", "linux-3", "linux-5"]


def test_a_pod_that_ends_with_our_mark_and_without_work_was_deleted_by_us() -> None:
    """By this operator before a restart, or by one before it."""
    idle = fleet_view(seen_pod(ending=True), session(), mark())
    busy = fleet_view(seen_pod(ending=True), session(leases=1), mark(leases=1))
    assert disrupted_bots(idle) == []
    assert disrupted_bots(busy) == ["linux-1"]
