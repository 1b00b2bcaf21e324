"""What the planner decides, by scenes that a platform engineer would draw."""

from dataclasses import replace
from datetime import timedelta

from buildgrid_operator.planner.farm import Bot, BotState, Demand, Farm, Fleet, History
from buildgrid_operator.planner.plan import Limit, plan
from buildgrid_operator.planner.policy import Policy, Rate, RateChoice, RateUnit, ScalingRules, Schedule

from tests.unit.operator.planner.farms import NOON, bots, decide, demand, fleet, seconds

IDLE, BUSY, STARTING, BLOCKED, DRAINING = (
    BotState.IDLE,
    BotState.BUSY,
    BotState.STARTING,
    BotState.BLOCKED,
    BotState.DRAINING,
)
MINUTE = timedelta(minutes=1)


def known(*parts: Fleet, since: timedelta = timedelta(hours=1)) -> History:
    """Of fleets that needed nothing for so long."""
    _, history = plan(Farm(parts, seen=NOON - since), History(), NOON - since)
    return history


# --- more


def test_from_zero_every_long_job_gets_a_bot_in_one_step() -> None:
    found = decide(fleet(), demand(12))
    assert found.create == 12
    assert found.reason == "12 jobs that need Pool=any would wait more than 30 s; 12 bots are created"


def test_short_jobs_are_packed_into_the_target_wait() -> None:
    assert decide(fleet(), demand(600, duration=seconds(1))).create == 20


def test_a_bot_is_not_bought_for_less_work_than_half_its_start() -> None:
    hasty = Policy(max_bots=100, target_wait=seconds(1))
    assert decide(fleet(policy=hasty), demand(600, duration=seconds(1))).create == 40


def test_jobs_of_unknown_duration_count_as_long() -> None:
    assert decide(fleet(), demand(12, duration=None)).create == 12


def test_a_job_that_is_one_short_still_gets_a_bot() -> None:
    assert decide(fleet(), demand(1, duration=seconds(0.1))).create == 1


def test_bots_that_start_are_supply() -> None:
    assert decide(fleet(bots(STARTING, 12)), demand(12)).create == 0
    found = decide(fleet(bots(STARTING, 3)), demand(7))
    assert found.create == 4 and "3 bots start; 4 bots are created" in found.reason


def test_slots_count_not_bots() -> None:
    wide = Policy(max_bots=100, slots_per_bot=8)
    assert decide(fleet(policy=wide), demand(12)).create == 2
    assert decide(fleet(bots(IDLE, 1), policy=wide), demand(12)).create == 1


def test_busy_slots_that_will_be_free_in_time_need_no_help() -> None:
    assert decide(fleet(bots(BUSY, 10)), demand(5, executing=10, duration=seconds(10))).create == 0


def test_long_jobs_before_short_ones_do_not_hold_them_up() -> None:
    found = decide(
        fleet(bots(BUSY, 10), serves=("long", "short")),
        demand(0, key="long", executing=10),
        demand(5, key="short", duration=seconds(10)),
    )
    assert found.create >= 1


def test_whoever_waited_too_long_hopes_for_busy_slots_no_more() -> None:
    waiting = demand(5, executing=10, duration=seconds(10), oldest=NOON - seconds(31))
    assert decide(fleet(bots(BUSY, 10)), waiting).create > 0


def test_warm_bots_are_kept_beyond_what_works() -> None:
    warm = Policy(max_bots=100, warm_bots=2)
    assert decide(fleet(policy=warm)).create == 2
    assert decide(fleet(bots(BUSY, 3), policy=warm), demand(0, executing=3)).create == 2


def test_max_bots_counts_what_drains_too() -> None:
    small = Policy(max_bots=5)
    found = decide(fleet(bots(DRAINING, 3), policy=replace(small, max_actions_per_bot=0)), demand(12))
    assert found.create == 2 and Limit.MAX_BOTS in found.limits
    assert found.reason.startswith("12 jobs") and found.reason.endswith("limited by maxBots 5")


