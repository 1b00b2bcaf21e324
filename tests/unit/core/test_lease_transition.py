"""The lease machine against the table of the specification, written out by hand here once more."""

import itertools

import pytest
from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.core.lease_transition import LeaseState, Transition, Verdict, reconcile, transition

UNSPECIFIED, PENDING, ACTIVE = LeaseState.UNSPECIFIED, LeaseState.PENDING, LeaseState.ACTIVE
COMPLETED, CANCELLED = LeaseState.COMPLETED, LeaseState.CANCELLED
STATES = (None, UNSPECIFIED, PENDING, ACTIVE, COMPLETED, CANCELLED)

IDLE, ACCEPT, SEND, FREE = Transition.IDLE, Transition.ACCEPT, Transition.SEND, Transition.FREE
BEAT, START, FINISH = Transition.HEARTBEAT, Transition.ACTIVATE, Transition.FINISH
STOP, CLOSE = Transition.TELL_CANCELLED, Transition.CLOSE

TABLE: dict[LeaseState | None, tuple[Transition, ...]] = {
    # bot reports | database has: nothing, UNSPECIFIED, PENDING, ACTIVE, COMPLETED, CANCELLED
    None: (IDLE, CLOSE, SEND, CLOSE, CLOSE, FREE),
    UNSPECIFIED: (CLOSE, CLOSE, CLOSE, CLOSE, CLOSE, CLOSE),
    PENDING: (CLOSE, CLOSE, BEAT, CLOSE, CLOSE, STOP),
    ACTIVE: (CLOSE, CLOSE, START, BEAT, CLOSE, STOP),
    COMPLETED: (ACCEPT, CLOSE, FINISH, FINISH, CLOSE, FREE),
    CANCELLED: (CLOSE, CLOSE, CLOSE, CLOSE, CLOSE, FREE),
}
CELLS = [
    (reported, held, TABLE[reported][column]) for reported in STATES for column, held in enumerate(STATES)
]


def name(value: object) -> str:
    return getattr(value, "name", "nothing")


@pytest.mark.parametrize(("reported", "held", "expected"), CELLS, ids=name)
@pytest.mark.parametrize("status", list(BotStatus), ids=name)
def test_every_cell_of_the_table(
    reported: LeaseState | None, held: LeaseState | None, expected: Transition, status: BotStatus
) -> None:
    if status is BotStatus.BOT_TERMINATING and (reported, held) == (None, PENDING):
        expected = Transition.HAND_BACK
    assert transition(reported, held, status) is expected


def test_the_table_has_every_state_of_the_protocol() -> None:
    assert set(STATES) == {None, *LeaseState}
    assert len(CELLS) == len(STATES) ** 2


def hold_against(
    reported: dict[str, LeaseState],
    held: dict[str, LeaseState],
    *,
    capacity: int = 1,
    status: BotStatus = BotStatus.OK,
    completed_before: tuple[str, ...] = (),
) -> Verdict:
    return reconcile(
        reported=reported, held=held, capacity=capacity, status=status, completed_before=completed_before
    )


# --- one slot


def test_a_session_without_leases_has_nothing_to_do() -> None:
    assert hold_against({}, {}) == Verdict()


@pytest.mark.parametrize(("reported", "held", "expected"), CELLS, ids=name)
def test_with_one_slot_the_table_decides(
    reported: LeaseState | None, held: LeaseState | None, expected: Transition
) -> None:
    if reported is held is None:
        return
    verdict = hold_against(
        {} if reported is None else {"job": reported}, {} if held is None else {"job": held}
    )
    if expected is Transition.CLOSE:
        assert verdict.closed is not None
        assert "job" in verdict.closed
        assert verdict.leases == {}
    else:
        assert verdict == Verdict({"job": expected})


@pytest.mark.parametrize("held", [PENDING, ACTIVE, CANCELLED], ids=name)
@pytest.mark.parametrize("reported", [s for s in LeaseState if s not in (COMPLETED, CANCELLED)], ids=name)
def test_with_one_slot_another_lease_than_the_one_held_closes_the_session(
    reported: LeaseState, held: LeaseState
) -> None:
    verdict = hold_against({"other": reported}, {"job": held}, completed_before=("other",))
    assert verdict.closed is not None


