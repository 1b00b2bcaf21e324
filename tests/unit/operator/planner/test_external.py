"""What autoscalers are told to ask for: what the work needs, whatever they have written."""

from dataclasses import replace

import pytest
from buildgrid_operator.planner.farm import BotState, Farm
from buildgrid_operator.planner.plan import STALE_AFTER, plan
from buildgrid_operator.planner.policy import Policy

from tests.unit.operator.planner.farms import NOON, NOTHING, ROOMY, bots, decide, demand, fleet

EXTERNAL = replace(ROOMY, external=True, pinned=0)
IDLE, BUSY, STARTING = BotState.IDLE, BotState.BUSY, BotState.STARTING


def test_the_work_is_told_and_what_was_written_is_done() -> None:
    found = decide(fleet(policy=EXTERNAL), demand(7))
    assert (found.for_work, found.need, found.create) == (7, 0, 0)


@pytest.mark.parametrize("written", [0, 2, 7, 40])
def test_it_is_what_a_fleet_of_its_own_would_have_and_does_not_follow_what_is_written(written: int) -> None:
    there = [*bots(BUSY, 3), *bots(IDLE, 1), *bots(STARTING, 2)]
    work = demand(6, executing=3)
    own = decide(fleet(there), work)
    found = decide(fleet(there, policy=replace(EXTERNAL, pinned=written)), work)
    assert found.for_work == own.need == own.for_work == 9
    assert found.need == written


def test_the_bounds_hold() -> None:
    bounded = replace(EXTERNAL, min_bots=2, max_bots=5)
    assert decide(fleet(policy=bounded)).for_work == 2
    assert decide(fleet(policy=bounded), demand(50)).for_work == 5


def test_slots_count_as_jobs_and_warm_bots_are_asked_for() -> None:
    policy = replace(EXTERNAL, slots_per_bot=4, warm_bots=1)
    assert decide(fleet(policy=policy), demand(9)).for_work == 4


def test_work_that_another_fleet_takes_first_is_not_told_twice() -> None:
    auto = fleet(name="a", policy=replace(ROOMY, max_bots=3))
    last = fleet(name="b", policy=replace(EXTERNAL, priority=1))
    found, _ = plan(Farm([auto, last], [demand(5)], NOON), NOTHING, NOON)
    assert (found.fleets["a"].need, found.fleets["b"].for_work) == (3, 2)


def test_a_fleet_that_people_pinned_stays_so_for_those_who_ask_for_another() -> None:
    pinned = fleet(name="a", policy=Policy(max_bots=10, pinned=1))
    last = fleet(name="b", policy=replace(EXTERNAL, priority=1))
    found, _ = plan(Farm([pinned, last], [demand(5)], NOON), NOTHING, NOON)
    assert (found.fleets["a"].for_work, found.fleets["b"].for_work) == (1, 4)


def test_nothing_is_told_while_it_is_not_known_what_waits() -> None:
    there = fleet(bots(BUSY, 3), policy=EXTERNAL)
    late = NOON + STALE_AFTER * 2
    found, _ = plan(Farm([there], [demand(5)], NOON), NOTHING, late)
    assert found.fleets["linux"].for_work is None


def test_a_dry_run_tells_the_same() -> None:
    assert decide(fleet(policy=replace(EXTERNAL, dry_run=True)), demand(7)).for_work == 7