def test_a_cordoned_bot_is_taken_back_before_one_is_created() -> None:
    found = decide(fleet(bots(DRAINING, 2)), demand(3))
    assert found.restore == ("draining-0", "draining-1") and found.create == 1


# --- which fleet


def cheap_and_dear() -> tuple[Fleet, Fleet]:
    cheap = fleet(name="cheap", policy=Policy(max_bots=4, priority=0), serves=("any", "small"))
    return cheap, fleet(name="dear", policy=Policy(max_bots=4, priority=1))


def created(*parts: Fleet | Demand) -> dict[str, int]:
    fleets = [part for part in parts if isinstance(part, Fleet)]
    rest = [part for part in parts if isinstance(part, Demand)]
    found, _ = plan(Farm(fleets, rest, seen=NOON), History(), NOON)
    return {name: each.create for name, each in found.fleets.items()}


def test_fleets_are_filled_in_order_and_no_job_counts_twice() -> None:
    assert created(*cheap_and_dear(), demand(6)) == {"cheap": 4, "dear": 2}


def test_whoever_can_go_two_ways_makes_room_for_whoever_cannot() -> None:
    assert created(*cheap_and_dear(), demand(4), demand(4, key="small")) == {"cheap": 4, "dear": 4}


def test_the_cheaper_slot_comes_first_among_equals() -> None:
    spot = fleet(name="spot", policy=Policy(max_bots=9, cost=1))
    assert created(fleet(name="dear", policy=Policy(max_bots=9, cost=3)), spot, demand(3)) == {
        "dear": 0,
        "spot": 3,
    }
    wide = fleet(name="wide", policy=Policy(max_bots=9, cost=4, slots_per_bot=8))
    assert created(spot, wide, demand(3)) == {"spot": 0, "wide": 1}


def test_demand_of_a_fleet_without_nodes_goes_to_another() -> None:
    stuck = fleet(bots(BLOCKED, 4), name="a", policy=Policy(max_bots=9))
    assert created(stuck, fleet(name="b", policy=Policy(max_bots=9)), demand(6)) == {"a": 0, "b": 6}


def test_a_fleet_without_nodes_does_not_order_ever_more() -> None:
    assert created(fleet(bots(BLOCKED, 6)), demand(6)) == {"linux": 0}


def test_jobs_avoid_a_class_while_another_serves_them() -> None:
    spot = fleet(name="spot", policy=Policy(max_bots=9, capacity_class="spot"))
    stable = fleet(name="stable", policy=Policy(max_bots=9, priority=5))
    assert created(spot, stable, demand(2, avoided="spot")) == {"spot": 0, "stable": 2}
    assert created(spot, demand(2, avoided="spot")) == {"spot": 2}


def test_what_no_fleet_serves_is_told() -> None:
    found, _ = plan(Farm([fleet()], [demand(2, key="gpu")], seen=NOON), History(), NOON)
    assert [each.words for each in found.unserved] == ["Pool=gpu"] and not found.fleets["linux"].acts


# --- fewer


def test_bots_go_once_less_was_needed_for_the_idle_timeout() -> None:
    there = fleet(bots(IDLE, 5))
    assert decide(there, history=known(there, since=timedelta(minutes=4))).release == 0
    found = decide(there, history=known(there))
    assert found.release == 5 and set(found.idle) == {f"idle-{number}" for number in range(5)}
    assert found.reason == "5 of 5 idle bots go: not more than 0 were needed for 5 min"


def test_after_a_restart_nothing_is_let_go_for_a_while() -> None:
    found = decide(fleet(bots(IDLE, 5)))
    assert not found.acts
    assert found.reason.endswith("none is let go before it has been known for 5 min what is needed")


def test_a_plan_says_when_to_look_again() -> None:
    there = fleet(bots(IDLE, 5))
    found, history = plan(Farm([there], seen=NOON), History(), NOON)
    assert found.wake_at == NOON + timedelta(minutes=5)
    later = found.wake_at
    again, _ = plan(Farm([there], seen=later), history, later)
    assert again.fleets["linux"].release == 5


