"""The decision: what each fleet should do now, and why."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum

from buildgrid_operator.planner import words
from buildgrid_operator.planner.farm import Bot, BotState, Demand, Farm, Fleet, FleetHistory, History
from buildgrid_operator.planner.memory import (
    down_window,
    forget_old,
    greatest,
    least,
    may_grow,
    may_shrink,
    next_period,
    remember_change,
    remember_need,
)
from buildgrid_operator.planner.needs import Need, Needs, impatient_at, needs_of
from buildgrid_operator.planner.schedules import Floor, floor_at
from buildgrid_operator.planner.victims import UNREGISTERED, by_use, is_outdated, outdated, staying

STALE_AFTER = timedelta(seconds=15)
_NOT_BEFORE = timedelta(milliseconds=1)


class Limit(Enum):
    """What kept a fleet from the number of bots that its work needs."""

    FLOOR = "Floor"
    """minBots or a schedule asks for more"""
    MAX_BOTS = "MaxBots"
    PINNED = "Pinned"
    """spec.replicas says how many"""
    SCALE_UP = "ScaleUp"
    """rates or stabilization of scaleUp"""
    SCALE_DOWN = "ScaleDown"
    """rates of scaleDown"""
    PAUSED = "Paused"
    STARTS_FAIL = "StartsFail"
    """pods before did not come up: none is made for a while"""
    STALE = "Stale"
    """the scheduler's state is not known"""


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """Of one fleet. Names are those of bots; none is named twice."""

    need: int
    """bots that there should be, within the bounds"""
    have: int
    """bots that do not drain"""
    reason: str
    create: int = 0
    restore: tuple[str, ...] = ()
    """cordoned ones that are wanted again: Undrain"""
    release: int = 0
    """so many of `idle` go: Drain IfIdle"""
    idle: tuple[str, ...] = ()
    """the most useless first; empty if none goes"""
    cordon: tuple[str, ...] = ()
    """Drain WhenIdle"""
    remove: tuple[str, ...] = ()
    """never registered: marked, then deleted"""
    limits: frozenset[Limit] = frozenset()
    for_work: int | None = None
    """what an autoscaler should ask for: as `need`, without what it has written itself; None: not known"""

    @property
    def acts(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.create or self.restore or self.release or self.cordon or self.remove)


@dataclass(frozen=True, slots=True)
class Plan:
    """Of the farm."""

    fleets: Mapping[str, FleetPlan]
    unserved: tuple[Demand, ...] = ()
    """waits, and no fleet serves it"""
    beyond: Mapping[str, int] = field(default_factory=dict)
    """jobs that will wait because all fleets that serve them are at their maximum, by words"""
    wake_at: datetime | None = None
    """when to ask again though nothing happens"""


