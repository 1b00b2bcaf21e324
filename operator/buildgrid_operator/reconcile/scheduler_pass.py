"""The pass of a Scheduler: everything that should be is made so, and what was found is told in its status."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from buildgrid_scheduler.core.clock import Clock, utc_now

from buildgrid_operator.api import InvalidSpec, Scheduler
from buildgrid_operator.api.resource import Metadata
from buildgrid_operator.api.status import SchedulerStatus
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.errors import ClusterError, Conflict, NotFound, PermissionMissing
from buildgrid_operator.cluster.fleet import FleetError
from buildgrid_operator.cluster.fleet_state import FleetState
from buildgrid_operator.cluster.kinds import CONFIG_MAP, DEPLOYMENT, STATEFUL_SET, Kind, Manifest, ObjectRef
from buildgrid_operator.desired import Bundle, names
from buildgrid_operator.desired.rollout import settled
from buildgrid_operator.reconcile import pods as pod_views
from buildgrid_operator.reconcile.announcing import announce
from buildgrid_operator.reconcile.apply_set import ApplySet, Failure, Report
from buildgrid_operator.reconcile.cache import Cache
from buildgrid_operator.reconcile.config_state import config_state
from buildgrid_operator.reconcile.deletion import with_finalizer
from buildgrid_operator.reconcile.planning import Children, Plan, Planner
from buildgrid_operator.reconcile.reading import status_of
from buildgrid_operator.reconcile.recollection import Recollection
from buildgrid_operator.reconcile.refusals import refusal_of
from buildgrid_operator.reconcile.scheduler_deletion import SchedulerDeletion
from buildgrid_operator.reconcile.scheduler_status import status_after
from buildgrid_operator.reconcile.status_writer import StatusWriter, Told
from buildgrid_operator.reconcile.upgrades import Upgrades
from buildgrid_operator.reconcile.work_queue import DONE, GONE, Outcome
from buildgrid_operator.status.conditions import SCHEDULER_CONDITIONS
from buildgrid_operator.status.scheduler_conditions import Refusal, SchedulerFacts, scheduler_verdicts
from buildgrid_operator.status.workload import Trouble, workload_of
from buildgrid_operator.status.writes import SCHEDULER_FIGURES

_log = logging.getLogger(__name__)
SOON = timedelta(seconds=2)
"""until the replicas are asked again whether they have the configuration"""
LATER = timedelta(seconds=10)
"""until something is looked at again that no event tells of, for example how many jobs there are"""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a pass did and found, for the status."""

    facts: SchedulerFacts
    plan: Plan
    fleet: FleetState | None
    again: timedelta | None


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What decides what is to be done to the objects of a Scheduler."""

    uid: str
    objects: tuple[Manifest, ...]
    children: Children


class SchedulerPass:
    """Synchronous; called from threads, for several Schedulers at once."""

    def __init__(
        self,
        client: Client,
        cache: Cache,
        planner: Planner,
        writer: StatusWriter,
        upgrades: Upgrades,
        *,
        blind_spots: Callable[[], tuple[Refusal, ...]] = tuple,
        clock: Clock = utc_now,
    ) -> None:
        """`blind_spots`: what the operator may not watch."""
        self._client = client
        self._cache = cache
        self._planner = planner
        self._writer = writer
        self._upgrades = upgrades
        self._blind_spots = blind_spots
        self._clock = clock
        self._deletion = SchedulerDeletion(client, cache, planner, writer, clock=clock)
        self._objects = ApplySet(client)
        self._uids: dict[ObjectRef, str] = {}
        self._parsed: Recollection[Manifest, Scheduler] = Recollection(Scheduler.parse)
        # Whatever becomes of an object changes `children`, so that it is looked at again.
        self._reports: Recollection[_Wanted, Report] = Recollection(
            self._apply, worth=lambda report: report.at_rest
        )

    def run(self, ref: ObjectRef) -> Outcome:
        """One pass. Raises ClusterError."""
        obj = self._cache.get(ref)
        uid = "" if obj is None else obj["metadata"]["uid"]
        known = self._uids.get(ref)
        if known is not None and known != uid:
            self._forget(ref, known)
        if obj is None:
            return GONE
        self._uids[ref] = uid
        try:
            return self._pass(ref, obj)
        except NotFound as error:
            return self._not_found(ref, uid, error)

    def _pass(self, ref: ObjectRef, obj: Manifest) -> Outcome:
        if obj["metadata"].get("deletionTimestamp"):
            return self._deletion.run(ref, obj)
        try:
            scheduler = self._parsed.of(ref, obj)
            obj = self._finalize(obj, scheduler.spec.deletion.drain)
            children = self._cache.children(ref)
            plan = self._planner.plan(ref, scheduler, children)
        except InvalidSpec as error:
            return self._refuse(obj, error)
        except Conflict:
            return Outcome(again_after=SOON)
        except PermissionMissing as error:
            return self._hold(obj, error)
        return self._reconcile(ref, obj, scheduler, plan, children)

    def _reconcile(
        self, ref: ObjectRef, obj: Manifest, scheduler: Scheduler, plan: Plan, children: Children
    ) -> Outcome:
        if plan.bundle is None:
            facts = SchedulerFacts(missing=plan.missing)
            return self._tell(obj, scheduler, _Seen(facts, plan, None, None))
        report = self._reports.of(ref, _Wanted(obj["metadata"]["uid"], plan.bundle.objects, children))
        seen = self._look(ref, scheduler, plan, plan.bundle, report)
        return self._tell(obj, scheduler, seen)

    def _apply(self, wanted: _Wanted) -> Report:
        objects = []
        for each in wanted.objects:
            ref = ObjectRef.of(each)
            rolls = ref.kind in (DEPLOYMENT, STATEFUL_SET)
            objects.append(settled(each, wanted.children.get(ref)) if rolls else each)
        report = self._objects.apply(objects, wanted.children, owner_uid=wanted.uid)
        for live in report.live.values():
            self._cache.put(live)
        for verb, refs in (
            ("applied", report.applied),
            ("healed", report.healed),
            ("removed", report.pruned),
        ):
            if refs:
                _log.info("%s %s", verb, ", ".join(str(each) for each in refs))
        return report

    def _look(
        self, ref: ObjectRef, scheduler: Scheduler, plan: Plan, bundle: Bundle, report: Report
    ) -> _Seen:
        now, owner = self._clock(), scheduler.metadata
        refusals = [refusal_of(failure) for failure in report.failures]
        all_pods = self._cache.pods(ref)
        replicas = pod_views.of_component(all_pods, names.SCHEDULER)
        storage_pods = pod_views.of_component(all_pods, names.STORAGE)
        if not report.blocked:
            refusals += self._announce(
                owner, bundle, {names.SCHEDULER: replicas, names.STORAGE: storage_pods}
            )
        refusals += self._blind_spots()
        workload = workload_of(self._child(DEPLOYMENT, owner.namespace, names.scheduler_name(owner)))
        if workload.settled:
            self._upgrades.ended(ref)
        managed = scheduler.spec.storage.managed is not None
        storage_set = self._child(STATEFUL_SET, owner.namespace, names.storage_name(owner))
        troubles, refused = self._troubles([*replicas, *storage_pods], now)
        ready = {pod["metadata"]["name"] for pod in replicas if pod_views.is_ready(pod)}
        state, unreachable = _answer(plan) if ready else (None, None)
        config = config_state(bundle.config_hash, ready, state, unreachable=unreachable, hold=plan.hold)
        facts = SchedulerFacts(
            missing=plan.missing,
            refusals=(*refusals, *refused),
            pods=workload,
            storage=workload_of(storage_set) if managed else None,
            troubles=troubles,
            config=config,
            notes=tuple(str(notice) for notice in bundle.notices),
        )
        return _Seen(facts, plan, state, _again(facts, report, plan))

    def _announce(
        self, owner: Metadata, bundle: Bundle, by_component: dict[str, list[Manifest]]
    ) -> list[Refusal]:
        hashes = {
            names.SCHEDULER: _config_hash(bundle, names.config_name(owner)),
            names.STORAGE: _config_hash(bundle, names.storage_config_name(owner)),
        }
        for component, pods in by_component.items():
            config_hash = hashes[component]
            refusal = announce(self._client, self._cache, pods, config_hash) if config_hash else None
            if refusal is not None:
                return [refusal]
        return []

    def _troubles(
        self, pods: list[Manifest], now: datetime
    ) -> tuple[tuple[Trouble, ...], tuple[Refusal, ...]]:
        try:
            return pod_views.troubles(self._client, pods, now), ()
        except ClusterError as error:
            if error.transient:
                raise
            ref = ObjectRef.of(pods[0])
            refusal = refusal_of(Failure(ref, error))
            return (), (Refusal(refusal.reason, refusal.message, blocking=False),)

    def _tell(self, obj: Manifest, scheduler: Scheduler, seen: _Seen) -> Outcome:
        told = Told(scheduler_verdicts(seen.facts), SCHEDULER_CONDITIONS, SCHEDULER_FIGURES)
        after = status_after(scheduler, seen.plan, seen.facts, seen.fleet)
        generation = scheduler.metadata.generation
        wait = self._writer.write(obj, scheduler.status, after, told, generation)
        waits = [each for each in (wait, seen.again) if each is not None]
        return Outcome(again_after=min(waits)) if waits else DONE

    def _refuse(self, obj: Manifest, error: InvalidSpec) -> Outcome:
        before = status_of(obj, SchedulerStatus)
        facts = SchedulerFacts(problems=tuple(str(problem) for problem in error.problems))
        told = Told(scheduler_verdicts(facts), SCHEDULER_CONDITIONS, SCHEDULER_FIGURES)
        generation = Metadata.model_validate(obj["metadata"]).generation
        wait = self._writer.write(obj, before, before, told, generation)
        return DONE if wait is None else Outcome(again_after=wait)

    def _hold(self, obj: Manifest, error: PermissionMissing) -> Outcome:
        """Without its finalizer, deleting it would not wait for its jobs."""
        before = status_of(obj, SchedulerStatus)
        facts = SchedulerFacts(refusals=(refusal_of(Failure(ObjectRef.of(obj), error)),))
        told = Told(scheduler_verdicts(facts), SCHEDULER_CONDITIONS, SCHEDULER_FIGURES)
        self._writer.write(obj, before, before, told, Metadata.model_validate(obj["metadata"]).generation)
        return Outcome(again_after=LATER)

    def _finalize(self, obj: Manifest, drain: bool) -> Manifest:
        changed = with_finalizer(self._client, obj, drain)
        if changed is not obj:
            self._cache.put(changed)
        return changed

    def _not_found(self, ref: ObjectRef, uid: str, error: NotFound) -> Outcome:
        """The namespace, or the object, went while the pass ran."""
        live = self._client.find(ref.kind, ref.namespace, ref.name)
        if live is not None and live["metadata"]["uid"] == uid:
            raise error
        self._cache.discard(ref, uid)
        return Outcome(again_after=SOON)

    def _forget(self, ref: ObjectRef, uid: str) -> None:
        self._uids.pop(ref, None)
        self._parsed.forget(ref)
        self._reports.forget(ref)
        self._planner.forget(ref)
        self._objects.forget(uid)
        self._writer.forget(uid)
        self._upgrades.ended(ref)

    def _child(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        return self._cache.get(ObjectRef(kind, namespace, name))


def _answer(plan: Plan) -> tuple[FleetState | None, str | None]:
    try:
        return plan.fleet(), None
    except FleetError as error:
        return None, str(error)


def _config_hash(bundle: Bundle, name: str) -> str:
    for obj in bundle.objects:
        if obj["kind"] == CONFIG_MAP.kind and obj["metadata"]["name"] == name:
            return str(obj["metadata"]["annotations"][names.CONFIG_HASH])
    return ""


def _again(facts: SchedulerFacts, report: Report, plan: Plan) -> timedelta | None:
    """When to look again at what no event tells of."""
    config = facts.config
    if (
        config is not None
        and not config.errors
        and config.ready
        and config.unreachable is None
        and config.configured < config.ready
    ):
        return SOON
    waits = report.terminating or report.failures or plan.hold or plan.waits_for_turn or facts.troubles
    unready = facts.pods is not None and facts.pods.ready < facts.pods.wanted
    serving = config is not None and config.ready > 0
    return LATER if waits or unready or serving else None
