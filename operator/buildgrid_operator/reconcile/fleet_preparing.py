"""What is needed of a BotFleet before it is planned for: its objects are there, its bots are seen."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from buildgrid_operator.api import BotFleet, Scheduler
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.errors import AlreadyExists, ClusterError
from buildgrid_operator.cluster.fleet_state import FleetState, Requirement
from buildgrid_operator.cluster.kinds import Manifest
from buildgrid_operator.desired import Settings
from buildgrid_operator.desired.bots import (
    FleetInputs,
    bot_pod,
    bot_template_hash,
    check,
    fleet_objects,
    notices,
    resolve_bot_image,
)
from buildgrid_operator.desired.bots.names import pod_prefix
from buildgrid_operator.fleets.bots import bot_views, mark_owner
from buildgrid_operator.fleets.matching import Serving, offer_of
from buildgrid_operator.fleets.pods import pod_view
from buildgrid_operator.fleets.starting import remember
from buildgrid_operator.fleets.views import FleetView
from buildgrid_operator.reconcile.apply_set import ApplySet
from buildgrid_operator.reconcile.cache import Cache
from buildgrid_operator.reconcile.farm_memory import FleetMemory, Refused
from buildgrid_operator.reconcile.farm_reading import ReadFleet
from buildgrid_operator.reconcile.refusals import refusal_of
from buildgrid_operator.status.scheduler_conditions import Refusal

_log = logging.getLogger(__name__)
_DIGITS = 10
"""of a number in a bot's name; one that a person wrote may have more"""
CHECKED_AGAIN = timedelta(seconds=30)
"""after the API server did not take a pod in a dry run: a quota, or a webhook, may have changed"""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A BotFleet that can be planned for."""

    read: ReadFleet
    fleet: BotFleet
    inputs: FleetInputs
    view: FleetView
    memory: FleetMemory
    owner: str
    """of its marks"""
    serving: Serving
    measured: tuple[timedelta, ...] = ()
    """how long starts took that were seen to end in this pass"""
    refusals: tuple[Refusal, ...] = ()
    notes: tuple[str, ...] = ()
    """what is as it was asked for, and may not be what is meant"""

    @property
    def start_before(self) -> timedelta | None:
        """The start time that was measured before the operator began."""
        seconds = self.fleet.status.start_seconds
        return None if seconds is None else timedelta(seconds=seconds)

    def serves(self, requirement: Requirement) -> bool:
        """Whether its bots may take jobs that require this."""
        here = requirement.instance == self.read.instance
        return here and self.serving.serves(offer_of(self.fleet.spec), requirement)

    def make(self, number: int) -> Manifest:
        """The pod of a number."""
        return bot_pod(self.inputs, number)


class FleetPreparing:
    """Synchronous; several threads may use it, each for another fleet."""

    def __init__(
        self,
        client: Client,
        cache: Cache,
        settings: Callable[[], Settings],
        cluster_uid: Callable[[], str],
    ) -> None:
        self._client = client
        self._cache = cache
        self._settings = settings
        self._cluster_uid = cluster_uid
        self._objects = ApplySet(client)

    def prepare(
        self,
        read: ReadFleet,
        fleet: BotFleet,
        scheduler: Scheduler,
        serving: Serving,
        state: FleetState | None,
        nodes: frozenset[str],
        memory: FleetMemory,
        now: datetime,
        *,
        fresh: bool,
    ) -> Prepared:
        """`fresh`: whether the state is that of now. Raises InvalidSpec for what shows only here, and the
        ClusterError of what may go well later.
        """
        settings, cluster = self._settings(), self._cluster_uid()
        inputs = FleetInputs(fleet, scheduler, resolve_bot_image(fleet, settings), settings, cluster)
        check(inputs)
        report = self._objects.apply(
            fleet_objects(inputs), self._cache.children(read.ref), owner_uid=read.uid
        )
        for live in report.live.values():
            self._cache.put(live)
        refusals = [refusal_of(failure) for failure in report.failures]
        view = self._look(read, inputs, state, nodes, memory, now, fresh=fresh)
        _count(memory, fleet, view, state)
        if not report.blocked:
            self._check(read, inputs, view.template_hash, memory, now)
        before = memory.starts.starts
        memory.starts = remember(memory.starts, view, now, newest=memory.next_number - 1)
        return Prepared(
            read,
            fleet,
            inputs,
            view,
            memory,
            mark_owner(cluster, read.uid),
            serving,
            measured=tuple(memory.starts.starts[len(before) :]),
            refusals=tuple(refusals),
            notes=tuple(str(notice) for notice in notices(inputs)),
        )

    def forget(self, uid: str) -> None:
        """The fleet is gone."""
        self._objects.forget(uid)

    def _look(
        self,
        read: ReadFleet,
        inputs: FleetInputs,
        state: FleetState | None,
        nodes: frozenset[str],
        memory: FleetMemory,
        now: datetime,
        *,
        fresh: bool,
    ) -> FleetView:
        pods = [
            pod
            for pod in self._cache.pods(read.ref)
            if any(owner["uid"] == read.uid for owner in pod["metadata"].get("ownerReferences") or ())
        ]
        memory.ended &= {pod["metadata"]["uid"] for pod in pods}
        seen = [view for pod in pods if (view := pod_view(pod, ended_uids=memory.ended)) is not None]
        bots, orphaned = bot_views(
            seen,
            state,
            fleet_uid=read.uid,
            cluster_uid=inputs.cluster_uid,
            instance=read.instance,
            registered=memory.starts.registered,
            since=memory.starts.since,
            now=now,
            fresh=fresh,
        )
        return FleetView(
            inputs.fleet,
            bot_template_hash(inputs),
            bots,
            orphaned,
            nodes,
            instance=read.instance,
        )

    def _check(
        self,
        read: ReadFleet,
        inputs: FleetInputs,
        template_hash: str,
        memory: FleetMemory,
        now: datetime,
    ) -> None:
        """Ask the API server whether it takes the pods, also while none is needed."""
        refused = memory.refusal
        if memory.checked == template_hash:
            memory.refusal = None  # another template's, which is not wanted any more
            return
        if refused is not None and refused.template_hash == template_hash and now < refused.again_at:
            return
        sent = bot_pod(inputs, memory.next_number)
        try:
            words = _altered(sent, self._client.create(sent, dry_run=True))
            if words is not None:
                memory.refusal = Refused(template_hash, words, now + CHECKED_AGAIN)
                return
        except AlreadyExists:
            pass
        except ClusterError as error:
            if error.transient:
                # It says nothing of the pod, and is asked again in the next pass.
                _log.warning("%s: %s", read.ref, error)
                return
            memory.refusal = Refused(template_hash, str(error), now + CHECKED_AGAIN)
            return
        memory.checked, memory.refusal = template_hash, None


def _altered(sent: Manifest, made: Manifest) -> str | None:
    """What admission must leave as it is, or the operator does not find its pods again; None: it does."""
    before, after = sent["metadata"], made["metadata"]
    for key, value in before["labels"].items():
        if (after.get("labels") or {}).get(key) != value:
            return f"admission changes the label {key} of the pods; except this namespace in the webhook"
    if before["ownerReferences"] != after.get("ownerReferences"):
        return "admission changes the owner of the pods; except this namespace in the webhook"
    return None


def _count(memory: FleetMemory, fleet: BotFleet, view: FleetView, state: FleetState | None) -> None:
    """The next number is above all that are, and were, in use: by pods, marks and sessions."""
    known = state or FleetState()
    prefix = pod_prefix(fleet.metadata)
    bots = (*(mark.bot_id for mark in known.marks), *(session.bot_id for session in known.sessions))
    named = [bot.removeprefix(prefix) for bot in bots if bot.startswith(prefix)]
    used = [
        fleet.status.created_bots,
        *(bot.pod.number for bot in view.bots),
        *(int(each) for each in named if each.isascii() and each.isdecimal() and len(each) < _DIGITS),
    ]
    memory.next_number = max(memory.next_number, *(number + 1 for number in used))
