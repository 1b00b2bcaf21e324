"""Who else ends pods: nodes that go, evictions, people."""

from collections.abc import Iterable, Mapping
from typing import Any

from buildgrid_operator.cluster.kinds import Manifest
from buildgrid_operator.fleets.bots import leases_of
from buildgrid_operator.fleets.views import BotView, FleetView, Phase

_TAINTS = frozenset(
    {
        # cluster-autoscaler, before it takes a node away
        "ToBeDeletedByClusterAutoscaler",
        # Karpenter, and Karpenter before version 1
        "karpenter.sh/disrupted",
        "karpenter.sh/disruption",
        # set by people, when a node is broken or off
        "node.kubernetes.io/out-of-service",
        # while a cordon lasts, and while a node shuts down
        "node.kubernetes.io/unschedulable",
        "node.cloudprovider.kubernetes.io/shutdown",
        # told by node termination handlers of clouds
        "aws-node-termination-handler/spot-itn",
        "aws-node-termination-handler/scheduled-maintenance",
        "cloud.google.com/impending-node-termination",
    }
)
"""Keys of taints on nodes that are about to go, whatever their value and effect."""


def unavailable_nodes(nodes: Iterable[Manifest]) -> frozenset[str]:
    """Names of nodes whose pods should finish and go: cordoned, or about to be taken away."""
    return frozenset(node["metadata"]["name"] for node in nodes if _is_unavailable(node))


def disrupted_bots(view: FleetView) -> list[str]:
    """Names of bots that somebody else ends, or will: what they lose is not the jobs' doing.

    Those that the scheduler has been told of already are among them.
    """
    return [each.pod.name for each in view.bots if is_disrupted(each, view)]


def is_disrupted(bot: BotView, view: FleetView) -> bool:
    """Whether somebody else ends it, or will."""
    pod = bot.pod
    if pod.phase is Phase.ENDED:
        return pod.disrupted
    if pod.ending:
        # What an operator deletes has its mark, and no lease any more.
        return not pod.deleted and (not bot.own_mark or leases_of(bot) > 0)
    return pod.disrupted or (pod.node is not None and pod.node in view.unavailable_nodes)


def _is_unavailable(node: Mapping[str, Any]) -> bool:
    spec = node.get("spec") or {}
    if node["metadata"].get("deletionTimestamp") or spec.get("unschedulable"):
        return True
    return any(taint.get("key") in _TAINTS for taint in spec.get("taints") or ())
