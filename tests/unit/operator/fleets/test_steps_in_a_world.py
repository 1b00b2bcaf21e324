"""Steps in a world in which calls fail, answers are lost, views are old and the operator ends at any step."""

from random import Random

from buildgrid_operator.fleets.bots import Situation, situation_of
from buildgrid_operator.fleets.steps import Steps
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.operator.fleets.operators import Operator, any_plan
from tests.unit.operator.fleets.seen import OURS, bot_fleet, seconds
from tests.unit.operator.fleets.world import World

RANDOMS = st.integers(0, 2**32).map(Random)


def chaos(world: World, operator: Operator, turns: int) -> None:
    """The world goes on, and the operator does anything that it may be told to do."""
    for _ in range(turns):
        for _ in range(world.random.randint(1, 4)):
            world.happen()
        before = marks_of_people(world)
        operator.run(any_plan(world.random))
        assert before <= marks_of_people(world), "a mark of a person was taken away"
        world.picture()


def marks_of_people(world: World) -> set[str]:
    return {name for name, each in world.marks.items() if each.owner != OURS}


def calm(world: World, operator: Operator, turns: int = 24) -> Steps:
    """Nothing fails any more, people have taken their marks away, what runs ends. Returns the last steps."""
    world.faults = False
    world.cordoned.clear()
    for name in marks_of_people(world):
        del world.marks[name]
    steps = Steps()
    for _ in range(turns):
        world.now += seconds(60)
        for name in world.leases:
            world.leases[name] = 0
        for _ in world.pods:
            world.register()
        world.reap()
        world.picture()
        steps = operator.run()
    return steps


@settings(max_examples=150, deadline=None)
@given(RANDOMS)
def test_no_running_action_is_ended_and_no_mark_is_lost(random: Random) -> None:
    world = World(random, bot_fleet(scaling={"maxBots": 20}))
    world.picture()
    chaos(world, Operator(world), 40)
    assert world.killed == []
    assert world.wrongs == []


@settings(max_examples=60, deadline=None)
@given(RANDOMS, st.integers(0, 4))
def test_whatever_happened_it_ends_with_what_was_asked_for_and_nothing_else(
    random: Random, wanted: int
) -> None:
    world = World(random, bot_fleet(replicas=wanted, scaling={"maxBots": 20, "idleTimeout": "0s"}))
    world.picture()
    operator = Operator(world)
    chaos(world, operator, 12)
    last = calm(world, operator)
    bots = operator.look().bots
    assert [situation_of(bot) for bot in bots] == [Situation.IDLE] * wanted
    assert {bot.pod.template_hash for bot in bots} <= {world.template}
    assert world.marks == {}
    assert all(pod.protected for pod in world.pods.values())
    assert last == Steps()
    assert world.killed == []


@settings(max_examples=60, deadline=None)
@given(RANDOMS)
def test_bots_that_people_have_marked_are_left_alone(random: Random) -> None:
    world = World(random, bot_fleet(scaling={"maxBots": 20}))
    world.picture()
    operator = Operator(world)
    chaos(world, operator, 15)
    world.faults = False
    view = operator.look()
    theirs = {bot.pod.name for bot in view.bots if bot.mark is not None and not bot.own_mark}
    ended = {bot.pod.name for bot in view.bots if situation_of(bot) is Situation.GONE}
    steps = operator.run(any_plan(random))
    asked = {*steps.drain_if_idle, *steps.drain_when_idle, *steps.undrain, *steps.settle}
    assert not asked & theirs
    assert not {each.name for each in steps.delete} & theirs - ended
