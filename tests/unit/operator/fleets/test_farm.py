"""What the planner is told of fleets, their bots, and what waits."""

from datetime import datetime
from typing import Any

from buildgrid_operator.cluster.fleet_state import FleetState, Requirement
from buildgrid_operator.fleets.farm import farm_of, requirement_of
from buildgrid_operator.fleets.matching import Serving, property_set_of
from buildgrid_operator.fleets.starting import USUAL_START
from buildgrid_operator.fleets.views import FleetView
from buildgrid_operator.planner.farm import Bot, BotState, Farm, History
from buildgrid_operator.planner.plan import plan

from tests.unit.operator.fleets.seen import (
    INSTANCE,
    NEW,
    NOON,
    OLD,
    ago,
    bot_fleet,
    fleet_view,
    look,
    mark,
    seconds,
    seen_pod,
    session,
)
from tests.unit.operator.fleets.seen import requirement as jobs

SERVING = Serving(property_set_of(None))
GPU = [{"key": "Pool", "value": "gpu"}]


def fleet(*parts: Any, name: str = "linux", instance: str = INSTANCE, **spec: Any) -> FleetView:
    bots, orphaned = look(*parts)
    return FleetView(bot_fleet(name, **spec), NEW, bots, orphaned, instance=instance)


def farm(*parts: FleetView | Requirement, seen: datetime | None = NOON, **told: Any) -> Farm:
    views = [part for part in parts if isinstance(part, FleetView)]
    state = FleetState(requirements=tuple(part for part in parts if isinstance(part, Requirement)))
    return farm_of(views, state, seen, SERVING, told.pop("starts", {}), NOON, **told)


def bots(*parts: Any, unavailable: tuple[str, ...] = (), **told: Any) -> list[Bot]:
    spec = {"slotsPerBot": 4, **told.pop("spec", {})}
    view = fleet_view(*parts, unavailable=unavailable, fleet=bot_fleet(**spec), **told)
    return list(farm(view).fleets[0].bots)


def states(*parts: Any, **told: Any) -> list[tuple[BotState, int, bool]]:
    return [(bot.state, bot.busy_slots, bot.outdated) for bot in bots(*parts, **told)]


# --- bots


def test_bots_are_told_with_what_they_have_and_had() -> None:
    (bot,) = bots(seen_pod(), session(leases=3, count=17, connected=ago(60)))
    assert bot == Bot("linux-1", BotState.BUSY, ago(60), 3, False, 17)


def test_those_of_another_template_are_outdated() -> None:
    assert states(seen_pod(template=OLD), session()) == [(BotState.IDLE, 0, True)]


def test_those_that_have_ended_are_not_told_of() -> None:
    assert bots(seen_pod(1, phase="Failed"), session(1), seen_pod(2, phase="Succeeded")) == []


def test_those_that_end_are_told_of_where_there_are_more_than_surge_allows() -> None:
    ending = [seen_pod(number, ending=True) for number in (1, 2, 3)]
    told = bots(*ending, spec={"rollout": {"maxSurge": 1}})
    assert [(bot.name, bot.state) for bot in told] == [
        ("linux-2", BotState.DRAINING),
        ("linux-3", BotState.DRAINING),
    ]


def test_one_that_lost_its_session_has_no_free_slot() -> None:
    assert states(seen_pod(), registered=("uid-1",)) == [(BotState.BUSY, 4, False)]


def test_one_that_takes_no_lease_has_none_either() -> None:
    assert states(seen_pod(), session(status="UNHEALTHY")) == [(BotState.BUSY, 4, False)]
    assert states(seen_pod(), session(leases=1, status="UNHEALTHY")) == [(BotState.BUSY, 4, False)]
    assert states(seen_pod(), session(leases=1)) == [(BotState.BUSY, 1, False)]


def test_one_that_drains_and_works_may_be_taken_back() -> None:
    assert states(seen_pod(), session(leases=1), mark(leases=1)) == [(BotState.DRAINING, 1, False)]


def test_others_that_drain_may_not() -> None:
    """The planner takes no outdated ones back: it makes new ones instead."""
    assert states(seen_pod(), session(), mark()) == [(BotState.DRAINING, 0, True)]
    assert states(seen_pod(), session(leases=1), mark(owner="", leases=1)) == [(BotState.DRAINING, 1, True)]