@dataclass(slots=True)
class _Draft:
    """A plan of a fleet in the making."""

    fleet: Fleet
    need: Need
    work: int
    """bots that it would need if its autoscaler had written nothing"""
    floor: Floor
    history: FleetHistory
    now: datetime
    here: list[Bot] = field(init=False)
    outdated: list[Bot] = field(init=False)
    surge: int = field(init=False)
    """bots beyond the need, while outdated ones are replaced"""
    wanted: int = field(init=False)
    kept: int = field(init=False)
    """so many are not let go"""
    limits: set[Limit] = field(default_factory=set)
    wake: list[datetime] = field(default_factory=list)
    create: int = 0
    restore: list[str] = field(default_factory=list)
    release: int = 0
    idle: list[str] = field(default_factory=list)
    cordon: list[str] = field(default_factory=list)
    remove: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.here = staying(self.fleet)
        self.outdated = outdated(self.fleet)
        registered = sum(bot.state not in UNREGISTERED for bot in self.outdated)
        self.surge = min(self.fleet.policy.max_surge, registered)
        self.wanted = self._within_bounds(self.need.bots)
        policy = self.fleet.policy
        if self.need.short and policy.pinned is None:
            self.limits.add(self.creates_none if self.creates_none is not None else Limit.MAX_BOTS)

    def _within_bounds(self, bots: int) -> int:
        policy = self.fleet.policy
        if policy.pinned is not None:
            self.limits.add(Limit.PINNED)
            bots = policy.pinned
        if bots < self.floor.bots:
            self.limits.add(Limit.FLOOR)
        if max(bots, self.floor.bots) > policy.max_bots:
            self.limits.add(Limit.MAX_BOTS)
        return min(max(bots, self.floor.bots), policy.max_bots)

    @property
    def for_work(self) -> int:
        policy = self.fleet.policy
        if not policy.external:
            return self.wanted
        return min(max(self.work, self.floor.bots), policy.max_bots)

    @property
    def have(self) -> int:
        return len(self.here)

    @property
    def creates_none(self) -> Limit | None:
        """Why no pods are made; None: they may be."""
        policy = self.fleet.policy
        if policy.may_create:
            return None
        return Limit.PAUSED if policy.paused_scale_out else Limit.STARTS_FAIL

    def of_state(self, *states: BotState) -> list[Bot]:
        """Those that stay, the most useless first."""
        return by_use(bot for bot in self.here if bot.state in states)


def plan(farm: Farm, history: History, now: datetime) -> tuple[Plan, History]:
    """What to do now, and what to remember for the next time. Raises ValueError for a bad schedule."""
    floors = {
        fleet.name: floor_at(fleet.policy.min_bots, fleet.policy.schedules, now) for fleet in farm.fleets
    }
    # What was seen in the future was seen before the clock was set back, nobody knows how long ago.
    if farm.seen is None or abs(now - farm.seen) > STALE_AFTER:
        return _held(farm, floors), history
    most = {fleet.name: _most(fleet, floors[fleet.name]) for fleet in farm.fleets}
    needs = needs_of(farm, now, most)
    works = _works(farm, needs, floors, now)
    plans, remembered, wakes = {}, {}, [impatient_at(farm, now)]
    for fleet in farm.fleets:
        draft = _Draft(
            fleet,
            needs.fleets[fleet.name],
            works.fleets[fleet.name].bots,
            floors[fleet.name],
            history.fleets.get(fleet.name, FleetHistory()),
            now,
        )
        _recall(draft)
        _grow(draft)
        _shrink(draft)
        _replace(draft)
        plans[fleet.name] = _finished(draft)
        remembered[fleet.name] = _remembered(draft, plans[fleet.name])
        wakes += [*draft.wake, floors[fleet.name].changes]
    wake_at = min((wake for wake in wakes if wake is not None), default=None)
    return Plan(plans, needs.unserved, needs.beyond, wake_at), History(remembered)


def _most(fleet: Fleet, floor: Floor) -> int:
    """Bots that may be put to use."""
    policy = fleet.policy
    if not policy.may_create:
        return len(fleet.bots)
    return policy.max_bots if policy.pinned is None else min(max(policy.pinned, floor.bots), policy.max_bots)


def _works(farm: Farm, needs: Needs, floors: Mapping[str, Floor], now: datetime) -> Needs:
    """What fleets would need if no autoscaler had pinned them. Otherwise it would be told what it said."""
    if not any(fleet.policy.external for fleet in farm.fleets):
        return needs
    fleets = [
        replace(fleet, policy=replace(fleet.policy, pinned=None)) if fleet.policy.external else fleet
        for fleet in farm.fleets
    ]
    most = {fleet.name: _most(fleet, floors[fleet.name]) for fleet in fleets}
    return needs_of(replace(farm, fleets=fleets), now, most)


