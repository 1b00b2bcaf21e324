"""Which pod, session and mark are one bot, and what it is doing."""

from typing import Any

import pytest
from buildgrid_operator.cluster.fleet_state import FleetState, Mark, Session
from buildgrid_operator.fleets.bots import (
    Situation,
    bot_state,
    external_sessions,
    leases_of,
    mark_owner,
    moments_of,
    situation_of,
)
from buildgrid_operator.fleets.views import BotView, PodView
from buildgrid_operator.planner.farm import BotState

from tests.unit.operator.fleets.seen import (
    CLUSTER,
    FLEET,
    NOON,
    OURS,
    UNSCHEDULABLE,
    ago,
    look,
    mark,
    seen_pod,
    session,
    waiting,
)


def one(*parts: PodView | Session | Mark, registered: tuple[str, ...] = ()) -> BotView:
    (found,), _ = look(*parts, registered=registered)
    return found


def test_the_owner_of_marks_names_cluster_and_fleet() -> None:
    assert mark_owner("c", "f") == "c/f"


@pytest.mark.parametrize(
    "other",
    [{"fleet": "another"}, {"cluster": "another"}, {"instance": "another"}, {"cluster": ""}],
    ids=str,
)
def test_a_session_of_somebody_else_is_not_ours_though_it_has_the_name_of_a_pod(
    other: dict[str, Any],
) -> None:
    bot = one(seen_pod(), session(**other))
    assert bot.session is None
    assert not bot.registered
    assert situation_of(bot) is Situation.STARTING


def test_sessions_of_no_fleet_of_this_cluster_are_external() -> None:
    ours, bare = session(1), session(2, fleet="", cluster="")
    elsewhere, gone = session(3, cluster="another"), session(4, fleet="gone")
    state = FleetState(sessions=(ours, bare, elsewhere, gone))
    assert external_sessions(state, {FLEET}, cluster_uid=CLUSTER) == (bare, elsewhere, gone)
    assert external_sessions(None, {FLEET}, cluster_uid=CLUSTER) == ()


@pytest.mark.parametrize(
    ("parts", "situation", "told"),
    [
        ([seen_pod()], Situation.STARTING, BotState.STARTING),
        (
            [seen_pod(phase="Pending", node=None, conditions=[UNSCHEDULABLE])],
            Situation.BLOCKED,
            BotState.BLOCKED,
        ),
        (
            [seen_pod(phase="Pending", container=waiting("ErrImagePull"))],
            Situation.BLOCKED,
            BotState.BLOCKED,
        ),
        ([seen_pod(), session()], Situation.IDLE, BotState.IDLE),
        ([seen_pod(), session(leases=1)], Situation.BUSY, BotState.BUSY),
        ([seen_pod(), session(status="UNHEALTHY")], Situation.SICK, BotState.BUSY),
        ([seen_pod(), session(), mark()], Situation.DRAINING, BotState.DRAINING),
        ([seen_pod(), session(), mark(owner="")], Situation.DRAINING, BotState.DRAINING),
        ([seen_pod(ending=True), session(leases=1)], Situation.GONE, None),
        ([seen_pod(deleted=True)], Situation.GONE, None),
        ([seen_pod(phase="Failed")], Situation.GONE, None),
    ],
)
def test_what_a_bot_is_doing(
    parts: list[PodView | Session | Mark], situation: Situation, told: BotState | None
) -> None:
    bot = one(*parts)
    assert situation_of(bot) is situation
    assert bot_state(bot) is told


def test_one_that_lost_its_session_counts_as_busy() -> None:
    bot = one(seen_pod(), registered=("uid-1",))
    assert situation_of(bot) is Situation.LOST
    assert bot_state(bot) is BotState.BUSY


def test_whose_a_mark_is_is_known() -> None:
    assert one(seen_pod(), mark(owner=OURS)).own_mark
    assert not one(seen_pod(), mark(owner="")).own_mark
    assert not one(seen_pod(), mark(owner="cluster-1/another")).own_mark


def test_a_mark_in_another_instance_is_on_another_bot() -> None:
    assert one(seen_pod(), mark(instance="another")).mark is None


def test_leases_that_only_the_mark_tells_of_count() -> None:
    assert leases_of(one(seen_pod(), mark(leases=2))) == 2


def test_bots_are_in_the_order_of_their_numbers() -> None:
    bots, _ = look(seen_pod(10), seen_pod(9), seen_pod(2))
    assert [bot.pod.number for bot in bots] == [2, 9, 10]


def orphans(*parts: PodView | Mark) -> list[str]:
    _, found = look(*parts)
    return [each.bot_id for each in found]


def test_a_mark_of_ours_without_a_pod_is_orphaned() -> None:
    assert orphans(mark(1, since=ago(60)), mark(2, since=ago(60)), seen_pod(2)) == ["linux-1"]


def test_marks_of_others_are_no_orphans() -> None:
    assert orphans(mark(1, owner="", since=ago(60)), mark(2, owner="a/b", since=ago(60))) == []


def test_a_mark_whose_bot_still_has_a_session_stays() -> None:
    """The pod may be on a node that nobody reaches: its bot would get work again."""
    assert orphans(mark(1, since=ago(60), connected=True)) == []


def test_a_mark_that_was_just_made_may_be_on_a_pod_that_the_watch_will_show() -> None:
    assert orphans(mark(1, since=ago(1))) == []


def test_it_is_idle_since_it_was_seen_to_be() -> None:
    before, _ = look(seen_pod(), session(leases=1), now=ago(60))
    idle, _ = look(seen_pod(), session(count=1), since=moments_of(before), now=ago(30))
    later, _ = look(seen_pod(), session(count=1), since=moments_of(idle), now=NOON)
    assert later[0].since == ago(30)


def test_one_that_never_had_an_action_is_idle_since_it_came() -> None:
    assert one(seen_pod(), session(connected=ago(90))).since == ago(90)


def test_it_drains_since_it_was_marked() -> None:
    assert one(seen_pod(), session(leases=1), mark(since=ago(500))).since == ago(500)


@pytest.mark.parametrize("told", [{"known": False}, {"fresh": False}], ids=["not known", "old"])
def test_while_nobody_knows_of_sessions_nobody_is_late(told: dict[str, Any]) -> None:
    before, _ = look(seen_pod(), now=ago(600))
    known, _ = look(seen_pod(), since=moments_of(before), now=NOON)
    unknown, _ = look(seen_pod(), since=moments_of(before), now=NOON, **told)
    assert known[0].since == ago(600)
    assert unknown[0].since == NOON
