"""Schedulers take up a newer image one after the other."""

from buildgrid_operator.api import Scheduler
from buildgrid_operator.cluster.kinds import SCHEDULER
from buildgrid_operator.reconcile.upgrades import Upgrades, runs_own_image
from buildgrid_operator.status.workload import Workload

from tests.cluster.api.objects import changed, scheduler
from tests.unit.operator.desired.cases import SETTINGS
from tests.unit.operator.reconcile.objects import ref

A, B = ref(SCHEDULER, "a"), ref(SCHEDULER, "b")
ROLLING = Workload(2, 3, 2, 1, settled=False)
SETTLED = Workload(2, 2, 2, 2, settled=True)


def _scheduler(image: str | None = "old", policy: str = "Automatic") -> Scheduler:
    status = {"image": image} if image else {}
    return Scheduler.parse(changed(scheduler(upgradePolicy=policy), {"status": status}))


def test_the_first_that_asks_has_its_turn_until_it_ends() -> None:
    upgrades = Upgrades()
    assert upgrades.may(A, _scheduler(), [])
    assert upgrades.may(A, _scheduler(), [])
    assert not upgrades.may(B, _scheduler(), [])
    upgrades.ended(A)
    assert upgrades.may(B, _scheduler(), [])


def test_one_that_still_rolls_is_seen_after_a_restart() -> None:
    assert not Upgrades().may(B, _scheduler(), [(A, ROLLING)])
    assert Upgrades().may(B, _scheduler(), [(A, SETTLED)])


def test_it_does_not_wait_for_itself() -> None:
    assert Upgrades().may(A, _scheduler(), [(A, ROLLING)])


def test_who_did_not_have_the_turn_does_not_end_it() -> None:
    upgrades = Upgrades()
    upgrades.may(A, _scheduler(), [])
    upgrades.ended(B)
    assert not upgrades.may(B, _scheduler(), [])


def test_new_ones_and_manual_ones_take_no_turn() -> None:
    upgrades = Upgrades()
    assert upgrades.may(A, _scheduler(image=None), [(B, ROLLING)])
    assert upgrades.may(A, _scheduler(policy="Manual"), [(B, ROLLING)])
    assert upgrades.may(B, _scheduler(), [])


def test_only_who_follows_the_operator_runs_its_image_for_that() -> None:
    own = SETTINGS.scheduler_image
    assert runs_own_image(_scheduler(own), SETTINGS)
    assert not runs_own_image(_scheduler("other"), SETTINGS)
    assert not runs_own_image(_scheduler(own, "Manual"), SETTINGS)