def test_the_longest_idle_goes_first_and_outdated_ones_before() -> None:
    idle = bots(IDLE, 3)
    there = [
        replace(idle[0], since=NOON - 2 * MINUTE),
        replace(idle[1], since=NOON - 9 * MINUTE),
        replace(idle[2], since=NOON - MINUTE, outdated=True),
    ]
    empty = fleet()
    assert decide(fleet(there), history=known(empty)).idle == ("idle-2", "idle-1", "idle-0")


def test_what_never_registered_goes_before_what_idles() -> None:
    empty = fleet()
    found = decide(fleet(bots(STARTING, 1), bots(IDLE, 2)), demand(1), history=known(empty))
    assert found.remove == ("starting-0",) and found.release == 1


def test_a_lower_maximum_holds_at_once_and_cordons_what_is_busy() -> None:
    found = decide(fleet(bots(BUSY, 4), bots(IDLE, 1), policy=Policy(max_bots=2)), demand(0, executing=4))
    assert found.release == 1 and len(found.cordon) == 2
    assert "2 bots are let go: maxBots is 2" in found.reason


# --- bounds


def test_rates_bound_growth_in_a_period() -> None:
    rules = ScalingRules(rates=(Rate(RateUnit.BOTS, 4, MINUTE),))
    there = fleet(policy=Policy(max_bots=100, scale_up=rules))
    farm = Farm([there], [demand(9)], seen=NOON)
    first, history = plan(farm, History(), NOON)
    assert first.fleets["linux"].create == 4 and Limit.SCALE_UP in first.fleets["linux"].limits
    grown = replace(there, bots=bots(STARTING, 4))
    soon = NOON + seconds(10)
    second, history = plan(Farm([grown], [demand(9)], seen=soon), history, soon)
    assert second.fleets["linux"].create == 0 and second.wake_at == NOON + MINUTE
    third, _ = plan(Farm([grown], [demand(9)], seen=NOON + MINUTE), history, NOON + MINUTE)
    assert third.fleets["linux"].create == 4


def test_work_that_has_just_come_is_not_said_to_be_limited_by_rules_that_there_are_not() -> None:
    farm = Farm([fleet(policy=Policy(max_bots=4))], [], seen=NOON)
    _, history = plan(farm, History(), NOON)
    soon = NOON + seconds(10)
    found, _ = plan(replace(farm, demands=[demand(2)], seen=soon), history, soon)
    assert found.fleets["linux"].need == 2
    assert Limit.SCALE_UP not in found.fleets["linux"].limits


def test_a_percentage_counts_from_the_beginning_of_the_period() -> None:
    rules = ScalingRules(rates=(Rate(RateUnit.PERCENT, 50, MINUTE),))
    there = fleet(bots(IDLE, 5), policy=Policy(max_bots=100, scale_down=rules))
    assert decide(there, history=known(there)).release == 3


def test_a_disabled_direction_does_not_move() -> None:
    there = fleet(bots(IDLE, 5), policy=Policy(scale_down=ScalingRules(choice=RateChoice.DISABLED)))
    found = decide(there, history=known(there))
    assert not found.acts and Limit.SCALE_DOWN in found.limits


def test_a_stabilized_growth_waits_until_the_need_has_lasted() -> None:
    slow = fleet(policy=Policy(max_bots=100, scale_up=ScalingRules(stabilization=MINUTE)))
    _, history = plan(Farm([slow], seen=NOON - seconds(30)), History(), NOON - seconds(30))
    _, history = plan(Farm([slow], [demand(5)], seen=NOON), history, NOON)
    at = NOON + seconds(59)
    assert decide(slow, demand(5), now=at, history=history).create == 0
    at = NOON + seconds(61)
    assert decide(slow, demand(5), now=at, history=history).create == 5


