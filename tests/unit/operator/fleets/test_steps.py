"""Which steps a plan becomes: who is asked to drain, whose pod goes, whose mark is taken away."""

from datetime import timedelta
from typing import Any

import pytest
from buildgrid_operator.cluster.fleet_state import Mark, Session
from buildgrid_operator.fleets.bots import moments_of
from buildgrid_operator.fleets.steps import Steps, deletions_after, steps_of
from buildgrid_operator.fleets.views import FleetView, PodView
from buildgrid_operator.planner.plan import FleetPlan, Limit

from tests.unit.operator.fleets.seen import (
    NOON,
    OLD,
    ago,
    fleet_view,
    look,
    mark,
    seconds,
    seen_pod,
    session,
    waiting,
    wish,
)

NOTHING = wish()
Part = PodView | Session | Mark


def steps(plan: FleetPlan | None, *parts: Part, drain_timeout: timedelta | None = None, **told: Any) -> Steps:
    return steps_of(plan, fleet_view(*parts, **told), drain_timeout=drain_timeout, now=NOON)


def idle(number: int) -> list[Part]:
    return [seen_pod(number), session(number)]


def busy(number: int) -> list[Part]:
    return [seen_pod(number), session(number, leases=1)]


# --- what a plan becomes


def test_nothing_is_done_about_a_fleet_that_is_as_it_should_be() -> None:
    assert steps(NOTHING, *idle(1), *busy(2)) == Steps()


def test_as_many_pods_are_made_as_planned() -> None:
    assert steps(wish(create=3)) == Steps(create=3)


def test_no_pod_is_made_while_those_before_do_not_come_up() -> None:
    view = fleet_view()
    assert steps_of(wish(create=3), view, drain_timeout=None, now=NOON, held=True) == Steps()


def test_the_most_useless_ones_are_asked_for_first() -> None:
    names = ("linux-2", "linux-3", "linux-1")
    found = steps(wish(release=2, idle=names), *idle(1), *idle(2), *idle(3))
    assert found == Steps(drain_if_idle=("linux-2", "linux-3"))


def test_those_that_never_registered_are_marked_before_they_go() -> None:
    assert steps(wish(remove=("linux-1",)), seen_pod()) == Steps(drain_if_idle=("linux-1",))


def test_busy_ones_finish_what_they_have() -> None:
    assert steps(wish(cordon=("linux-1",)), *busy(1)) == Steps(drain_when_idle=("linux-1",))


def test_one_that_is_marked_already_is_not_cordoned_again() -> None:
    assert steps(wish(cordon=("linux-1",)), *busy(1), mark(leases=1)) == Steps()


def test_one_that_drains_and_still_works_is_taken_back() -> None:
    assert steps(wish(restore=("linux-1",)), *busy(1), mark(leases=1)) == Steps(undrain=("linux-1",))


def test_one_that_has_finished_is_not_taken_back_for_its_delete_may_be_on_its_way() -> None:
    found = steps(wish(restore=("linux-1",)), *idle(1), mark())
    assert found == Steps(drain_if_idle=("linux-1",))


@pytest.mark.parametrize("ending", [{"ending": True}, {"deleted": True}, {"phase": "Failed"}], ids=str)
def test_one_that_ends_is_never_taken_back(ending: dict[str, Any]) -> None:
    found = steps(
        wish(restore=("linux-1",)), seen_pod(**ending), session(leases=1), mark(leases=1, disrupted=True)
    )
    assert found.undrain == ()


def test_a_bot_that_somebody_else_has_marked_is_left_alone_whatever_the_plan_says() -> None:
    told = {"restore": ("linux-1",), "cordon": ("linux-1",), "remove": ("linux-1",)}
    for each in (mark(owner="", leases=1), mark(owner="another/fleet")):
        found = steps(wish(release=1, idle=("linux-1",), **told), *busy(1), each, unavailable=["node-1"])
        assert found == Steps()


# --- what is finished


def test_one_with_our_mark_and_no_lease_is_asked_for_once_more_before_its_pod_goes() -> None:
    """Whoever made the mark, and though the state says it: it may be older than an Undrain."""
    assert steps(NOTHING, *idle(1), mark()) == Steps(drain_if_idle=("linux-1",))


def test_those_that_the_answer_names_are_deleted_by_uid() -> None:
    view = fleet_view(*idle(1), *idle(2), seen_pod(3, template=OLD), session(3))
    found = deletions_after(["linux-1", "linux-3", "linux-9"], view)
    assert [(each.name, each.uid, each.why, each.interrupts) for each in found] == [
        ("linux-1", "uid-1", "it has nothing to do", 0),
        ("linux-3", "uid-3", "its template is not the fleet's any more, and it has nothing to do", 0),
    ]


def test_one_that_ends_already_is_not_deleted_again() -> None:
    assert deletions_after(["linux-1"], fleet_view(seen_pod(ending=True), session(), mark())) == ()


def test_pods_that_have_ended_by_themselves_are_cleared_with_what_they_said() -> None:
    end = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    (found,) = steps(NOTHING, seen_pod(phase="Failed", container=end), mark()).delete
    assert (found.name, found.uid, found.interrupts) == ("linux-1", "uid-1", 0)
    assert found.why == "container bot of the pod linux-1 ended with exit code 137: OOMKilled"


def test_a_mark_without_a_pod_is_taken_away() -> None:
    assert steps(NOTHING, mark(7, since=ago(60))) == Steps(settle=("linux-7",))


# --- not known


