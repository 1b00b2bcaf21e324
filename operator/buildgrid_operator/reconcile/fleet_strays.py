"""Clears the pods of BotFleets that are gone and left them behind: `kubectl delete --cascade=orphan`."""

import logging
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from buildgrid_operator.api import BotFleet, Scheduler
from buildgrid_operator.cluster.fleet_state import FleetState
from buildgrid_operator.cluster.kinds import Manifest
from buildgrid_operator.desired.bots import names
from buildgrid_operator.desired.endpoints import FleetAddress
from buildgrid_operator.fleets.bots import bot_views, mark_owner
from buildgrid_operator.fleets.pods import pod_view
from buildgrid_operator.fleets.starting import remember
from buildgrid_operator.fleets.steps import steps_of
from buildgrid_operator.fleets.strays import clearing
from buildgrid_operator.fleets.views import FleetView
from buildgrid_operator.reconcile.farm_memory import FarmMemory, FleetMemory
from buildgrid_operator.reconcile.fleet_steps import SOON, FleetSteps, Place

_log = logging.getLogger(__name__)


class Stray(NamedTuple):
    """A BotFleet that is gone, as its pods tell of it."""

    namespace: str
    name: str
    uid: str
    instance: str

    @property
    def memory_key(self) -> str:
        """Not the UID: a pod that lost its owner may be of a BotFleet that is there."""
        return f"gone/{self.uid}/{self.instance}"


def strays_of(pods: Iterable[Manifest], scheduler: Scheduler) -> dict[Stray, list[Manifest]]:
    """By fleet; only in namespaces that the Scheduler lets in: a pod's metadata may be anybody's."""
    metadata, allowed = scheduler.metadata, scheduler.spec.allowed_fleet_namespaces
    found: dict[Stray, list[Manifest]] = {}
    for pod in pods:
        namespace = pod["metadata"]["namespace"]
        if namespace == metadata.namespace or "*" in allowed or namespace in allowed:
            told = names.told_by_pod(pod["metadata"])
            found.setdefault(Stray(namespace, *told), []).append(pod)
    return found


class FleetStrays:
    """Synchronous; several threads may use it, each for another Scheduler."""

    def __init__(self, steps: FleetSteps, cluster_uid: Callable[[], str]) -> None:
        self._steps = steps
        self._cluster_uid = cluster_uid

    def clear(
        self,
        stray: Stray,
        pods: Iterable[Manifest],
        address: FleetAddress,
        state: FleetState | None,
        memory: FarmMemory,
        now: datetime,
        *,
        fresh: bool,
        told_at: datetime,
    ) -> timedelta | None:
        """Take the next steps. `fresh`: whether the state is that of now. Returns when to look again, where
        something was done. Raises ClusterError.
        """
        mine = memory.of(stray.memory_key)
        cluster = self._cluster_uid()
        view = _look(stray, pods, state, mine, cluster, now, fresh=fresh)
        mine.starts = remember(mine.starts, view, now)
        plan = clearing(view) if fresh else None
        steps = steps_of(plan, view, drain_timeout=None, now=now, told_at=told_at)
        place = Place(address, stray.instance, mark_owner(cluster, stray.uid))
        done = self._steps.take(steps, view, place, _none_is_made, next_number=0)
        mine.ended |= {deletion.uid for deletion in done.deleted}
        if done.problem is not None:
            _log.warning("%s, which is gone: a step is tried again: %s", view.key, done.problem)
        return SOON if done.problem or done.deleted or done.marked or done.more else None


def _look(
    stray: Stray,
    pods: Iterable[Manifest],
    state: FleetState | None,
    mine: FleetMemory,
    cluster_uid: str,
    now: datetime,
    *,
    fresh: bool,
) -> FleetView:
    found = list(pods)
    mine.ended &= {pod["metadata"]["uid"] for pod in found}
    seen = [view for pod in found if (view := pod_view(pod, ended_uids=mine.ended)) is not None]
    # Marks without a pod are settled with those of all fleets that are gone.
    bots, _ = bot_views(
        seen,
        state,
        fleet_uid=stray.uid,
        cluster_uid=cluster_uid,
        instance=stray.instance,
        registered=mine.starts.registered,
        since=mine.starts.since,
        now=now,
        fresh=fresh,
    )
    fleet = BotFleet.parse(
        {
            "metadata": {"name": stray.name, "namespace": stray.namespace, "uid": stray.uid},
            "spec": {"schedulerRef": {"name": "gone"}},
        }
    )
    return FleetView(fleet, "", bots, instance=stray.instance, gone=True)


def _none_is_made(number: int) -> Manifest:
    raise AssertionError(f"pod {number} of a BotFleet that is gone")
