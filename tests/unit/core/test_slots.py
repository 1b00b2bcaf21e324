"""How much more a session may be given."""

import pytest
from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.core.lease_transition import Transition
from buildgrid_scheduler.core.slots import MOST_NEW_LEASES, Slots, slots_of

BEAT, FINISH, SEND, WAIT = Transition.HEARTBEAT, Transition.FINISH, Transition.SEND, Transition.WAIT


def slots(
    *leases: Transition,
    capacity: int = 3,
    status: BotStatus = BotStatus.OK,
    drained: bool = False,
    suspects: tuple[int, ...] = (),
    hold_full: bool = False,
) -> Slots:
    """Of a session whose leases go through these transitions; `suspects` by number."""
    return slots_of(
        {str(n): step for n, step in enumerate(leases)},
        capacity=capacity,
        status=status,
        drained=drained,
        suspects=[str(n) for n in suspects],
        hold_full=hold_full,
    )


@pytest.mark.parametrize("status", BotStatus, ids=lambda s: s.name)
def test_a_bot_that_wants_to_be_held_is_as_long_as_it_knows_of_a_lease(status: BotStatus) -> None:
    assert slots(BEAT, BEAT, BEAT, status=status, hold_full=True).held
    assert slots(BEAT, status=status, hold_full=True).held
    assert slots(status=status, hold_full=True).held is (status is BotStatus.OK)
    assert not slots(FINISH, status=BotStatus.BOT_TERMINATING, hold_full=True).held
    assert slots(BEAT, BEAT, BEAT, hold_full=True).free == 0


def test_a_bot_is_given_as_much_as_it_has_slots() -> None:
    assert slots() == Slots(free=3, held=True, empty=True)
    assert slots(BEAT, SEND) == Slots(free=1, held=True, empty=False)
    assert slots(BEAT, SEND, BEAT) == Slots(free=0, held=False, empty=False)


def test_a_bot_that_has_more_than_it_should_is_given_nothing() -> None:
    assert slots(BEAT, BEAT, capacity=1) == Slots(free=0, held=False, empty=True)


@pytest.mark.parametrize("step", [s for s in Transition if not s.stays], ids=lambda s: s.name)
def test_a_lease_that_goes_frees_its_slot(step: Transition) -> None:
    assert slots(step) == Slots(free=3, held=True, empty=True)


@pytest.mark.parametrize("step", [s for s in Transition if s.stays], ids=lambda s: s.name)
def test_a_lease_that_stays_takes_one(step: Transition) -> None:
    assert slots(step).free == 2
    assert not slots(step).empty


@pytest.mark.parametrize("status", [s for s in BotStatus if s is not BotStatus.OK], ids=lambda s: s.name)
def test_a_bot_that_is_not_well_is_neither_given_work_nor_held(status: BotStatus) -> None:
    assert slots(status=status) == Slots(free=0, held=False, empty=True)


def test_a_drained_bot_may_wait_and_is_given_nothing() -> None:
    assert slots(drained=True) == Slots(free=0, held=True, empty=True)
    assert slots(BEAT, drained=True) == Slots(free=0, held=True, empty=False)
    assert not slots(BEAT, BEAT, BEAT, drained=True).held


def test_beside_a_suspect_a_bot_with_several_slots_is_given_nothing_whether_that_runs_or_waits() -> None:
    assert slots(BEAT, suspects=(0,)) == Slots(free=0, held=True, empty=False)
    assert slots(BEAT, WAIT, suspects=(1,)) == Slots(free=0, held=True, empty=False)


def test_a_suspect_that_is_done_is_no_reason_any_more() -> None:
    assert slots(FINISH, suspects=(0,)).free == 3


def test_a_bot_does_not_know_of_what_is_kept_back_from_it() -> None:
    """It has two leases, sees a free slot and may wait, though the third lease is a suspect for it."""
    assert slots(BEAT, BEAT, WAIT, suspects=(2,)) == Slots(free=0, held=True, empty=False)
    assert slots(BEAT, BEAT, BEAT, WAIT, suspects=(3,)).held is False


def test_with_one_slot_a_suspect_is_alone_anyhow() -> None:
    assert slots(capacity=1).empty
    assert slots(BEAT, capacity=1, suspects=(0,)) == Slots(free=0, held=False, empty=True)


def test_an_answer_brings_no_more_new_leases_than_fit_into_a_message() -> None:
    assert slots(capacity=1024).free == MOST_NEW_LEASES
    assert slots(*[BEAT] * 1000, capacity=1024).free == 24
    assert slots(*[SEND] * 50, *[BEAT] * 200, capacity=1024).free == MOST_NEW_LEASES - 50
    assert slots(*[SEND] * MOST_NEW_LEASES, SEND, capacity=1024).free == 0
    assert MOST_NEW_LEASES * 64 * 1024 < 4 * 1024 * 1024 - 64 * 1024
