"""Our planner at the controls: the same code as in the operator, fed from the simulated farm."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from buildgrid_operator.planner.farm import Bot, BotState, Demand, Farm, Fleet, History
from buildgrid_operator.planner.plan import FleetPlan, plan
from buildgrid_operator.planner.policy import Policy
from buildgrid_operator.simulator.world import SimBot, SimFleet, State, Waiting, World

BEGIN = datetime(2026, 1, 5, tzinfo=UTC)
"""of every trace: a Monday"""


class PlannerController:
    """Asks the planner whenever something happened."""

    period = 0.0

    def __init__(self, policies: Mapping[str, Policy]) -> None:
        self._policies = policies
        self._history = History()

    def decide(self, world: World) -> float | None:
        """When the planner wants to be asked again."""
        now = _time(world.now)
        fleets = [self._fleet(world, fleet) for fleet in world.fleets.values()]
        found, self._history = plan(Farm(fleets, _demands(world), seen=now), self._history, now)
        for name, each in found.fleets.items():
            _carry_out(world, world.fleets[name], each)
        return None if found.wake_at is None else (found.wake_at - BEGIN).total_seconds()

    def _fleet(self, world: World, fleet: SimFleet) -> Fleet:
        return Fleet(
            fleet.model.name,
            self._policies[fleet.model.name],
            [Bot(bot.name, _state(bot), _time(bot.since), len(bot.jobs)) for bot in fleet.bots.values()],
            frozenset(
                name for name, waiting in world.demand.items() if waiting.requirement in fleet.model.serves
            ),
            timedelta(seconds=fleet.start_estimate),
        )


def _demands(world: World) -> list[Demand]:
    return [
        Demand(
            name,
            name,
            len(waiting.queue),
            waiting.executing,
            _time(world.jobs[waiting.queue[0]].arrival) if waiting.queue else None,
            _estimate(world, waiting),
            waiting.avoids,
        )
        for name, waiting in world.demand.items()
        if waiting.queue or waiting.executing
    ]


def _estimate(world: World, waiting: Waiting) -> timedelta | None:
    seconds = world.demand[waiting.requirement].estimate
    return None if seconds is None else timedelta(seconds=seconds)


def _carry_out(world: World, fleet: SimFleet, found: FleetPlan) -> None:
    for name in found.restore:
        world.uncordon(fleet.bots[name])
    world.create(fleet, found.create)
    left = found.release
    for name in found.idle:
        if left and world.let_go(fleet.bots[name]):
            left -= 1
    for name in (*found.remove, *found.cordon):
        world.cordon(fleet.bots[name])


def _state(bot: SimBot) -> BotState:
    if bot.state is State.STARTING:
        return BotState.STARTING
    if bot.state is State.DRAINING:
        return BotState.DRAINING
    return BotState.BUSY if bot.jobs else BotState.IDLE


def _time(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)