def test_what_the_session_let_go_of_as_cancelled_may_be_reported_so_again() -> None:
    assert hold_against({"old": CANCELLED}, {}, completed_before=("old",)).closed is None
    verdict = hold_against({"old": CANCELLED}, {"job": PENDING}, completed_before=("old",))
    assert verdict == Verdict({"job": Transition.SEND, "old": Transition.ACCEPT})
    assert hold_against({"old": CANCELLED}, {"job": PENDING}).closed is not None


def test_with_one_slot_a_completed_lease_that_the_session_never_had_is_a_mismatch() -> None:
    assert hold_against({"other": COMPLETED}, {"job": PENDING}).closed is not None
    assert (
        hold_against({"other": COMPLETED}, {"job": PENDING}, completed_before=("third",)).closed is not None
    )


def test_with_one_slot_a_completion_that_is_repeated_beside_the_next_lease_is_dropped() -> None:
    verdict = hold_against({"old": COMPLETED}, {"job": PENDING}, completed_before=("old",))
    assert verdict == Verdict({"job": Transition.SEND, "old": Transition.ACCEPT})


def test_with_one_slot_a_repeated_completion_does_not_excuse_an_active_lease_that_is_missing() -> None:
    assert hold_against({"old": COMPLETED}, {"job": ACTIVE}, completed_before=("old",)).closed is not None


# --- several slots


@pytest.mark.parametrize(("reported", "held", "expected"), CELLS, ids=name)
def test_with_several_slots_nothing_closes_the_session_for_one_lease(
    reported: LeaseState | None, held: LeaseState | None, expected: Transition
) -> None:
    if reported is held is None:
        return
    if expected is Transition.CLOSE:
        expected = Transition.TELL_CANCELLED if held is None else Transition.REQUEUE
    verdict = hold_against(
        {"good": ACTIVE} | ({} if reported is None else {"job": reported}),
        {"good": ACTIVE} | ({} if held is None else {"job": held}),
        capacity=4,
    )
    assert verdict == Verdict({"good": Transition.HEARTBEAT, "job": expected})


def test_with_several_slots_a_missing_active_lease_is_requeued_alone() -> None:
    verdict = hold_against({"a": ACTIVE}, {"a": ACTIVE, "b": ACTIVE}, capacity=2)
    assert verdict == Verdict({"a": Transition.HEARTBEAT, "b": Transition.REQUEUE})


def test_with_several_slots_an_unknown_lease_is_told_cancelled_and_an_unknown_end_is_dropped() -> None:
    verdict = hold_against({"a": ACTIVE, "b": PENDING, "c": COMPLETED}, {}, capacity=2)
    assert verdict == Verdict(
        {"a": Transition.TELL_CANCELLED, "b": Transition.TELL_CANCELLED, "c": Transition.ACCEPT}
    )


def test_a_bot_that_ends_hands_back_every_lease_that_it_never_started() -> None:
    verdict = hold_against(
        {"running": ACTIVE},
        {"running": ACTIVE, "b": PENDING, "c": PENDING},
        capacity=3,
        status=BotStatus.BOT_TERMINATING,
    )
    assert verdict == Verdict(
        {"running": Transition.HEARTBEAT, "b": Transition.HAND_BACK, "c": Transition.HAND_BACK}
    )


def test_every_lease_of_either_side_is_decided_about() -> None:
    names = "abcd"
    for said, has in itertools.product(itertools.product(STATES, repeat=2), repeat=2):
        reported = {n: s for n, s in zip(names, said, strict=False) if s is not None}
        held = {n: s for n, s in zip(names[1:], has, strict=False) if s is not None}
        verdict = hold_against(reported, held, capacity=2)
        assert set(verdict.leases) == {*reported, *held}
        assert verdict.closed is None