@pytest.mark.parametrize("plan", [None, wish(limits=frozenset({Limit.STALE}))], ids=["no plan", "stale"])
def test_while_it_is_not_known_what_waits_only_pods_that_have_ended_go(plan: FleetPlan | None) -> None:
    parts = [*idle(1), mark(1), *busy(2), seen_pod(3, ending=True), seen_pod(4, phase="Failed")]
    found = steps(plan, *parts, mark(9, since=ago(60)), unavailable=["node-1"], drain_timeout=seconds(0))
    assert [each.name for each in found.delete] == ["linux-4"]
    assert found == Steps(delete=found.delete)


def test_what_the_fallback_asks_for_is_made_all_the_same() -> None:
    assert steps(wish(create=2, limits=frozenset({Limit.STALE}))) == Steps(create=2)


# --- disruption


@pytest.mark.parametrize("bot", [idle(1), busy(1), [seen_pod()]], ids=["idle", "busy", "starting"])
def test_bots_on_a_node_that_goes_are_marked_as_disrupted(bot: list[Part]) -> None:
    assert steps(NOTHING, *bot, unavailable=["node-1"]) == Steps(drain_disrupted=("linux-1",))


def test_they_are_told_of_once_and_go_when_they_have_finished() -> None:
    still = steps(NOTHING, *busy(1), mark(leases=1, disrupted=True), unavailable=["node-1"])
    assert still == Steps()
    done = steps(NOTHING, *idle(1), mark(disrupted=True), unavailable=["node-1"])
    assert done == Steps(drain_if_idle=("linux-1",))


def test_one_that_drained_already_and_has_finished_just_goes() -> None:
    assert steps(NOTHING, *idle(1), mark(), unavailable=["node-1"]) == Steps(drain_if_idle=("linux-1",))


def test_a_busy_one_that_somebody_deletes_is_marked_as_disrupted() -> None:
    assert steps(NOTHING, seen_pod(ending=True), session(leases=1)) == Steps(drain_disrupted=("linux-1",))


def test_also_if_it_drained_already() -> None:
    found = steps(NOTHING, seen_pod(ending=True), session(leases=1), mark(leases=1))
    assert found == Steps(drain_disrupted=("linux-1",))


def test_one_that_we_have_deleted_is_not() -> None:
    assert steps(NOTHING, seen_pod(deleted=True), session()) == Steps()
    assert steps(NOTHING, seen_pod(ending=True), session(), mark()) == Steps()


def test_one_that_its_node_evicted_while_it_worked_is_told_of_before_it_is_cleared() -> None:
    target = {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet"}
    found = steps(NOTHING, seen_pod(phase="Failed", conditions=[target]), session(leases=1))
    assert found.drain_disrupted == ("linux-1",)
    assert [each.name for each in found.delete] == ["linux-1"]


def test_one_that_ran_out_of_memory_is_the_jobs_doing() -> None:
    found = steps(NOTHING, seen_pod(phase="Failed"), session(leases=1))
    assert found.drain_disrupted == ()


# --- drain.timeout


def test_without_a_timeout_it_drains_for_as_long_as_it_takes() -> None:
    assert steps(NOTHING, *busy(1), mark(since=ago(1e6), leases=1)) == Steps()


def test_after_the_timeout_it_is_ended_and_what_it_ran_is_counted() -> None:
    parts = [*busy(1), mark(1, since=ago(60), leases=1), *busy(2), mark(2, since=ago(59), leases=1)]
    found = steps(NOTHING, *parts, drain_timeout=seconds(60))
    (deletion,) = found.delete
    assert (deletion.name, deletion.uid, deletion.interrupts) == ("linux-1", "uid-1", 1)
    assert deletion.why == "it did not finish what it runs within spec.drain.timeout"
    assert found.drain_disrupted == ("linux-1",)


def test_the_timeout_is_not_for_marks_of_others() -> None:
    found = steps(NOTHING, *busy(1), mark(owner="", since=ago(600), leases=1), drain_timeout=seconds(60))
    assert found == Steps()


# --- useless ones


def aged(*parts: Part, registered: tuple[str, ...] = ()) -> FleetView:
    """As seen now, and an hour ago for the first time."""
    before, _ = look(*parts, registered=registered, now=ago(3600))
    return fleet_view(*parts, registered=registered, since=moments_of(before))


@pytest.mark.parametrize(
    ("parts", "registered"),
    [
        ([seen_pod(created=ago(3600))], ()),
        ([seen_pod(phase="Pending", container=waiting("ErrImagePull"))], ()),
        ([seen_pod()], ("uid-1",)),
        ([seen_pod(), session(status="UNHEALTHY", count=1)], ()),
    ],
    ids=["never registered", "no image", "lost its session", "takes no lease"],
)
def test_what_is_of_no_use_for_long_is_asked_to_go(parts: list[Part], registered: tuple[str, ...]) -> None:
    view = aged(*parts, registered=registered)
    assert steps_of(NOTHING, view, drain_timeout=None, now=NOON) == Steps(drain_if_idle=("linux-1",))
    fresh = fleet_view(*parts, registered=registered)
    assert steps_of(NOTHING, fresh, drain_timeout=None, now=NOON) == Steps()


def test_why_a_pod_that_did_not_come_up_goes() -> None:
    view = aged(seen_pod(phase="Pending", container=waiting("ErrImagePull", "not found")))
    (found,) = deletions_after(["linux-1"], view)
    assert found.why.startswith("the image registry/bot:1 cannot be pulled (not found)")
