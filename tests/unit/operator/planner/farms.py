"""Farms for the tests of the planner, in few words."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from buildgrid_operator.planner.farm import Bot, BotState, Demand, Farm, Fleet, History
from buildgrid_operator.planner.plan import FleetPlan, plan
from buildgrid_operator.planner.policy import Policy

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
LONG = timedelta(hours=1)
START = timedelta(seconds=30)
ROOMY = Policy(max_bots=100, idle_timeout=timedelta(minutes=5))
NOTHING = History()


def seconds(count: float) -> timedelta:
    return timedelta(seconds=count)


def bots(state: BotState, count: int, *, slots: int = 1, name: str = "", since: datetime = NOON) -> list[Bot]:
    """So many in this state; busy ones with all slots."""
    busy = slots if state is BotState.BUSY else 0
    return [Bot(f"{name or state.value}-{number}", state, since, busy) for number in range(count)]


def fleet(
    *bots: Iterable[Bot],
    name: str = "linux",
    serves: Iterable[str] = ("any",),
    start: timedelta = START,
    policy: Policy = ROOMY,
) -> Fleet:
    return Fleet(name, policy, [bot for some in bots for bot in some], frozenset(serves), start)


def demand(
    queued: int,
    *,
    key: str = "any",
    executing: int = 0,
    duration: timedelta | None = LONG,
    oldest: datetime | None = None,
    avoided: str | None = None,
) -> Demand:
    return Demand(key, f"Pool={key}", queued, executing, oldest, duration, avoided)


def decide(*parts: Fleet | Demand, now: datetime = NOON, history: History = NOTHING) -> FleetPlan:
    """What is planned for the first fleet."""
    fleets = [part for part in parts if isinstance(part, Fleet)]
    farm = Farm(fleets, [part for part in parts if isinstance(part, Demand)], seen=now)
    found, _ = plan(farm, history, now)
    return found.fleets[fleets[0].name]
