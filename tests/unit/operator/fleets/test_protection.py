"""Whom a fleet's PodDisruptionBudget keeps from eviction, and whom it lets go."""

from typing import Any

import pytest
from buildgrid_operator.cluster.fleet_state import Mark, Session
from buildgrid_operator.fleets.protection import Protection, protections_of
from buildgrid_operator.fleets.steps import Steps, steps_of
from buildgrid_operator.fleets.views import PodView
from buildgrid_operator.planner.plan import FleetPlan, Limit

from tests.unit.operator.fleets.seen import NOON, OURS, fleet_view, mark, seen_pod, session, wish

Part = PodView | Session | Mark
LET_GO = Protection("linux-1", "uid-1", protected=False)
KEPT = Protection("linux-1", "uid-1", protected=True)
PERSON = "somebody"


def steps(*parts: Part, plan: FleetPlan | None) -> Steps:
    return steps_of(plan, fleet_view(*parts), drain_timeout=None, now=NOON)


@pytest.mark.parametrize("owner", [PERSON, OURS])
def test_one_that_is_marked_and_runs_nothing_may_be_evicted(owner: str) -> None:
    parts = (session(), mark(owner=owner, connected=True))
    assert protections_of(fleet_view(seen_pod(), *parts)) == (LET_GO,)
    assert protections_of(fleet_view(seen_pod(protected=False), *parts)) == ()


def test_one_that_was_marked_before_it_registered_may_be_evicted() -> None:
    assert protections_of(fleet_view(seen_pod(), mark(owner=PERSON))) == (LET_GO,)


@pytest.mark.parametrize(
    "parts",
    [
        (),
        (session(),),
        (session(leases=1),),
        (session(leases=1), mark(owner=PERSON, leases=1, connected=True)),
        # The mark's and the session's numbers may be of different moments: the greater one counts.
        (mark(owner=PERSON, leases=1, connected=True),),
    ],
    ids=["starting", "idle", "busy", "draining", "draining without a session"],
)
def test_one_that_works_or_may_get_work_is_kept(parts: tuple[Part, ...]) -> None:
    assert protections_of(fleet_view(seen_pod(), *parts)) == ()
    assert protections_of(fleet_view(seen_pod(protected=False), *parts)) == (KEPT,)


@pytest.mark.parametrize("told", [{"ending": True}, {"phase": "Failed"}])
def test_nothing_is_changed_about_one_that_goes(told: dict[str, Any]) -> None:
    assert protections_of(fleet_view(seen_pod(**told), mark(owner=PERSON))) == ()


def test_one_that_is_asked_for_is_deleted_not_evicted() -> None:
    found = steps(seen_pod(), session(), mark(connected=True), plan=wish())
    assert found == Steps(drain_if_idle=("linux-1",))


@pytest.mark.parametrize("plan", [None, wish(limits=frozenset({Limit.STALE}))])
def test_nothing_is_changed_while_it_is_not_known_who_is_marked(plan: FleetPlan | None) -> None:
    assert steps(seen_pod(), session(), mark(owner=PERSON, connected=True), plan=plan) == Steps()
    assert steps(seen_pod(protected=False), plan=plan) == Steps()


def test_those_that_people_drain_are_let_go_of_in_the_step_of_a_plan() -> None:
    found = steps(seen_pod(), session(), mark(owner=PERSON, connected=True), plan=wish())
    assert found == Steps(protections=(LET_GO,))
