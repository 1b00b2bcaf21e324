"""Takes the steps of a fleet: marks, deletes, new pods, and whom nobody may evict. Each may be taken twice.

What fails is told and left: the next pass sees how far things are, and goes on from there.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.errors import AlreadyExists, ClusterError, Conflict, NotFound
from buildgrid_operator.cluster.fleet import FleetClient, FleetError
from buildgrid_operator.cluster.fleet_state import Mark
from buildgrid_operator.cluster.kinds import POD, Manifest, ObjectRef
from buildgrid_operator.desired.bots.names import PROTECTED, PROTECTED_LABEL, fleet_uid_of
from buildgrid_operator.desired.endpoints import FleetAddress
from buildgrid_operator.fleets.pods import pod_view
from buildgrid_operator.fleets.protection import Protection
from buildgrid_operator.fleets.steps import Deletion, Steps, deletions_after
from buildgrid_operator.fleets.views import FleetView, Phase
from buildgrid_operator.reconcile.cache import Cache

_log = logging.getLogger(__name__)
MOST_CREATES = 100
"""in a pass: other fleets of the Scheduler have their turn then"""
MOST_PROTECTIONS = 100
"""in a pass, likewise"""
LAST_GRACE = timedelta(seconds=30)
"""of a pod that is deleted here: it is marked and has no action, or its time to drain is over and what it
runs is run elsewhere. As long as an action may run, which is for deletes by others, it would stay when its
program is so young that it does not hear of the signal"""
SOON = timedelta(seconds=2)
"""until it is looked again after a step was taken, or could not be"""
_NAMES_TRIED = 16


@dataclass(frozen=True, slots=True)
class Place:
    """Where a fleet's bots are known."""

    address: FleetAddress
    instance: str
    owner: str
    """of the fleet's marks"""


@dataclass(slots=True)
class Done:
    """What was done of the steps."""

    created: int = 0
    next_number: int = 0
    deleted: list[Deletion] = field(default_factory=list)
    marked: int = 0
    refusal: ClusterError | None = None
    """why the API server does not take a pod"""
    problem: str | None = None
    """why a step was not taken: it is tried again"""
    more: bool = False
    """not all pods were made, or protected, yet"""


class FleetSteps:
    """Synchronous; several threads may use it, each for another Scheduler."""

    def __init__(self, client: Client, cache: Cache, fleet: FleetClient) -> None:
        self._client = client
        self._cache = cache
        self._fleet = fleet

    def take(
        self,
        steps: Steps,
        view: FleetView,
        place: Place,
        make: Callable[[int], Manifest],
        next_number: int,
    ) -> Done:
        """`make` makes the pod of a number; `next_number` is the first one that was never used."""
        done = Done(next_number=next_number)
        deletions = list(steps.delete)
        try:
            deletions += self._mark(steps, view, place, done)
        except FleetError as error:
            done.problem = str(error)
        for deletion in deletions:
            # Whose loss the scheduler could not be told of would count as the job's.
            if not deletion.interrupts or done.problem is None:
                self._delete(view, deletion, done)
        self._create(min(steps.create, MOST_CREATES), view, make, done)
        gone = {deletion.uid for deletion in deletions}
        protections = [each for each in steps.protections if each.uid not in gone]
        for protection in protections[:MOST_PROTECTIONS]:
            if done.problem is None:
                self._protect(view, protection, done)
        more = steps.create > MOST_CREATES and done.refusal is None
        done.more = (more or len(protections) > MOST_PROTECTIONS) and done.problem is None
        return done

    def settle(self, address: FleetAddress, strays: Sequence[Mark]) -> None:
        """Take away marks of fleets that are gone. What fails is tried again in the next pass."""
        for instance, owner in sorted({(mark.instance, mark.owner) for mark in strays}):
            bots = [mark.bot_id for mark in strays if (mark.instance, mark.owner) == (instance, owner)]
            try:
                self._fleet.undrain(address, instance, bots, owner)
            except FleetError as error:
                _log.warning("marks of bots that are gone stay: %s", error)
                return
            _log.info("marks of %d bots that are gone were taken away", len(bots))

    def _mark(self, steps: Steps, view: FleetView, place: Place, done: Done) -> Sequence[Deletion]:
        """Raises FleetError: the rest is left."""
        fleet, known = self._fleet, (place.address, place.instance)
        if steps.undrain or steps.settle:
            # One that has become idle since may be about to be deleted: it keeps its mark.
            fleet.undrain(*known, steps.undrain, place.owner, busy_only=True)
            fleet.undrain(*known, steps.settle, place.owner)
        if steps.drain_disrupted:
            fleet.drain_when_idle(*known, steps.drain_disrupted, place.owner, disrupted=True)
        if steps.drain_when_idle:
            fleet.drain_when_idle(*known, steps.drain_when_idle, place.owner, disrupted=False)
        done.marked = len(steps.drain_disrupted) + len(steps.drain_when_idle)
        if not steps.drain_if_idle:
            return ()
        marked = fleet.drain_if_idle(*known, steps.drain_if_idle, place.owner)
        done.marked += len(marked)
        return deletions_after(marked, view)

    def _delete(self, view: FleetView, deletion: Deletion, done: Done) -> None:
        ref = ObjectRef(POD, view.fleet.metadata.namespace, deletion.name)
        try:
            if not self._client.delete(ref, uid=deletion.uid, grace=LAST_GRACE):
                self._cache.discard(ref, deletion.uid)
        except Conflict:
            # It is gone, and something else has its name.
            self._cache.discard(ref, deletion.uid)
        except ClusterError as error:
            done.problem = str(error)
            return
        _log.info("deleted %s: %s", ref, deletion.why)
        done.deleted.append(deletion)

    def _protect(self, view: FleetView, protection: Protection, done: Done) -> None:
        ref = ObjectRef(POD, view.fleet.metadata.namespace, protection.name)
        labels = {PROTECTED_LABEL: PROTECTED if protection.protected else None}
        try:
            self._cache.put(
                self._client.patch_merge(ref, {"metadata": {"uid": protection.uid, "labels": labels}})
            )
        except NotFound:
            self._cache.discard(ref, protection.uid)
        except ClusterError as error:
            done.problem = str(error)
            return
        _log.info("%s %s be evicted", ref, "may not" if protection.protected else "may")

    def _create(self, count: int, view: FleetView, make: Callable[[int], Manifest], done: Done) -> None:
        tried = 0
        while done.created < count and tried < count + _NAMES_TRIED:
            tried += 1
            pod = make(done.next_number)
            try:
                self._cache.put(self._client.create(pod))
            except AlreadyExists:
                # Another operator made it, which is about to end, or an answer to us was lost.
                try:
                    there = self._is_there(ObjectRef.of(pod), view)
                except ClusterError as error:
                    done.problem = str(error)
                    break
                done.next_number += 1
                done.created += there
                continue
            except ClusterError as error:
                if error.transient:
                    done.problem = str(error)
                else:
                    done.refusal = error
                break
            done.next_number += 1
            done.created += 1
        if done.created:
            _log.info("made %d pods of %s", done.created, view.key)

    def _is_there(self, ref: ObjectRef, view: FleetView) -> bool:
        """Whether the pod that exists already is one of the fleet's that will do. Raises ClusterError."""
        found = self._client.find(ref.kind, ref.namespace, ref.name)
        if found is None or fleet_uid_of(found["metadata"]) != view.fleet.metadata.uid:
            return False
        self._cache.put(found)
        seen = pod_view(found)
        return seen is not None and not seen.ending and seen.phase is not Phase.ENDED
