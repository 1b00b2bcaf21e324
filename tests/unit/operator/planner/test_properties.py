"""What holds for every farm, however odd."""

from dataclasses import replace
from datetime import timedelta

from buildgrid_operator.planner.farm import Bot, BotState, Demand, Farm, Fleet, History
from buildgrid_operator.planner.plan import FleetPlan, plan
from buildgrid_operator.planner.policy import Policy
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.operator.planner.farms import NOON, seconds

KEYS = ("a", "b", "c", "d")
ENDING = (BotState.DRAINING,)
WAITING = (BotState.STARTING, BotState.BLOCKED)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    most = draw(st.integers(0, 12))
    return Policy(
        min_bots=draw(st.integers(0, most)),
        max_bots=most,
        warm_bots=draw(st.integers(0, 3)),
        slots_per_bot=draw(st.sampled_from([1, 1, 4])),
        target_wait=seconds(draw(st.sampled_from([0, 1, 30, 600]))),
        idle_timeout=seconds(draw(st.sampled_from([0, 60, 300]))),
        priority=draw(st.integers(0, 2)),
        capacity_class=draw(st.sampled_from(["", "spot"])),
        max_surge=draw(st.integers(0, 2)),
        max_unavailable=draw(st.integers(1, 2)),
    )


@st.composite
def some_bots(draw: st.DrawFn, name: str, policy: Policy) -> list[Bot]:
    found = []
    for number in range(draw(st.integers(0, 8))):
        state = draw(st.sampled_from(list(BotState)))
        busy = draw(st.integers(1, policy.slots_per_bot)) if state is BotState.BUSY else 0
        since = NOON - seconds(draw(st.integers(0, 900)))
        found.append(Bot(f"{name}-{number}", state, since, busy, outdated=draw(st.integers(0, 4)) == 0))
    return found


@st.composite
def fleets(draw: st.DrawFn, number: int) -> Fleet:
    policy, name = draw(policies()), f"fleet-{number}"
    return Fleet(
        name,
        policy,
        draw(some_bots(name, policy)),
        frozenset(draw(st.sets(st.sampled_from(KEYS)))),
        seconds(draw(st.sampled_from([1, 30, 120]))),
    )


@st.composite
def demands(draw: st.DrawFn, key: str) -> Demand:
    return Demand(
        key,
        f"Pool={key}",
        draw(st.integers(0, 30)),
        draw(st.integers(0, 10)),
        NOON - seconds(draw(st.sampled_from([0, 1, 700]))),
        draw(st.sampled_from([None, seconds(0.1), seconds(20), seconds(3600)])),
        draw(st.sampled_from([None, None, "spot"])),
    )


@st.composite
def farms(draw: st.DrawFn) -> Farm:
    count = draw(st.integers(1, 4))
    return Farm(
        [draw(fleets(number)) for number in range(count)],
        [draw(demands(key)) for key in KEYS if draw(st.booleans())],
        seen=NOON,
    )


def long_ago(farm: Farm) -> History:
    """It has been known for an hour that nothing is needed."""
    at = NOON - timedelta(hours=1)
    return plan(replace(farm, demands=[], seen=at), History(), at)[1]


def carried_out(fleet: Fleet, done: FleetPlan) -> Fleet:
    """As the operator does it, with bots that start at once and drained ones gone."""
    gone = {*done.remove, *done.idle[: done.release]}
    kept = [bot for bot in fleet.bots if bot.name not in gone]
    cordoned = [
        replace(bot, state=BotState.DRAINING)
        if bot.name in done.cordon
        else replace(bot, state=BotState.BUSY if bot.busy_slots else BotState.IDLE)
        if bot.name in done.restore
        else bot
        for bot in kept
    ]
    new = [Bot(f"new-{len(kept) + number}", BotState.STARTING, NOON) for number in range(done.create)]
    return replace(fleet, bots=[*cordoned, *new])


@given(farms(), st.booleans())
def test_bounds_hold(farm: Farm, remembers: bool) -> None:
    found, _ = plan(farm, long_ago(farm) if remembers else History(), NOON)
    for fleet in farm.fleets:
        done, policy = found.fleets[fleet.name], fleet.policy
        staying = [bot for bot in fleet.bots if bot.state not in ENDING]
        assert policy.min_bots <= done.need <= policy.max_bots
        if done.create:
            surge = policy.max_surge if any(bot.outdated for bot in staying) else 0
            assert len(fleet.bots) + done.create <= policy.max_bots + surge
        left = (
            len(staying)
            + done.create
            + len(done.restore)
            - done.release
            - len(done.cordon)
            - len(done.remove)
        )
        if not any(bot.outdated for bot in staying):
            assert left >= min(policy.min_bots, len(staying)) or done.create


