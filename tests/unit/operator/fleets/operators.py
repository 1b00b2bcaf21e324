"""An operator that is cut off at any step, loses answers, forgets, and is told to do anything.

It takes its steps as the real one does.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any

from buildgrid_operator.cluster.errors import AlreadyExists, NotFound, Unreachable
from buildgrid_operator.cluster.fleet import FleetUnreachable
from buildgrid_operator.cluster.fleet_state import FleetState
from buildgrid_operator.cluster.kinds import Kind, ObjectRef
from buildgrid_operator.desired.bots import names
from buildgrid_operator.desired.endpoints import FleetAddress
from buildgrid_operator.fleets.bots import Situation, bot_views, situation_of
from buildgrid_operator.fleets.farm import farm_of
from buildgrid_operator.fleets.matching import Serving, property_set_of
from buildgrid_operator.fleets.pods import pod_view
from buildgrid_operator.fleets.starting import StartMemory, held, remember
from buildgrid_operator.fleets.steps import Steps, steps_of
from buildgrid_operator.fleets.views import FleetView
from buildgrid_operator.planner.farm import History
from buildgrid_operator.planner.plan import FleetPlan, plan
from buildgrid_operator.reconcile.fleet_steps import FleetSteps, Place

from tests.unit.operator.fleets.seen import CLUSTER, FLEET, INSTANCE, OURS, manifest
from tests.unit.operator.fleets.world import World

PLACE = Place(FleetAddress("farm", "main", "grpc://scheduler:50052"), INSTANCE, OURS)


class Cut(Exception):
    """The call failed, or the operator ended. What it asked for was done, or not."""


Decide = Callable[[FleetView, datetime], FleetPlan]


@dataclass
class Operator:
    """Looks, decides, and takes steps: marks, then deletes, then creates."""

    world: World
    memory: StartMemory = field(default_factory=StartMemory)
    history: History = field(default_factory=History)
    ended: set[str] = field(default_factory=set)
    made: dict[str, dict[str, Any]] = field(default_factory=dict)
    """pods in the cache because we made them, by UID"""
    number: int = 0
    serving: Serving = field(default_factory=lambda: Serving(property_set_of(None)))
    steps: FleetSteps = field(init=False)

    def __post_init__(self) -> None:
        calls: Any = Calls(self)
        self.steps = FleetSteps(calls, calls, calls)

    def restart(self) -> None:
        """Only what is in the cluster is left. The lists are read anew."""
        self.memory, self.history = StartMemory(), History()
        self.ended, self.made, self.number = set(), {}, 0
        self.world.pictures = self.world.pictures[-1:]

    def look(self) -> FleetView:
        world = self.world
        behind = world.random.randrange(len(world.pictures)) if world.faults else len(world.pictures) - 1
        del world.pictures[:behind]  # nothing goes back
        state, pods = world.pictures[0]
        known = {pod["metadata"]["uid"] for pod in pods}
        self.made = {
            uid: pod
            for uid, pod in self.made.items()
            if uid not in known and state.time is not None and state.time <= created_at(pod)
        }
        pods = [*pods, *self.made.values()]
        views = [pod_view(deepcopy(pod), ended_uids=self.ended) for pod in pods]
        bots, orphaned = bot_views(
            [view for view in views if view is not None],
            state,
            fleet_uid=FLEET,
            cluster_uid=CLUSTER,
            instance=INSTANCE,
            registered=self.memory.registered,
            since=self.memory.since,
            now=world.now,
        )
        return FleetView(
            world.fleet, world.template, bots, orphaned, frozenset(world.cordoned), instance=INSTANCE
        )

    def run(self, decide: Decide | None = None) -> Steps:
        """One pass. What it was cut off from is not done."""
        world = self.world
        view = self.look()
        self.memory = remember(self.memory, view, world.now)
        found = (decide or self.decide)(view, world.now)
        waits = held(self.memory, view.template_hash, world.now) is not None
        steps = steps_of(found, view, drain_timeout=world.fleet.spec.drain.timeout, now=world.now, held=waits)
        used = [pod.number for pod in world.pods.values()]
        used += [int(name.removeprefix("linux-")) for name in world.marks]
        self.number = max([self.number, *used])

        def make(number: int) -> dict[str, Any]:
            return manifest(number, template=view.template_hash)

        try:
            done = self.steps.take(steps, view, PLACE, make, self.number + 1)
        except Cut:
            self.restart()
        else:
            self.number = done.next_number - 1
            self.ended |= {deletion.uid for deletion in done.deleted}
        return steps

    def decide(self, view: FleetView, now: datetime) -> FleetPlan:
        """As the planner does."""
        farm = farm_of([view], FleetState(time=now), now, self.serving, {}, now)
        found, self.history = plan(farm, self.history, now)
        return found.fleets[view.key]


class Calls:
    """The scheduler's Fleet service, the API server and the operator's cache, as far as steps use them."""

    def __init__(self, operator: "Operator") -> None:
        self._operator = operator
        self._world = operator.world

    def undrain(
        self,
        address: FleetAddress,
        instance: str,
        bots: Sequence[str],
        owner: str,
        *,
        busy_only: bool = False,
    ) -> None:
        with self._call(FleetUnreachable) as sent:
            if sent:
                self._world.undrain(bots, busy_only=busy_only)

    def drain_when_idle(
        self, address: FleetAddress, instance: str, bots: Sequence[str], owner: str, *, disrupted: bool
    ) -> None:
        with self._call(FleetUnreachable) as sent:
            if sent:
                self._world.drain_when_idle(bots, disrupted=disrupted)

    def drain_if_idle(
        self, address: FleetAddress, instance: str, bots: Sequence[str], owner: str
    ) -> tuple[str, ...]:
        with self._call(FleetUnreachable) as sent:
            answer = self._world.drain_if_idle(bots) if sent else ()
        return answer

    def delete(self, ref: ObjectRef, *, uid: str, grace: timedelta | None) -> bool:
        found = False
        with self._call(Unreachable) as sent:
            if sent:
                found = self._world.delete(ref.name, uid)
        return found

    def patch_merge(self, ref: ObjectRef, patch: dict[str, Any]) -> dict[str, Any]:
        metadata = patch["metadata"]
        protected = names.is_protected(metadata)
        found: dict[str, Any] | None = None
        with self._call(Unreachable) as sent:
            if sent:
                found = self._world.protect(ref.name, metadata["uid"], protected=protected)
        if found is None:
            raise NotFound("there is none")
        return found

    def create(self, pod: dict[str, Any]) -> dict[str, Any]:
        made = None
        with self._call(Unreachable) as sent:
            if sent:
                made = self._world.create(
                    names.number_of(pod["metadata"]), names.template_hash_of(pod["metadata"])
                )
        if made is None:
            raise AlreadyExists("there is one")
        return made

    def find(self, kind: Kind, namespace: str, name: str) -> dict[str, Any] | None:
        pod = self._world.pods.get(name)
        return None if pod is None else pod.manifest()

    def put(self, pod: dict[str, Any]) -> None:
        self._operator.made[pod["metadata"]["uid"]] = pod

    def discard(self, ref: ObjectRef, uid: str) -> None:
        self._operator.made.pop(uid, None)

    @contextmanager
    def _call(self, lost: type[Exception]) -> Iterator[bool]:
        """A call: whether it arrives. Its answer may be lost, and the operator may end before or after it.
        Meanwhile the world goes on: the scheduler gives work to whom it may.
        """
        world = self._world
        fault = world.random.randrange(16) if world.faults else 9
        if world.faults and world.random.random() < 0.5:
            world.assign()
            world.register()
        if fault == 0:
            raise Cut
        yield fault != 1
        if fault == 2:
            raise Cut
        if fault in (1, 3):
            raise lost("no answer")


def created_at(pod: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(pod["metadata"]["creationTimestamp"])


def any_plan(random: Random) -> Decide:
    """Whatever a planner may ask for of what is seen, useful or not."""

    def some(names: list[str]) -> tuple[str, ...]:
        return tuple(name for name in names if random.random() < 0.5)

    def decide(view: FleetView, now: datetime) -> FleetPlan:
        def of(*situations: Situation) -> list[str]:
            return [bot.pod.name for bot in view.bots if situation_of(bot) in situations]

        idle = some(of(Situation.IDLE))
        return FleetPlan(
            0,
            0,
            "",
            create=random.randint(0, 3),
            restore=some(of(Situation.DRAINING)),
            release=random.randint(0, len(idle)),
            idle=idle,
            cordon=some(of(Situation.IDLE, Situation.BUSY, Situation.LOST)),
            remove=some(of(Situation.STARTING, Situation.BLOCKED)),
        )

    return decide