def test_bots_on_a_node_that_goes_are_on_their_way_out_at_once() -> None:
    told = states(seen_pod(), session(leases=2), unavailable=("node-1",))
    assert told == [(BotState.DRAINING, 2, True)]


# --- fleets


def test_a_fleet_is_known_by_namespace_and_name_with_its_policy_and_start_time() -> None:
    told = farm(
        fleet(scaling={"maxBots": 3}), fleet(name="other"), starts={"farm/linux": seconds(7)}, seen=ago(5)
    )
    first, second = told.fleets
    assert (first.name, first.policy.max_bots, first.start_time) == ("farm/linux", 3, seconds(7))
    assert (second.name, second.start_time) == ("farm/other", USUAL_START)
    assert told.seen == ago(5)


def test_fleets_serve_what_matches_in_their_own_instance() -> None:
    usual, gpu, elsewhere = jobs(), jobs(Pool="gpu"), jobs(instance="b")
    told = farm(
        fleet(), fleet(name="gpu", properties=GPU), fleet(name="b", instance="b"), usual, gpu, elsewhere
    )
    keys = {each.hash: f"{each.instance}/{each.hash}" for each in (usual, gpu)}
    linux, with_gpu, other = (each.serves for each in told.fleets)
    assert linux == {keys[usual.hash]}
    assert with_gpu == {keys[usual.hash], keys[gpu.hash]}
    assert other == {f"b/{elsewhere.hash}"}


def test_one_that_makes_no_pods_leaves_the_work_to_others() -> None:
    cheap, dear = fleet(name="cheap"), fleet(name="dear", scaling={"priority": 1})

    def made(told: Farm) -> list[int]:
        found, _ = plan(told, History(), NOON)
        return [found.fleets[each.name].create for each in told.fleets]

    assert made(farm(cheap, dear, jobs(2))) == [2, 0]
    assert made(farm(cheap, dear, jobs(2), held={"farm/cheap"})) == [0, 2]


def test_without_a_state_nothing_waits_as_far_as_is_known() -> None:
    view = fleet(seen_pod())
    told = farm_of([view], None, None, SERVING, {}, NOON)
    assert (list(told.demands), told.seen) == ([], None)
    assert [bot.name for bot in told.fleets[0].bots] == ["linux-1"]


# --- demands


def test_jobs_are_told_with_what_is_known_of_them() -> None:
    (demand,) = farm(fleet(), jobs(3, executing=2)).demands
    assert (demand.queued, demand.executing, demand.duration, demand.avoided) == (3, 2, seconds(60), None)


def test_jobs_that_avoid_a_class_are_told_apart_and_none_twice() -> None:
    wanted = jobs(10, executing=4, avoidances={"spot": 3, "cheap": 2, "none": 0})
    told = farm(fleet(capacityClass="spot"), wanted)
    assert [(each.avoided, each.queued, each.executing) for each in told.demands] == [
        (None, 5, 4),
        ("cheap", 2, 0),
        ("spot", 3, 0),
    ]
    assert told.fleets[0].serves == {each.key for each in told.demands}
    assert len(told.fleets[0].serves) == 3


def test_a_demand_is_known_to_be_of_its_requirement() -> None:
    gpu = jobs(2, Pool="gpu", avoidances={"spot": 1})
    state = FleetState(requirements=(jobs(), gpu))
    for demand in farm(fleet(), gpu).demands:
        assert requirement_of(demand, state) == gpu
        assert requirement_of(demand, FleetState()) is None


def test_jobs_are_called_by_what_not_every_fleet_offers() -> None:
    usual, gpu = fleet(), fleet(name="gpu", properties=GPU)

    def called(wanted: Requirement, *views: FleetView) -> str:
        return farm(*views, wanted).demands[0].words

    whole: dict[str, Any] = {"OSFamily": "linux", "ISA": "x86-64", "Pool": "gpu"}
    assert called(jobs(**whole), usual, gpu) == "Pool=gpu"
    assert called(jobs(**whole), gpu) == "ISA=x86-64, OSFamily=linux, Pool=gpu"
    assert called(jobs(OSFamily="linux"), usual, gpu) == "OSFamily=linux"
    assert called(jobs(Pool="x"), usual) == "Pool=x"
    assert called(jobs(), usual) == "any bot"
