"""The farm that is simulated: jobs arrive, bots start, take jobs, end; its controller is asked in between."""

import heapq
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import partial
from math import inf
from typing import Protocol

from buildgrid_operator.simulator.trace import Job, Trace

_ESTIMATE = 0.1
"""weight of the newest job in the estimate of durations"""
TAIL = 600.0
_FAILED_START = 60.0
"""seconds until a start that fails is found out"""
_AVOIDS_FOR = 60.0
"""seconds for which a job that lost its bot avoids that capacity class: `scheduler.avoid_class_for`"""
_DAY = 86_400.0


@dataclass(slots=True)
class Waiting:
    """What the scheduler knows of jobs that require, and avoid, the same."""

    requirement: str
    avoids: str | None = None
    """a capacity class"""
    queue: deque[int] = field(default_factory=deque)
    executing: int = 0
    estimate: float | None = None


@dataclass(frozen=True, slots=True)
class FleetModel:
    """A fleet, and how its pods behave."""

    name: str
    max_bots: int
    serves: frozenset[str]
    slots: int = 1
    start_median: float = 30.0
    """seconds from the request until a bot takes a job"""
    start_sigma: float = 0.25
    """of its logarithm"""
    start_failures: float = 0.0
    """share of starts"""
    lost_after: float = inf
    """mean seconds until the node is taken away"""
    cost: float = 1.0
    """of a pod-second"""
    capacity_class: str = ""
    """for example spot"""

    def takes(self, waiting: Waiting) -> bool:
        """Whether its bots are given these jobs."""
        return waiting.requirement in self.serves and waiting.avoids != self.capacity_class


class State(IntEnum):
    """Of a bot."""

    STARTING = 0
    WORKING = 1
    DRAINING = 2
    GONE = 3


@dataclass(slots=True, eq=False)
class SimBot:
    """A pod."""

    name: str
    fleet: "SimFleet"
    created: float
    ready: float = inf
    state: State = State.STARTING
    since: float = 0.0
    """idle, busy or starting"""
    jobs: set[int] = field(default_factory=set)
    gone: float = inf

    @property
    def idle(self) -> bool:
        """Ready, and without a job."""
        return self.state is State.WORKING and not self.jobs


@dataclass(slots=True, eq=False)
class SimFleet:
    """Its pods: those that are there, by name."""

    model: FleetModel
    bots: dict[str, SimBot] = field(default_factory=dict)
    free: deque[SimBot] = field(default_factory=deque)
    """may have a free slot; longest first"""
    start_estimate: float = 30.0
    made: int = 0


class Controller(Protocol):
    """Whoever decides how many bots there are."""

    period: float
    """seconds between decisions; 0: whenever something happened, at most once a second"""

    def decide(self, world: "World") -> float | None:
        """Calls `create`, `let_go`, `cordon` or `kill` of the world; when it wants to be asked next."""


@dataclass(slots=True)
class Result:
    """What came of it."""

    waits: list[float]
    """seconds of each job, of its first start"""
    pod_seconds: float
    slot_seconds: float
    cost: float
    interrupted: int
    """jobs that were killed by the controller"""
    lost: int
    """jobs that were killed with their node"""
    turns: int
    """how often growth turned into shrinking or back"""
    sizes: list[tuple[float, int]]
    """pods by time"""
    end: float


