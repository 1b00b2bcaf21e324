"""From a Scheduler and what is known around it to the objects that should exist. Writes nothing."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from buildgrid_operator.api import InvalidSpec, PropertySet, Scheduler
from buildgrid_operator.api.resource import Metadata
from buildgrid_operator.api.status import PropertySetInForce, SchedulerStatus
from buildgrid_operator.cluster.fleet import FleetError, FleetSource
from buildgrid_operator.cluster.fleet_state import FleetState
from buildgrid_operator.cluster.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    PROPERTY_SET,
    SCHEDULER,
    Manifest,
    ObjectRef,
)
from buildgrid_operator.desired import (
    Bundle,
    ClusterTokens,
    Images,
    Inputs,
    Settings,
    build,
    names,
    resolve_images,
)
from buildgrid_operator.desired.auth import checks_operator
from buildgrid_operator.desired.config import property_set_in
from buildgrid_operator.desired.endpoints import fleet_address
from buildgrid_operator.desired.images import with_registry
from buildgrid_operator.reconcile.cache import Cache
from buildgrid_operator.reconcile.holding import Hold, InForce, Section, hold_of, in_force
from buildgrid_operator.reconcile.reading import is_autoscaled
from buildgrid_operator.reconcile.recollection import Recollection
from buildgrid_operator.reconcile.upgrades import Upgrades, runs_own_image
from buildgrid_operator.status.scheduler_conditions import reference_missing
from buildgrid_operator.status.workload import Workload, workload_of

_FIELD = "spec.propertySetRef.name"
Children = Mapping[ObjectRef, Manifest]


class Asked:
    """The answer of the replicas, which are asked once in a pass, if at all."""

    def __init__(self, ask: Callable[[], FleetState]) -> None:
        self._ask = ask
        self._answer: FleetState | FleetError | None = None

    def __call__(self) -> FleetState:
        """Their state. Raises FleetError."""
        if self._answer is None:
            try:
                self._answer = self._ask()
            except FleetError as error:
                self._answer = error
        if isinstance(self._answer, FleetError):
            raise self._answer
        return self._answer


@dataclass(frozen=True, slots=True)
class Plan:
    """What should be. `bundle` None: nothing can be made yet."""

    bundle: Bundle | None
    images: Images
    fleet: Asked
    missing: tuple[str, ...] = ()
    hold: Hold | None = None
    property_set: PropertySetInForce | None = None
    """which one the configuration has; None with a hold: the one before"""
    waits_for_turn: bool = False
    """a newer image waits until another Scheduler has it"""


@dataclass(frozen=True, slots=True)
class _Found:
    """The PropertySet that a Scheduler refers to, as far as it can be used."""

    property_set: PropertySet | None = None
    missing: tuple[str, ...] = ()


class Planner:
    """Makes plans; called from threads."""

    def __init__(
        self,
        cache: Cache,
        settings: Callable[[], Settings],
        tokens: Callable[[], ClusterTokens | None],
        fleet: FleetSource,
        upgrades: Upgrades,
    ) -> None:
        self._cache = cache
        self._settings = settings
        self._tokens = tokens
        self._fleet = fleet
        self._upgrades = upgrades
        self._before: Recollection[Manifest | None, InForce | None] = Recollection(in_force)
        self._sets: Recollection[Manifest, PropertySet] = Recollection(PropertySet.parse)
        self._bundles: Recollection[Inputs, Bundle] = Recollection(build)
        self._sections: Recollection[str, Section | None] = Recollection(property_set_in)

    def forget(self, ref: ObjectRef) -> None:
        """The Scheduler is gone."""
        for each in (self._before, self._sets, self._bundles, self._sections):
            each.forget(ref)

    def plan(self, ref: ObjectRef, scheduler: Scheduler, children: Children) -> Plan:
        """The plan for a Scheduler, whose objects are `children`. Raises InvalidSpec, ClusterError."""
        settings = self._settings()
        deployment = children.get(
            ObjectRef(DEPLOYMENT, ref.namespace, names.scheduler_name(scheduler.metadata))
        )
        may_upgrade = self._may_upgrade(ref, scheduler, settings)
        images = resolve_images(scheduler.spec, scheduler.status, settings, may_upgrade=may_upgrade)
        config = ObjectRef(CONFIG_MAP, ref.namespace, names.config_name(scheduler.metadata))
        before = self._before.of(ref, children.get(config))
        found = self._find_property_set(ref, scheduler)
        inputs = Inputs(
            _as_built(scheduler),
            images,
            settings,
            property_set=None if found.property_set is None else found.property_set.spec,
            held_property_set=before.as_held if found.missing and before is not None else None,
            tokens=self._tokens() if checks_operator(scheduler.spec) else None,
            autoscaled=is_autoscaled(deployment),
        )
        asked = Asked(lambda: self._fleet(fleet_address(scheduler, settings.cluster_domain)))
        if found.missing and before is None:
            return Plan(None, images, asked, found.missing, waits_for_turn=not may_upgrade)
        bundle = self._bundles.of(ref, inputs)
        hold = None
        if not found.missing:
            hold = self._hold(ref, scheduler, bundle, before, found, asked, deployment)
        if hold is not None and before is not None:
            bundle = build(replace(inputs, held_property_set=before.as_held))
        return Plan(
            bundle,
            images,
            asked,
            found.missing,
            hold,
            None if hold is not None or found.missing else _told(found.property_set),
            waits_for_turn=not may_upgrade,
        )

    def state_of(self, ref: ObjectRef, endpoint: str | None) -> FleetState | None:
        """What the replicas of a Scheduler tell; None when they do not.

        `endpoint`: where its status says that they are; None: there were none yet.
        """
        obj = self._cache.get(ref)
        if endpoint is None or obj is None:
            return None
        try:
            return self._fleet(fleet_address(Scheduler.parse(obj), self._settings().cluster_domain))
        except (FleetError, InvalidSpec):
            return None

    def _hold(
        self,
        ref: ObjectRef,
        scheduler: Scheduler,
        bundle: Bundle,
        before: InForce | None,
        found: _Found,
        asked: Asked,
        deployment: Manifest | None,
    ) -> Hold | None:
        metadata = scheduler.metadata
        edited = metadata if found.property_set is None else found.property_set.metadata
        return hold_of(
            before,
            self._sections.of(ref, bundle.config_text),
            generation=edited.generation,
            annotations=metadata.annotations,
            served=has_served(scheduler, deployment),
            ask=asked,
        )

    def _find_property_set(self, ref: ObjectRef, scheduler: Scheduler) -> _Found:
        reference = scheduler.spec.property_set_ref
        if reference is None:
            return _Found()
        obj = self._cache.get(ObjectRef(PROPERTY_SET, ref.namespace, reference.name))
        if obj is None:
            return _Found(missing=(reference_missing("PropertySet", reference.name, _FIELD),))
        try:
            return _Found(self._sets.of(ref, obj))
        except InvalidSpec as error:
            words = "; ".join(str(problem) for problem in error.problems)
            return _Found(missing=(f"the PropertySet {reference.name} cannot be used: {words}",))

    def _may_upgrade(self, ref: ObjectRef, scheduler: Scheduler, settings: Settings) -> bool:
        own = with_registry(settings.scheduler_image, settings.image_registry)
        if scheduler.spec.upgrade_policy != "Automatic" or scheduler.status.image in (None, own):
            return True
        return self._upgrades.may(ref, scheduler, self._upgraded(settings))

    def _upgraded(self, settings: Settings) -> Iterator[tuple[ObjectRef, Workload]]:
        for obj in self._cache.all(SCHEDULER):
            try:
                scheduler = Scheduler.parse(obj)
            except InvalidSpec:
                continue
            if runs_own_image(scheduler, settings):
                ref = ObjectRef.of(obj)
                name = names.scheduler_name(scheduler.metadata)
                deployment = self._cache.get(ObjectRef(DEPLOYMENT, ref.namespace, name))
                if deployment is not None:
                    yield ref, workload_of(deployment)


def _as_built(scheduler: Scheduler) -> Scheduler:
    """With what decides which objects there should be, and nothing that changes while they stay as they are.

    The generation is there for edits that Python takes for none: 1 is True.
    """
    owner = scheduler.metadata
    metadata = Metadata(
        name=owner.name, namespace=owner.namespace, uid=owner.uid, generation=owner.generation
    )
    return replace(scheduler, metadata=metadata, status=SchedulerStatus())


def has_served(scheduler: Scheduler, deployment: Manifest | None) -> bool:
    """Whether there are, or were, replicas that could have taken jobs."""
    return scheduler.status.version is not None or (
        deployment is not None and workload_of(deployment).ready > 0
    )


def _told(property_set: PropertySet | None) -> PropertySetInForce:
    if property_set is None:
        return PropertySetInForce(kind="Dynamic")
    return PropertySetInForce(
        name=property_set.metadata.name,
        generation=property_set.metadata.generation,
        kind="Dynamic" if property_set.spec.static is None else "Static",
    )