def test_the_pin_says_how_many_within_the_bounds() -> None:
    pinned = Policy(max_bots=8, min_bots=1, pinned=20)
    assert decide(fleet(policy=pinned)).create == 8
    found = decide(fleet(bots(IDLE, 5), policy=replace(pinned, pinned=0)))
    assert found.need == 1 and found.release == 4


def test_a_schedule_raises_the_floor_while_it_lasts() -> None:
    morning = Schedule("0 8 * * MON-FRI", timedelta(hours=10), 6, "Europe/Berlin")
    there = fleet(policy=Policy(max_bots=20, schedules=(morning,)))
    found, _ = plan(Farm([there], seen=NOON), History(), NOON)
    assert found.fleets["linux"].create == 6
    assert found.fleets["linux"].reason == "at least 6 bots are asked for; 6 bots are created"
    assert found.wake_at == NOON.replace(hour=17)


def test_a_pause_holds_one_direction() -> None:
    assert decide(fleet(policy=Policy(paused_scale_out=True)), demand(3)).create == 0
    there = fleet(bots(IDLE, 5), policy=Policy(paused_scale_in=True))
    found = decide(there, history=known(there))
    assert not found.acts and Limit.PAUSED in found.limits


def test_demand_of_a_paused_fleet_goes_to_another() -> None:
    paused = fleet(name="a", policy=Policy(paused_scale_out=True))
    assert created(paused, fleet(name="b"), demand(3)) == {"a": 0, "b": 3}


def test_a_dry_run_tells_and_does_nothing() -> None:
    found = decide(fleet(policy=Policy(dry_run=True)), demand(3))
    assert not found.acts and found.need == 3
    assert found.reason.startswith("dry run, nothing is done: 3 jobs")


def test_without_news_nothing_is_let_go_and_the_fallback_is_raised() -> None:
    there = fleet(bots(IDLE, 2), bots(BUSY, 9), policy=Policy(max_bots=4, fallback_bots=20))
    late = NOON + seconds(16)
    found, history = plan(Farm([there], [demand(9)], seen=NOON), known(there), late)
    assert not found.fleets["linux"].acts and found.fleets["linux"].limits == {Limit.STALE}
    set_back = NOON - seconds(16)
    found, _ = plan(Farm([there], [demand(9)], seen=NOON), known(there), set_back)
    assert not found.fleets["linux"].acts and found.fleets["linux"].limits == {Limit.STALE}
    low = fleet(bots(IDLE, 2), policy=Policy(max_bots=4, fallback_bots=20))
    found, _ = plan(Farm([low], seen=None), history, late)
    assert found.fleets["linux"].create == 2


# --- replacing


def old(count: int, state: BotState = BUSY) -> list[Bot]:
    return [replace(bot, outdated=True) for bot in bots(state, count, name="old")]


def test_a_busy_fleet_rolls_by_surge_and_nothing_is_killed() -> None:
    policy = Policy(max_bots=4)
    running = demand(0, executing=4)
    first = decide(fleet(old(4), policy=policy), running)
    assert first.create == 1 and not first.cordon
    second = decide(fleet(old(4), bots(IDLE, 1, name="new"), policy=policy), running)
    assert len(second.cordon) == 1 and second.cordon[0].startswith("old") and not second.create


def test_unavailable_bots_let_it_roll_without_surge() -> None:
    policy = Policy(max_bots=4, max_surge=0, max_unavailable=2)
    found = decide(fleet(old(4), policy=policy), demand(0, executing=4))
    assert len(found.cordon) == 2 and not found.create


def test_a_worn_out_bot_is_replaced_the_same_way() -> None:
    worn = [replace(bots(IDLE, 1)[0], actions=100)]
    found = decide(fleet(worn, policy=Policy(min_bots=1, max_actions_per_bot=100)))
    assert found.create == 1


def test_outdated_bots_that_never_came_up_go_at_once() -> None:
    found = decide(fleet(old(3, BLOCKED)), demand(3))
    assert set(found.remove) == {"old-0", "old-1", "old-2"}
