"""The pass of a farm: all BotFleets of a Scheduler are seen, planned for, and changed, together."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from buildgrid_scheduler.core.clock import Clock, utc_now

from buildgrid_operator.api import InvalidSpec, Scheduler
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.errors import ClusterError, PermissionMissing
from buildgrid_operator.cluster.fleet import FleetClient
from buildgrid_operator.cluster.fleet_streams import FleetStreams, Heard
from buildgrid_operator.cluster.kinds import BOT_FLEET, NODE, Manifest, ObjectRef
from buildgrid_operator.desired import Settings
from buildgrid_operator.desired.endpoints import FleetAddress, fleet_address
from buildgrid_operator.fleets.bots import stray_marks
from buildgrid_operator.fleets.disruption import unavailable_nodes
from buildgrid_operator.fleets.farm import farm_of
from buildgrid_operator.fleets.matching import Serving
from buildgrid_operator.fleets.starting import accepted, held, refused, start_time
from buildgrid_operator.fleets.steps import steps_of
from buildgrid_operator.planner.plan import STALE_AFTER, Plan, plan
from buildgrid_operator.reconcile.cache import Cache
from buildgrid_operator.reconcile.farm_key import FarmKey
from buildgrid_operator.reconcile.farm_memory import FarmMemory
from buildgrid_operator.reconcile.farm_reading import ReadFarm, ReadFleet, read_farm, read_fleets
from buildgrid_operator.reconcile.fleet_preparing import FleetPreparing, Prepared
from buildgrid_operator.reconcile.fleet_steps import SOON, Done, FleetSteps, Place
from buildgrid_operator.reconcile.fleet_strays import FleetStrays, Stray, strays_of
from buildgrid_operator.reconcile.fleet_telling import FleetTelling
from buildgrid_operator.reconcile.work_queue import DONE, GONE, Outcome
from buildgrid_operator.status.scheduler_conditions import Refusal

_log = logging.getLogger(__name__)
T = TypeVar("T")
AT_ONCE = timedelta(milliseconds=1)
LATER = timedelta(seconds=5)
"""until what went wrong for one of several fleets is tried again"""
EACH = timedelta(seconds=10)
"""between passes while nothing happens: a stream that is silent is found out"""


@dataclass(frozen=True, slots=True)
class Farm:
    """What a pass is about: a Scheduler that can be worked for, and what it told last."""

    ref: ObjectRef
    scheduler: Scheduler
    serving: Serving
    address: FleetAddress
    heard: Heard
    now: datetime

    @property
    def stale(self) -> str | None:
        """Why it is not known what waits; None: it is."""
        heard = self.heard
        # What was heard in the future was heard before our clock was set back, nobody knows how long ago.
        if heard.at is not None and abs(self.now - heard.at) <= STALE_AFTER:
            return None
        return heard.problem or f"{self.address.endpoint}: no answer yet"

    @property
    def told_at(self) -> datetime:
        """Now, by the clock of the scheduler's database."""
        heard = self.heard
        if heard.at is None or heard.state is None or heard.state.time is None:
            return self.now
        return heard.state.time + (self.now - heard.at)