def _held(farm: Farm, floors: Mapping[str, Floor]) -> Plan:
    """Nobody knows what waits: what is there stays, and is raised to what the policy says."""
    plans = {}
    for fleet in farm.fleets:
        policy, have = fleet.policy, len(staying(fleet))
        wanted = min(max(policy.fallback_bots or 0, floors[fleet.name].bots), policy.max_bots)
        create = max(0, min(wanted - have, policy.max_bots - len(fleet.bots)))
        held = FleetPlan(
            max(have, wanted),
            have,
            words.held(have, create),
            create=create if policy.may_create else 0,
            limits=frozenset({Limit.STALE}),
        )
        plans[fleet.name] = _dry(held) if policy.dry_run else held
    return Plan(plans, wake_at=min((each.changes for each in floors.values() if each.changes), default=None))


def _recall(draft: _Draft) -> None:
    """What was needed lately is kept."""
    policy, now = draft.fleet.policy, draft.now
    draft.history = remember_need(forget_old(draft.history, now, policy), now, draft.wanted)
    window = down_window(policy)
    draft.kept = draft.wanted
    if policy.pinned is not None:
        return
    peak = greatest(draft.history, now, window)
    draft.kept = min(max(peak.bots, draft.wanted), policy.max_bots)
    known_since = draft.history.since or now
    if now - known_since < window:
        draft.kept = max(draft.kept, min(draft.have, policy.max_bots))
        if draft.have > draft.wanted:
            draft.wake.append(known_since + window)
    elif draft.have > draft.wanted and peak.bots > draft.wanted:
        draft.wake.append(peak.until + window + _NOT_BEFORE)


def _grow(draft: _Draft) -> None:
    policy, now = draft.fleet.policy, draft.now
    least_lately = least(draft.history, now, policy.scale_up.stabilization).bots
    more = max(0, max(min(draft.wanted, least_lately), draft.floor.bots) - draft.have)
    more = min(more, max(0, policy.max_bots - draft.have))
    if more < draft.wanted - draft.have:
        if policy.scale_up.stabilization:  # else it is a matter of the next pass
            draft.limits.add(Limit.SCALE_UP)
        draft.wake.append(now + policy.scale_up.stabilization)
    allowed = may_grow(policy.scale_up, draft.history, now, draft.have)
    if allowed is not None and allowed < more:
        draft.limits.add(Limit.SCALE_UP)
        more = allowed
        if (again := next_period(policy.scale_up, draft.history, now)) is not None:
            draft.wake.append(again)
    if more and draft.creates_none is not None:
        draft.limits.add(draft.creates_none)
        more = 0
    cordoned = [
        bot
        for bot in draft.fleet.bots
        if bot.state is BotState.DRAINING and not is_outdated(draft.fleet, bot)
    ]
    draft.restore = [bot.name for bot in sorted(cordoned, key=lambda bot: (-bot.busy_slots, bot.name))[:more]]
    draft.create = min(more - len(draft.restore), max(0, policy.max_bots - len(draft.fleet.bots)))
    if draft.create < more - len(draft.restore):
        draft.limits.add(Limit.MAX_BOTS)


def _shrink(draft: _Draft) -> None:
    policy, now = draft.fleet.policy, draft.now
    above = max(0, draft.have - policy.max_bots - draft.surge)
    spare = max(0, draft.have - draft.kept - draft.surge)
    allowed = may_shrink(policy.scale_down, draft.history, now, draft.have)
    if allowed is not None and allowed < spare:
        draft.limits.add(Limit.SCALE_DOWN)
        spare = allowed
        if (again := next_period(policy.scale_down, draft.history, now)) is not None:
            draft.wake.append(again)
    if policy.paused_scale_in and (above or spare):
        draft.limits.add(Limit.PAUSED)
        above = spare = 0
    go = max(above, spare)
    unregistered, idle = draft.of_state(*UNREGISTERED), draft.of_state(BotState.IDLE)
    draft.remove = [bot.name for bot in unregistered[:go]]
    draft.release = min(go - len(draft.remove), len(idle))
    draft.idle = [bot.name for bot in idle] if draft.release else []
    still_above = max(0, above - len(draft.remove) - draft.release)
    draft.cordon = [bot.name for bot in draft.of_state(BotState.BUSY)[:still_above]]


