"""How many bots each fleet needs for what runs and what waits: the heart of the planner.

Seconds and slots are floats here. H, P, S, T and d are those of the design page.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import ceil, inf

from buildgrid_operator.planner.allocation import Group, Tier, allocate
from buildgrid_operator.planner.farm import BotState, Demand, Farm, Fleet

USE_IT = 0.5
"""of its start time: for less work than this no bot is bought"""
_AFTER = timedelta(milliseconds=1)
_ROUNDING = 1e-6
"""slots"""


@dataclass(slots=True)
class Need:
    """Of one fleet."""

    bots: int = 0
    """for what runs, for what waits and is put on this fleet, and to be kept warm"""
    waiting: dict[str, int] = field(default_factory=dict)
    """jobs that would not be begun without more bots of this fleet, by words of their demand"""
    starting: int = 0
    """bots that come up already"""
    short: bool = False
    """jobs wait that it serves, and neither it nor another fleet has room; they are among `waiting`"""


@dataclass(frozen=True, slots=True)
class Needs:
    """Of the farm."""

    fleets: Mapping[str, Need]
    unserved: tuple[Demand, ...]
    """what waits and no fleet serves"""
    beyond: Mapping[str, int]
    """jobs that will wait because all fleets that serve them are at their maximum, by words"""


def needs_of(farm: Farm, now: datetime, most: Mapping[str, int]) -> Needs:
    """`most`: bots that each fleet may have."""
    fleets = sorted(farm.fleets, key=_rank)
    waiting = [_Waiting(demand, _serving(demand, fleets)) for demand in farm.demands if demand.queued]
    served = [each for each in waiting if each.fleets]
    groups = [Group(each.slots_in_window(), each.may_wait_for(now)) for each in served]
    supply = [_Supply(fleet, farm.demands) for fleet in fleets]
    free = [Tier(each.name, each.free) for each in supply]
    freed = [Tier(_busy(each.name), each.freed) for each in supply]
    starting = [Tier(each.name, each.starting) for each in supply]
    have = allocate(groups, [*free, *freed, *starting])
    for each, left in zip(served, have.left, strict=True):
        each.leave(left)
    bought = _buy([each for each in served if each.left > _ROUNDING], supply, most)
    slots = {each.name: float(each.busy) for each in supply}
    at_all = [*have.filled[: len(free)], *have.filled[len(free) + len(freed) :]]
    for tier, filled in zip([*free, *starting], at_all, strict=True):
        slots[tier.fleet] += filled
    found = {}
    for fleet in supply:
        policy = fleet.fleet.policy
        for_work = _bots(slots[fleet.name] + bought.slots[fleet.name], policy.slots_per_bot)
        found[fleet.name] = Need(
            max(for_work, fleet.busy_bots) + policy.warm_bots,
            bought.waiting[fleet.name],
            fleet.starting_bots,
            fleet.name in bought.short,
        )
    return Needs(found, tuple(each.demand for each in waiting if not each.fleets), bought.beyond)


def impatient_at(farm: Farm, now: datetime) -> datetime | None:
    """When the next of those that wait gives up hope for busy slots."""
    times = []
    for demand in farm.demands:
        fleets = _serving(demand, sorted(farm.fleets, key=_rank))
        if fleets and demand.queued and demand.oldest_queued is not None:
            at = demand.oldest_queued + timedelta(seconds=_window(fleets[0])) + _AFTER
            times += [at] if at > now else []
    return min(times, default=None)


class _Waiting:
    """A demand, and the fleets that may have it, best first."""

    def __init__(self, demand: Demand, fleets: Sequence[Fleet]) -> None:
        self.demand = demand
        self.fleets = fleets
        self.names = frozenset(fleet.name for fleet in fleets)
        self.left = 0.0
        """jobs that existing slots will not have begun"""
        self._duration = inf if demand.duration is None else max(demand.duration.total_seconds(), 0.001)

    def may_wait_for(self, now: datetime) -> frozenset[str]:
        """Whose slots may be hoped for. Who waited longer than H already hopes for no busy ones any more:
        the estimate of how soon they are free was wrong.
        """
        oldest = self.demand.oldest_queued
        if oldest is not None and (now - oldest).total_seconds() > _window(self.fleets[0]):
            return self.names
        return self.names | {_busy(name) for name in self.names}

    def slots_in_window(self) -> float:
        """That the jobs take of existing slots in H."""
        return self.demand.queued * self._share(_window(self.fleets[0]))

    def leave(self, slots: float) -> None:
        """So much of `slots_in_window` is on no slot."""
        self.left = slots / self._share(_window(self.fleets[0]))

    def slots_to_buy(self) -> float:
        """For the jobs that are left."""
        return self.left * self.slots_each

    @property
    def slots_each(self) -> float:
        """That a job takes of a bot that is bought."""
        return self._share(_packing(self.fleets[0]))

    def _share(self, seconds: float) -> float:
        return min(1.0, self._duration / seconds)


class _Supply:
    """The slots of a fleet."""

    def __init__(self, fleet: Fleet, demands: Iterable[Demand]) -> None:
        self.fleet = fleet
        self.name = fleet.name
        per_bot = fleet.policy.slots_per_bot
        of_state = {state: [bot for bot in fleet.bots if bot.state is state] for state in BotState}
        working = of_state[BotState.IDLE] + of_state[BotState.BUSY]
        self.busy = sum(bot.busy_slots for bot in working)
        self.busy_bots = len(of_state[BotState.BUSY])
        self.free = float(len(working) * per_bot - self.busy)
        self.starting_bots = len(of_state[BotState.STARTING])
        self.starting = float(self.starting_bots * per_bot)
        self.blocked = float(len(of_state[BotState.BLOCKED]) * per_bot)
        duration = _mean_duration(fleet, demands)
        self.freed = self.busy * min(1.0, _window(fleet) / duration)
        """what the busy slots offer in H"""


@dataclass(slots=True)
class _Bought:
    slots: dict[str, float]
    waiting: dict[str, dict[str, int]]
    beyond: dict[str, int]
    short: set[str]


def _buy(left: Sequence[_Waiting], supply: Sequence[_Supply], most: Mapping[str, int]) -> _Bought:
    """Puts what is left on bots that are still to be made, or that wait for a node."""
    groups = [Group(each.slots_to_buy(), each.names) for each in left]
    room = {each.name: Tier(each.name, _room(each.fleet, most[each.name])) for each in supply}
    tiers = [
        *(room[each.name] for each in supply if not each.blocked),
        *(Tier(each.name, each.blocked) for each in supply if each.blocked),
        *(room[each.name] for each in supply if each.blocked),
    ]
    put = allocate(groups, tiers)
    slots = {each.name: 0.0 for each in supply}
    for tier, filled in zip(tiers, put.filled, strict=True):
        slots[tier.fleet] += filled
    jobs: dict[str, dict[str, int]] = {each.name: {} for each in supply}
    beyond: dict[str, int] = {}
    short: set[str] = set()
    for each, placed, still in zip(left, put.placed, put.left, strict=True):
        words = each.demand.words
        for name, amount in placed.items():
            _count(jobs[name], words, amount / each.slots_each)
        if still > _ROUNDING:
            _count(beyond, words, still / each.slots_each)
            short |= each.names
            for name in each.names:
                _count(jobs[name], words, still / each.slots_each)
    return _Bought(slots, jobs, beyond, short)


def _count(jobs: dict[str, int], words: str, more: float) -> None:
    if (whole := ceil(more - _ROUNDING)) > 0:
        jobs[words] = jobs.get(words, 0) + whole


def _busy(name: str) -> str:
    """The busy slots of a fleet, as if they were a fleet of their own."""
    return f"{name} (busy)"


def _room(fleet: Fleet, most: int) -> float:
    """Slots that may still be bought. A pod that ends counts no more, one that drains still does."""
    return float(max(0, most - len(fleet.bots)) * fleet.policy.slots_per_bot)


def _serving(demand: Demand, fleets: Sequence[Fleet]) -> list[Fleet]:
    serving = [fleet for fleet in fleets if demand.key in fleet.serves]
    others = [fleet for fleet in serving if fleet.policy.capacity_class != demand.avoided]
    return others or serving


def _rank(fleet: Fleet) -> tuple[int, float, str]:
    policy = fleet.policy
    return policy.priority, policy.cost / policy.slots_per_bot, fleet.name


def _window(fleet: Fleet) -> float:
    return max(fleet.start_time, fleet.policy.target_wait, timedelta(seconds=1)).total_seconds()


def _packing(fleet: Fleet) -> float:
    target, start = fleet.policy.target_wait.total_seconds(), fleet.start_time.total_seconds()
    return max(target, USE_IT * start, 0.001)


def _mean_duration(fleet: Fleet, demands: Iterable[Demand]) -> float:
    """Of what runs in the fleet, as far as anyone can tell."""
    jobs = seconds = 0.0
    for demand in demands:
        if demand.key in fleet.serves and demand.executing:
            jobs += demand.executing
            seconds += demand.executing * (
                inf if demand.duration is None else demand.duration.total_seconds()
            )
    return max(seconds / jobs, 0.001) if jobs else inf


def _bots(slots: float, per_bot: int) -> int:
    return ceil(slots / per_bot - _ROUNDING)
