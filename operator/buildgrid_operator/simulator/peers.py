"""Policies of others, after their documentation, so that ours can be held against them.

Each looks at a fleet from outside: how many jobs wait and run that it serves, and how many pods there
are. None of them divides jobs among fleets: a job counts for the first fleet that serves it, which is the
best for them.
"""

from collections import deque
from dataclasses import dataclass, field
from math import ceil, inf, isclose

from buildgrid_operator.simulator.world import SimBot, SimFleet, State, Waiting, World


def unfinished(world: World, fleet: SimFleet) -> int:
    """Jobs that wait or run, and that no fleet before this one serves."""
    return sum(
        len(waiting.queue) + waiting.executing
        for waiting in world.demand.values()
        if first_to_take(world, waiting) is fleet
    )


def first_to_take(world: World, waiting: Waiting) -> SimFleet | None:
    """None: no fleet serves it."""
    return next((fleet for fleet in world.fleets.values() if fleet.model.takes(waiting)), None)


def killed_first(bot: SimBot) -> tuple[bool, float]:
    """As a ReplicaSet orders its pods: not ready ones, then the newest."""
    return bot.state is not State.STARTING, -bot.ready if bot.ready < inf else -bot.created


def resize(world: World, fleet: SimFleet, wanted: int) -> None:
    """As a Deployment does it: pods that go are killed, whatever they do."""
    here = list(fleet.bots.values())
    world.create(fleet, max(0, wanted - len(here)))
    for bot in sorted(here, key=killed_first)[: max(0, len(here) - wanted)]:
        world.kill(bot)


@dataclass(slots=True)
class Fixed:
    """Always the same size."""

    size: int
    period: float = 60.0

    def decide(self, world: World) -> float | None:
        """Replaces what was lost. A fleet that serves nothing before others do is not needed."""
        first = [first_to_take(world, waiting) for waiting in world.demand.values() if not waiting.avoids]
        for fleet in world.fleets.values():
            if fleet in first:
                world.create(fleet, self.size - len(fleet.bots))
        return None


@dataclass(slots=True)
class HorizontalPodAutoscaler:
    """autoscaling/v2 on an external metric, unfinished jobs per pod, with the default behaviour.

    Every 15 s; tolerance 10 %; up by 4 pods or 100 % in 15 s, whichever is more; down by 100 % in 15 s, to
    the highest recommendation of the last 300 s. Cannot go to zero.
    """

    target: float = 1.0
    """jobs per pod"""
    min_bots: int = 1
    stabilization: float = 300.0
    period: float = 15.0
    tolerance: float = 0.1
    _recommended: dict[str, deque[tuple[float, int]]] = field(default_factory=dict)

    def decide(self, world: World) -> float | None:
        """Once for each fleet."""
        for fleet in world.fleets.values():
            self.scale(world, fleet)
        return None

    def scale(self, world: World, fleet: SimFleet) -> None:
        """One evaluation."""
        current = len(fleet.bots)
        if current == 0:
            resize(world, fleet, self.min_bots)
            return
        ratio = unfinished(world, fleet) / (current * self.target * fleet.model.slots)
        wanted = current if isclose(ratio, 1.0, abs_tol=self.tolerance) else ceil(current * ratio - 1e-9)
        wanted = min(max(wanted, self.min_bots), fleet.model.max_bots)
        recommended = self._recommended.setdefault(fleet.model.name, deque())
        recommended.append((world.now, wanted))
        while recommended[0][0] < world.now - self.stabilization:
            recommended.popleft()
        if wanted < current:
            wanted = min(current, max(each for _, each in recommended))
        elif wanted > current:
            wanted = min(wanted, current + max(4, current))
        resize(world, fleet, wanted)


@dataclass(slots=True)
class Keda:
    """KEDA's ScaledObject: polls every 30 s, goes from 0 to 1 by itself and leaves the rest to an HPA.

    To 0 after a cooldown of 300 s without a job.
    """

    target: float = 1.0
    polling: float = 30.0
    cooldown: float = 300.0
    stabilization: float = 300.0
    """of its HPA"""
    period: float = 15.0
    _hpa: HorizontalPodAutoscaler = field(init=False)
    _active: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._hpa = HorizontalPodAutoscaler(self.target, stabilization=self.stabilization)

    def decide(self, world: World) -> float | None:
        """The HPA's evaluation where there are pods, KEDA's own poll where there are none."""
        for fleet in world.fleets.values():
            name, jobs = fleet.model.name, unfinished(world, fleet)
            if jobs:
                self._active[name] = world.now
            if not fleet.bots:
                if jobs and world.now % self.polling < self.period:
                    resize(world, fleet, 1)
            elif not jobs and world.now - self._active.get(name, -inf) >= self.cooldown:
                resize(world, fleet, 0)
            else:
                self._hpa.scale(world, fleet)
        return None


@dataclass(slots=True)
class RunnerScaleSet:
    """actions-runner-controller: assigned jobs plus idle runners, told at once. A runner runs one job.

    A pod with several slots is not known to it: it is for fleets of one slot.
    """

    idle: int = 0
    period: float = 0.0

    def decide(self, world: World) -> float | None:
        """Runners that have had their job go; the rest is raised to what is assigned."""
        for fleet in world.fleets.values():
            for bot in list(fleet.bots.values()):
                if bot.jobs:
                    world.cordon(bot)
                elif bot.state is State.WORKING and bot.since > bot.ready:
                    world.let_go(bot)
            wanted = unfinished(world, fleet) + self.idle
            world.create(fleet, wanted - len(fleet.bots))
            spare = [bot for bot in fleet.bots.values() if not bot.jobs]
            for bot in spare[: max(0, len(fleet.bots) - wanted)]:
                world.let_go(bot)
        return None


@dataclass(slots=True)
class Percentile:
    """As Buildbarn's bb-autoscaler: a quantile of the workers that were wanted in a window.

    It is asked of a group of machines, which lets go of those that idle.
    """

    quantile: float = 0.95
    window: float = 900.0
    period: float = 15.0
    """between samples"""
    acts_every: float = 60.0
    _samples: dict[str, deque[tuple[float, int]]] = field(default_factory=dict)
    _due: float = 0.0

    def decide(self, world: World) -> float | None:
        """Samples; every minute it also acts."""
        acts = world.now >= self._due
        if acts:
            self._due = world.now + self.acts_every
        for fleet in world.fleets.values():
            samples = self._samples.setdefault(fleet.model.name, deque())
            samples.append((world.now, ceil(unfinished(world, fleet) / fleet.model.slots)))
            while samples[0][0] < world.now - self.window:
                samples.popleft()
            if not acts:
                continue
            ranked = sorted(count for _, count in samples)
            wanted = ranked[min(len(ranked) - 1, int(self.quantile * len(ranked)))]
            world.create(fleet, wanted - len(fleet.bots))
            idle = [bot for bot in fleet.bots.values() if bot.idle or bot.state is State.STARTING]
            for bot in idle[: max(0, len(fleet.bots) - wanted)]:
                world.let_go(bot)
        return None