def _replace(draft: _Draft) -> None:
    """Outdated bots go as fast as surge and unavailability allow; not while others are let go."""
    policy = draft.fleet.policy
    old = draft.outdated
    if not old or draft.release or draft.cordon:
        return
    draft.remove += [bot.name for bot in old if bot.state in UNREGISTERED and bot.name not in draft.remove]
    level = max(draft.wanted, min(draft.have, draft.kept))
    registered = [bot for bot in old if bot.state not in UNREGISTERED]
    staying_on = draft.have - len(draft.remove) + len(draft.restore) + draft.create
    room = policy.max_bots + draft.surge - len(draft.fleet.bots) - draft.create
    if policy.may_create:
        draft.create += max(0, min(level + draft.surge - staying_on, room))
    if policy.paused_scale_in:
        draft.limits.add(Limit.PAUSED)
        return
    ready = len(draft.of_state(BotState.IDLE, BotState.BUSY))
    may_go = max(0, ready - (level - policy.max_unavailable))
    draft.cordon = [bot.name for bot in registered[:may_go]]


def _finished(draft: _Draft) -> FleetPlan:
    found = FleetPlan(
        draft.wanted,
        draft.have,
        _reason(draft),
        create=draft.create,
        restore=tuple(draft.restore),
        release=draft.release,
        idle=tuple(draft.idle),
        cordon=tuple(draft.cordon),
        remove=tuple(draft.remove),
        limits=frozenset(draft.limits),
        for_work=draft.for_work,
    )
    return _dry(found) if draft.fleet.policy.dry_run else found


def _dry(found: FleetPlan) -> FleetPlan:
    reason = f"dry run, nothing is done: {found.reason}"
    return FleetPlan(found.need, found.have, reason, limits=found.limits, for_work=found.for_work)


def _remembered(draft: _Draft, done: FleetPlan) -> FleetHistory:
    history = remember_change(draft.history, draft.now, done.create + len(done.restore))
    return remember_change(history, draft.now, -done.release - len(done.remove))


def _reason(draft: _Draft) -> str:
    policy = draft.fleet.policy
    window = down_window(policy)
    above = len(draft.cordon) if draft.have > policy.max_bots + draft.surge else 0
    grows = draft.create or draft.restore
    known = draft.now - (draft.history.since or draft.now)
    parts = (
        words.waiting(draft.need.waiting, draft.fleet, draft.need.starting),
        _bound(draft) if grows and not draft.need.waiting else "",
        words.created(draft.create, len(draft.restore)),
        words.let_go(draft.release, len(draft.idle), len(draft.remove), draft.kept, window),
        words.above_maximum(above, policy.max_bots),
        words.replaced(len(draft.cordon) - above),
        words.limited(_limits(draft)),
    )
    return words.joined(*parts) or words.steady(draft.have, draft.wanted, draft.kept, window, known)


def _bound(draft: _Draft) -> str:
    """Why there are more, though nothing waits."""
    if Limit.PINNED in draft.limits:
        return f"replicas is {draft.fleet.policy.pinned}"
    if Limit.FLOOR in draft.limits:
        return f"at least {words.bots(draft.floor.bots)} are asked for"
    return f"{words.bots(draft.wanted)} are needed"


def _limits(draft: _Draft) -> list[str]:
    policy = draft.fleet.policy
    told = {
        Limit.MAX_BOTS: f"maxBots {policy.max_bots}",
        Limit.SCALE_UP: "the rules of scaleUp",
        Limit.SCALE_DOWN: "the rules of scaleDown",
        Limit.PAUSED: "the pause",
        Limit.STARTS_FAIL: "pods that do not come up",
    }
    return [text for limit, text in told.items() if limit in draft.limits]