class World:
    """Runs once. Of several fleets the first that serves a job is offered it first."""

    def __init__(
        self, trace: Trace, fleets: Sequence[FleetModel], controller: Controller, seed: int = 1
    ) -> None:
        self.now = 0.0
        self.jobs: Sequence[Job] = trace.jobs
        self.fleets = {model.name: SimFleet(model, start_estimate=model.start_median) for model in fleets}
        self.demand: dict[str, Waiting] = {
            name: Waiting(name) for name in dict.fromkeys(job.requirement for job in trace.jobs)
        }
        self._controller = controller
        self._random = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._left = len(trace.jobs)
        self._deadline = trace.end + 10 * trace.work + _DAY
        self._started: list[float] = [inf] * len(trace.jobs)
        self._on: list[SimBot | None] = [None] * len(trace.jobs)
        self._decide_at = inf
        self._not_before = 0.0
        self._direction = 0
        self._count = 0
        self._ended: list[SimBot] = []
        self.result = Result([], 0.0, 0.0, 0.0, 0, 0, 0, [(0.0, 0)], 0.0)

    # --- what controllers do

    def create(self, fleet: SimFleet, count: int) -> None:
        """Ask for pods; not more than the fleet may have."""
        for _ in range(min(count, fleet.model.max_bots - len(fleet.bots))):
            fleet.made += 1
            bot = SimBot(f"{fleet.model.name}-{fleet.made}", fleet, self.now, since=self.now)
            fleet.bots[bot.name] = bot
            self._resized(1)
            if self._random.random() < fleet.model.start_failures:
                self._at(self.now + _FAILED_START, partial(self._lost, bot))
                continue
            start = fleet.model.start_median * self._random.lognormvariate(0, fleet.model.start_sigma)
            self._at(self.now + start, partial(self._ready, bot))

    def let_go(self, bot: SimBot) -> bool:
        """As the scheduler's drain does: only a bot without a job goes."""
        if bot.jobs or bot.state is State.GONE:
            return False
        self._remove(bot)
        return True

    def cordon(self, bot: SimBot) -> None:
        """It takes no job any more, and goes when it has none."""
        if not self.let_go(bot) and bot.state is State.WORKING:
            bot.state = State.DRAINING

    def uncordon(self, bot: SimBot) -> None:
        """It takes jobs again."""
        if bot.state is State.DRAINING:
            bot.state = State.WORKING
            self._free(bot)

    def kill(self, bot: SimBot) -> None:
        """Whatever it does: its jobs begin again elsewhere."""
        if bot.state is not State.GONE:
            self.result.interrupted += len(bot.jobs)
            self._requeue(bot)
            self._remove(bot)

    # --- what happens

    def run(self) -> Result:
        """Until all jobs are done, and for TAIL seconds more, so that what is kept too long is paid for.

        Raises ValueError when jobs are left long after all of them could have been done one by one.
        """
        for number, job in enumerate(self.jobs):
            self._at(job.arrival, partial(self._queue, number))
        self._ask_at(0.0)
        end = inf
        while self._events and self._events[0][0] <= end:
            self.now, _, happens = heapq.heappop(self._events)
            if self.now > self._deadline:
                break
            happens()
            if end == inf and not self._left:
                end = self.now + TAIL
        if self._left:
            raise ValueError(
                f"{self._left} of {len(self.jobs)} jobs were never done: no fleet that serves them "
                "has bots for long enough"
            )
        self.now = end
        self._finish()
        return self.result

    def _happened(self) -> None:
        if not self._controller.period:
            self._ask_at(self.now)

    def _queue(self, number: int) -> None:
        self._happened()
        waiting = self.demand[self.jobs[number].requirement]
        waiting.queue.append(number)
        self._offer(waiting)

    def _offer(self, waiting: Waiting) -> None:
        for fleet in self.fleets.values():
            if fleet.model.takes(waiting) and self._offer_one(fleet):
                return

    def _offer_one(self, fleet: SimFleet) -> bool:
        while fleet.free:
            bot = fleet.free[0]
            if bot.state is not State.WORKING or len(bot.jobs) >= fleet.model.slots:
                fleet.free.popleft()
                continue
            return self._fill(bot)
        return False

    def _fill(self, bot: SimBot) -> bool:
        """Gives the bot the oldest job that it may have, as often as it has a slot; whether it got one."""
        got = False
        model = bot.fleet.model
        while bot.state is State.WORKING and len(bot.jobs) < model.slots:
            queues = [each.queue for each in self.demand.values() if each.queue and model.takes(each)]
            oldest = min(queues, key=lambda queue: queue[0], default=None)
            if oldest is None:
                break
            self._begin(bot, oldest.popleft())
            got = True
        if len(bot.jobs) >= model.slots and bot.fleet.free and bot.fleet.free[0] is bot:
            bot.fleet.free.popleft()
        return got

    def _begin(self, bot: SimBot, number: int) -> None:
        if not bot.jobs:
            bot.since = self.now
        bot.jobs.add(number)
        job = self.jobs[number]
        self._started[number] = min(self._started[number], self.now)
        self._on[number] = bot
        self.demand[job.requirement].executing += 1
        self._at(self.now + job.duration, partial(self._done, number, bot))

    def _done(self, number: int, bot: SimBot) -> None:
        if self._on[number] is not bot or number not in bot.jobs:
            return  # of an attempt that was lost
        self._happened()
        self._left -= 1
        bot.jobs.discard(number)
        self._on[number] = None
        waiting = self.demand[self.jobs[number].requirement]
        waiting.executing -= 1
        took, before = self.jobs[number].duration, waiting.estimate
        waiting.estimate = took if before is None else before + _ESTIMATE * (took - before)
        if not bot.jobs:
            bot.since = self.now
            if bot.state is State.DRAINING:
                self._remove(bot)
                return
        self._free(bot)

    def _free(self, bot: SimBot) -> None:
        if not self._fill(bot) or len(bot.jobs) < bot.fleet.model.slots:
            bot.fleet.free.append(bot)

    def _ready(self, bot: SimBot) -> None:
        if bot.state is not State.STARTING:
            return
        self._happened()
        bot.state, bot.since, bot.ready = State.WORKING, self.now, self.now
        fleet = bot.fleet
        fleet.start_estimate += _ESTIMATE * (self.now - bot.created - fleet.start_estimate)
        if fleet.model.lost_after < inf:
            lost = self._random.expovariate(1 / fleet.model.lost_after)
            self._at(self.now + lost, partial(self._lost, bot))
        self._free(bot)

    def _lost(self, bot: SimBot) -> None:
        if bot.state is not State.GONE:
            self._happened()
            self.result.lost += len(bot.jobs)
            self._requeue(bot, avoids=bot.fleet.model.capacity_class)
            self._remove(bot)

    def _requeue(self, bot: SimBot, avoids: str = "") -> None:
        numbers = sorted(bot.jobs, reverse=True)
        bot.jobs.clear()
        bot.state = State.DRAINING
        for number in numbers:
            self._on[number] = None
            plain = self.demand[self.jobs[number].requirement]
            plain.executing -= 1
            waiting = self._avoiding(plain, avoids)
            waiting.queue.appendleft(number)
            if waiting is not plain:
                self._at(self.now + _AVOIDS_FOR, partial(self._avoids_no_more, number, waiting))
        for fleet in self.fleets.values():
            while numbers and self._offer_one(fleet):
                pass

    def _avoiding(self, plain: Waiting, avoids: str) -> Waiting:
        """The same, but where a fleet of another class can have it, not on that class."""
        serving = [each.model for each in self.fleets.values() if each.model.takes(plain)]
        if not avoids or all(model.capacity_class == avoids for model in serving):
            return plain
        words = f"{plain.requirement} (not on {avoids})"
        return self.demand.setdefault(words, Waiting(plain.requirement, avoids))

    def _avoids_no_more(self, number: int, waiting: Waiting) -> None:
        if number in waiting.queue:
            self._happened()
            waiting.queue.remove(number)
            plain = self.demand[waiting.requirement]
            plain.queue.appendleft(number)
            self._offer(plain)

    def _remove(self, bot: SimBot) -> None:
        bot.state, bot.gone = State.GONE, self.now
        del bot.fleet.bots[bot.name]
        self._ended.append(bot)
        self._resized(-1)

    # --- bookkeeping

    def _decide(self) -> None:
        if self.now < self._decide_at:
            return  # it was asked for again, for an earlier time, and has been done
        self._decide_at = inf
        self._not_before = self.now + 1.0
        before = self._count
        again = self._controller.decide(self)
        if (sign := (self._count > before) - (self._count < before)) and sign != self._direction:
            self.result.turns += bool(self._direction)
            self._direction = sign
        wanted = self.now + self._controller.period if self._controller.period else again
        if wanted is not None and wanted < inf:
            self._ask_at(wanted)

    def _ask_at(self, time: float) -> None:
        time = max(time, self._not_before)
        if time < self._decide_at:
            self._decide_at = time
            self._at(time, self._decide)

    def _at(self, time: float, happens: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._events, (time, self._number, happens))

    def _resized(self, by: int) -> None:
        self._count += by
        sizes = self.result.sizes
        if sizes[-1][0] == self.now:
            sizes[-1] = (self.now, self._count)
        else:
            sizes.append((self.now, self._count))

    def _finish(self) -> None:
        result = self.result
        result.end = self.now
        result.waits = [start - job.arrival for start, job in zip(self._started, self.jobs, strict=True)]
        there = [bot for fleet in self.fleets.values() for bot in fleet.bots.values()]
        for bot in [*self._ended, *there]:
            seconds = min(bot.gone, self.now) - bot.created
            result.pod_seconds += seconds
            result.slot_seconds += seconds * bot.fleet.model.slots
            result.cost += seconds * bot.fleet.model.cost