class FarmPass:
    """Synchronous; called from threads, for several Schedulers at once."""

    def __init__(
        self,
        client: Client,
        cache: Cache,
        streams: FleetStreams,
        fleet: FleetClient,
        settings: Callable[[], Settings],
        cluster_uid: Callable[[], str],
        telling: FleetTelling,
        *,
        blind: Callable[[], str | None] = lambda: None,
        clock: Clock = utc_now,
    ) -> None:
        """`cluster_uid`: by which our bots are told from those of other clusters; raises ClusterError.
        `blind`: why pods are not seen.
        """
        self._cache = cache
        self._streams = streams
        self._settings = settings
        self._telling = telling
        self._blind = blind
        self._clock = clock
        self._cluster_uid = cluster_uid
        self._preparing = FleetPreparing(client, cache, settings, cluster_uid)
        self._steps = FleetSteps(client, cache, fleet)
        self._strays = FleetStrays(self._steps, cluster_uid)
        self._memory: dict[ObjectRef, FarmMemory] = {}

    def run(self, key: FarmKey) -> Outcome:
        """One pass. Raises ClusterError."""
        objects = self._cache.fleets(key.scheduler)
        memory = self._memory.setdefault(key.scheduler, FarmMemory())
        read = read_farm(self._cache, key.scheduler)
        left = self._left(key.scheduler, read)
        kept = {obj["metadata"]["uid"] for obj in objects} | {stray.memory_key for stray in left}
        for uid in memory.keep(kept):
            self._preparing.forget(uid)
            self._telling.forget(uid)
        if not objects and not left:
            self._streams.unfollow(key.scheduler)
            self._memory.pop(key.scheduler, None)
            return GONE
        fleets = [self._seen(each) for each in read_fleets(objects, read)]
        alone = _EachAlone()
        for each in fleets:
            if each.unusable:
                alone.do(each.ref, partial(self._telling.unusable, each))
                if each.refusal is not None:
                    alone.waits.append(LATER)  # a rule that is granted tells of no event
        usable = [each for each in fleets if not each.unusable]
        if read.scheduler is not None and read.serving is not None and (usable or left):
            address = fleet_address(read.scheduler, self._settings().cluster_domain)
            heard = self._streams.follow(key.scheduler, address)
            farm = Farm(key.scheduler, read.scheduler, read.serving, address, heard, self._clock())
            self._pass(farm, usable, memory, alone)
            for stray, pods in left.items():
                alone.do(farm.ref, partial(self._clear, farm, stray, pods, memory))
        else:
            self._streams.unfollow(key.scheduler)
        return alone.outcome()

    def _left(self, scheduler: ObjectRef, read: ReadFarm) -> dict[Stray, list[Manifest]]:
        """The pods that BotFleets have left behind, where they can be cleared."""
        if read.scheduler is None or read.serving is None:
            return {}
        return strays_of(self._cache.strays(scheduler), read.scheduler)

    def _clear(self, farm: Farm, stray: Stray, pods: list[Manifest], memory: FarmMemory) -> timedelta | None:
        return self._strays.clear(
            stray,
            pods,
            farm.address,
            farm.heard.state,
            memory,
            farm.now,
            fresh=farm.stale is None,
            told_at=farm.told_at,
        )

    def _seen(self, read: ReadFleet) -> ReadFleet:
        """Whose pods cannot be seen cannot be planned for: they would be made again and again."""
        blind = None if read.unusable else self._blind()
        return read if blind is None else replace(read, refusal=Refusal("PermissionMissing", blind))

    def _pass(self, farm: Farm, fleets: list[ReadFleet], memory: FarmMemory, alone: "_EachAlone") -> None:
        nodes = unavailable_nodes(self._cache.all(NODE))
        prepared: list[Prepared] = []
        for read in fleets:
            alone.do(read.ref, partial(self._prepare, read, farm, memory, nodes, prepared))
        # Before the plan: whatever becomes of the fleets that there are, those that are gone bind nobody.
        alone.also(farm.ref, partial(self._settle, farm))
        found = self._plan(farm, prepared, memory)
        for each in prepared:
            alone.do(each.read.ref, partial(self._carry_out, farm, each, found))
        waits = [EACH]
        if found.wake_at is not None:
            waits.append(max(found.wake_at - farm.now, AT_ONCE))
        alone.waits += waits

    def _settle(self, farm: Farm) -> None:
        if farm.stale is not None:
            return
        known = {obj["metadata"]["uid"] for obj in self._cache.all(BOT_FLEET)}
        strays = stray_marks(farm.heard.state, known, cluster_uid=self._cluster_uid(), now=farm.now)
        # The mark of a pod that was left behind is there for as long as the pod is.
        there = {pod["metadata"]["name"] for pod in self._cache.strays(farm.ref)}
        self._steps.settle(farm.address, [mark for mark in strays if mark.bot_id not in there])

    def _prepare(
        self,
        read: ReadFleet,
        farm: Farm,
        memory: FarmMemory,
        nodes: frozenset[str],
        prepared: list[Prepared],
    ) -> timedelta | None:
        if read.fleet is None:
            raise ValueError(f"{read.ref} cannot be read")
        state = farm.heard.state
        mine = memory.of(read.uid)
        try:
            each = self._preparing.prepare(
                read,
                read.fleet,
                farm.scheduler,
                farm.serving,
                state,
                nodes,
                mine,
                farm.now,
                fresh=farm.stale is None,
            )
        except InvalidSpec as error:
            problems = tuple(str(problem) for problem in error.problems)
            return self._telling.unusable(replace(read, problems=problems))
        except PermissionMissing as error:
            self._telling.unusable(replace(read, refusal=Refusal("PermissionMissing", str(error))))
            return LATER
        prepared.append(each)
        return None

    def _plan(self, farm: Farm, fleets: list[Prepared], memory: FarmMemory) -> Plan:
        told = farm_of(
            [each.view for each in fleets],
            farm.heard.state,
            farm.heard.at if farm.stale is None else None,
            farm.serving,
            {each.view.key: start_time(each.memory.starts, each.start_before) for each in fleets},
            farm.now,
            held={each.view.key for each in fleets if _is_held(each, farm.now)},
        )
        found, memory.history = plan(told, memory.history, farm.now)
        return found

    def _carry_out(self, farm: Farm, each: Prepared, found: Plan) -> timedelta:
        """When to look again."""
        mine, view = found.fleets[each.view.key], each.view
        steps = steps_of(
            mine,
            view,
            drain_timeout=each.fleet.spec.drain.timeout,
            now=farm.now,
            told_at=farm.told_at,
            held=_is_held(each, farm.now),
        )
        place = Place(farm.address, each.read.instance, each.owner)
        done = self._steps.take(steps, view, place, each.make, each.memory.next_number)
        _remember(each, done, farm.now)
        waits = [EACH]
        if done.problem is not None:
            _log.warning("%s: a step is tried again: %s", view.key, done.problem)
            waits.append(SOON)
        elif done.created or done.deleted or done.marked or done.more:
            waits.append(AT_ONCE if done.more else SOON)
        if (backoff := held(each.memory.starts, view.template_hash, farm.now)) is not None:
            waits.append(max(backoff.until - farm.now, AT_ONCE))
        if (
            told := self._telling.tell(each, farm.heard.state, farm.stale, found, done, farm.now)
        ) is not None:
            waits.append(told)
        return min(waits)