@given(farms(), st.booleans())
def test_only_what_idles_is_let_go_and_nothing_is_named_twice(farm: Farm, remembers: bool) -> None:
    found, _ = plan(farm, long_ago(farm) if remembers else History(), NOON)
    for fleet in farm.fleets:
        done = found.fleets[fleet.name]
        bots = {bot.name: bot for bot in fleet.bots}
        named = [*done.idle, *done.cordon, *done.remove, *done.restore]
        assert len(named) == len(set(named)) and set(named) <= set(bots)
        assert all(bots[name].state is BotState.IDLE for name in done.idle)
        assert all(bots[name].state in WAITING for name in done.remove)
        assert all(bots[name].state is BotState.DRAINING for name in done.restore)
        assert done.release <= len(done.idle)
        staying = [bot for bot in fleet.bots if bot.state not in ENDING]
        for name in done.cordon:
            assert bots[name].outdated or len(staying) > fleet.policy.max_bots


@given(farms(), st.sampled_from(KEYS), st.integers(1, 20))
def test_more_work_never_means_fewer_bots(farm: Farm, key: str, more: int) -> None:
    grown = [
        replace(demand, queued=demand.queued + more) if demand.key == key else demand
        for demand in farm.demands
    ]
    before, _ = plan(farm, History(), NOON)
    after, _ = plan(replace(farm, demands=grown), History(), NOON)
    slots = {fleet.name: fleet.policy.slots_per_bot for fleet in farm.fleets}

    def total(found: dict[str, FleetPlan]) -> int:
        return sum(each.need * slots[name] for name, each in found.items())

    assert total(dict(after.fleets)) >= total(dict(before.fleets))


@given(farms())
def test_a_plan_that_was_carried_out_is_followed_by_no_other(farm: Farm) -> None:
    """Nothing flaps while nothing happens, apart from what is replaced."""
    farm = replace(
        farm,
        fleets=[
            replace(each, bots=[replace(bot, outdated=False) for bot in each.bots]) for each in farm.fleets
        ],
    )
    history = long_ago(farm)
    found, history = plan(farm, history, NOON)
    after = replace(farm, fleets=[carried_out(each, found.fleets[each.name]) for each in farm.fleets])
    again, _ = plan(after, history, NOON)
    for name, each in again.fleets.items():
        assert not each.create and not each.restore, (name, found.fleets[name], each)


@given(farms())
def test_no_job_waits_in_vain_while_a_fleet_that_serves_it_has_room(farm: Farm) -> None:
    late = [replace(demand, oldest_queued=NOON - seconds(3600)) for demand in farm.demands]
    farm = replace(farm, demands=late)
    found, _ = plan(farm, History(), NOON)
    room = {
        fleet.name: fleet.policy.max_bots - len(fleet.bots) - found.fleets[fleet.name].create > 0
        for fleet in farm.fleets
    }
    for demand in farm.demands:
        serving = [fleet for fleet in farm.fleets if demand.key in fleet.serves]
        if not demand.queued or not any(room[fleet.name] for fleet in serving):
            continue
        coming = sum(
            found.fleets[each.name].create
            + len(found.fleets[each.name].restore)
            + sum(bot.state in (BotState.IDLE, *WAITING) for bot in each.bots)
            + sum(
                bot.state is BotState.BUSY and bot.busy_slots < each.policy.slots_per_bot for bot in each.bots
            )
            for each in serving
        )
        assert coming, demand


@given(farms())
def test_stale_news_let_nothing_go(farm: Farm) -> None:
    found, _ = plan(farm, long_ago(farm), NOON + seconds(16))
    for each in found.fleets.values():
        assert not (each.release or each.cordon or each.remove or each.restore)


@given(farms())
def test_a_dry_run_changes_nothing(farm: Farm) -> None:
    dry = [replace(each, policy=replace(each.policy, dry_run=True)) for each in farm.fleets]
    found, _ = plan(replace(farm, fleets=dry), long_ago(farm), NOON)
    assert not any(each.acts for each in found.fleets.values())


@given(st.integers(1, 200), st.integers(1, 50))
def test_one_step_from_zero(queued: int, most: int) -> None:
    there = Fleet("linux", Policy(max_bots=most), serves=frozenset({"any"}))
    waiting = Demand("any", "Pool=any", queued)
    found, _ = plan(Farm([there], [waiting], seen=NOON), History(), NOON)
    assert found.fleets["linux"].create == min(queued, most)
