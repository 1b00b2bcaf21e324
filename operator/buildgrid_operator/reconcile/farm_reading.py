"""The BotFleets of a Scheduler as they are read: which can be planned for, and why others cannot."""

from collections.abc import Iterable
from dataclasses import dataclass

from buildgrid_operator.api import BotFleet, InvalidSpec, Scheduler
from buildgrid_operator.cluster.kinds import CONFIG_MAP, Manifest, ObjectRef
from buildgrid_operator.desired import names
from buildgrid_operator.desired.bots import instance_of
from buildgrid_operator.fleets.matching import Serving, property_set_of
from buildgrid_operator.fleets.policies import schedule_problems
from buildgrid_operator.reconcile.cache import Cache
from buildgrid_operator.reconcile.deletion import is_held
from buildgrid_operator.reconcile.holding import in_force
from buildgrid_operator.status.scheduler_conditions import Refusal


@dataclass(frozen=True, slots=True)
class ReadFleet:
    """A BotFleet. Without `problems` and `missing` it can be planned for."""

    obj: Manifest
    ref: ObjectRef
    fleet: BotFleet | None = None
    instance: str = ""
    problems: tuple[str, ...] = ()
    """of the spec"""
    missing: str | None = None
    """why there is no Scheduler to work for"""

    refusal: Refusal | None = None
    """what the operator may not do, and must for it"""

    @property
    def unusable(self) -> bool:
        """Whether it cannot be planned for."""
        return bool(self.problems) or self.missing is not None or self.refusal is not None

    @property
    def uid(self) -> str:
        """Its metadata.uid."""
        return str(self.obj["metadata"]["uid"])


@dataclass(frozen=True, slots=True)
class ReadFarm:
    """A Scheduler, as far as its fleets need it."""

    scheduler: Scheduler | None
    serving: Serving | None
    """which bots may take which jobs; None: the scheduler has no configuration yet"""
    missing: str | None = None


def read_farm(cache: Cache, ref: ObjectRef) -> ReadFarm:
    """The Scheduler, and the property set that its replicas have."""
    obj = cache.get(ref)
    if obj is None:
        words = (
            f"the Scheduler {ref.namespace}/{ref.name} does not exist: create it, or make another BotFleet"
        )
        return ReadFarm(None, None, words)
    if obj["metadata"].get("deletionTimestamp") and not is_held(obj):
        # One that waits for its jobs needs its bots until the last one has ended.
        return ReadFarm(None, None, f"the Scheduler {ref.namespace}/{ref.name} is being deleted")
    try:
        scheduler = Scheduler.parse(obj)
    except InvalidSpec as error:
        words = "; ".join(str(problem) for problem in error.problems)
        return ReadFarm(None, None, f"the Scheduler {ref.namespace}/{ref.name} cannot be used: {words}")
    config = ObjectRef(CONFIG_MAP, ref.namespace, names.config_name(scheduler.metadata))
    found = in_force(cache.get(config))
    if found is None:
        words = f"the Scheduler {ref.namespace}/{ref.name} has no configuration yet; see its conditions"
        return ReadFarm(scheduler, None, words)
    return ReadFarm(scheduler, Serving(property_set_of(found.section)))


def read_fleets(fleets: Iterable[Manifest], farm: ReadFarm) -> list[ReadFleet]:
    """Those that are not being deleted, by name."""
    return [_read(obj, farm) for obj in fleets if not obj["metadata"].get("deletionTimestamp")]


def _read(obj: Manifest, farm: ReadFarm) -> ReadFleet:
    ref = ObjectRef.of(obj)
    try:
        fleet = BotFleet.parse(obj)
    except InvalidSpec as error:
        return ReadFleet(obj, ref, problems=tuple(str(problem) for problem in error.problems))
    if problems := schedule_problems(fleet.spec):
        return ReadFleet(obj, ref, fleet, problems=tuple(problems))
    scheduler = farm.scheduler
    if scheduler is None:
        return ReadFleet(obj, ref, fleet, missing=farm.missing)
    return ReadFleet(obj, ref, fleet, instance_of(fleet, scheduler), missing=farm.missing)