class _EachAlone:
    """What is done for each fleet: what goes wrong with one does not keep the others from their turn."""

    def __init__(self) -> None:
        self.waits: list[timedelta] = []
        self._errors: list[Exception] = []
        self._done = 0

    def do(self, ref: ObjectRef, work: Callable[[], timedelta | None]) -> None:
        """`work` returns when to look again."""
        went_well, wait = self._try(ref, work)
        self._done += went_well
        if wait is not None:
            self.waits.append(wait)

    def also(self, ref: ObjectRef, work: Callable[[], None]) -> None:
        """What is done besides: no fleet has had its turn with it."""
        self._try(ref, work)

    def _try(self, ref: ObjectRef, work: Callable[[], T]) -> tuple[bool, T | None]:
        try:
            return True, work()
        except ClusterError as error:
            _log.warning("%s: %s", ref, error)
            self._errors.append(error)
        except Exception as error:  # noqa: BLE001 - one fleet's bug must not stop the others; it is logged
            _log.exception("the pass of %s failed", ref)
            self._errors.append(error)
        return False, None

    def outcome(self) -> Outcome:
        """Raises what went wrong where nothing went well: the queue knows when to try again."""
        if self._errors and not self._done:
            raise self._errors[0]
        waits = [*self.waits, *([LATER] if self._errors else ())]
        return Outcome(again_after=min(waits)) if waits else DONE


def _is_held(each: Prepared, now: datetime) -> bool:
    """Whether no pods are made at the moment, since those before did not come up, or cannot be made."""
    if each.memory.refusal is not None or any(refusal.blocking for refusal in each.refusals):
        return True
    return held(each.memory.starts, each.view.template_hash, now) is not None


def _remember(each: Prepared, done: Done, now: datetime) -> None:
    memory = each.memory
    memory.next_number = done.next_number
    memory.ended |= {deletion.uid for deletion in done.deleted}
    if done.refusal is not None:
        memory.starts = refused(memory.starts, each.view.template_hash, str(done.refusal), now)
    elif done.created:
        memory.starts = accepted(memory.starts)
