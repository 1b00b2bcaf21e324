"""The lease machine against the table of the specification, written out by hand here once more."""

import itertools
import re
from pathlib import Path

import pytest
from buildgrid_scheduler.core import lease_transition
from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.core.lease_transition import (
    OTHERWISE,
    TABLE,
    LeaseState,
    Transition,
    Verdict,
    reconcile,
    transition,
)

UNSPECIFIED, PENDING, ACTIVE = LeaseState.UNSPECIFIED, LeaseState.PENDING, LeaseState.ACTIVE
COMPLETED, CANCELLED = LeaseState.COMPLETED, LeaseState.CANCELLED
STATES = (None, UNSPECIFIED, PENDING, ACTIVE, COMPLETED, CANCELLED)

IDLE, ACCEPT, SEND, FREE = Transition.IDLE, Transition.ACCEPT, Transition.SEND, Transition.FREE
BEAT, START, FINISH = Transition.HEARTBEAT, Transition.ACTIVATE, Transition.FINISH
STOP, CLOSE, AGAIN = Transition.TELL_CANCELLED, Transition.CLOSE, Transition.REQUEUE

Table = dict[LeaseState | None, tuple[Transition, ...]]
ONE_SLOT: Table = {
    # bot reports | database has: nothing, UNSPECIFIED, PENDING, ACTIVE, COMPLETED, CANCELLED
    None: (IDLE, CLOSE, SEND, CLOSE, CLOSE, FREE),
    UNSPECIFIED: (CLOSE, CLOSE, CLOSE, CLOSE, CLOSE, CLOSE),
    PENDING: (CLOSE, CLOSE, BEAT, CLOSE, CLOSE, STOP),
    ACTIVE: (CLOSE, CLOSE, START, BEAT, CLOSE, STOP),
    COMPLETED: (ACCEPT, CLOSE, FINISH, FINISH, CLOSE, FREE),
    CANCELLED: (CLOSE, CLOSE, CLOSE, CLOSE, CLOSE, FREE),
}
SEVERAL_SLOTS: Table = {
    None: (IDLE, AGAIN, SEND, AGAIN, AGAIN, FREE),
    UNSPECIFIED: (STOP, AGAIN, AGAIN, AGAIN, AGAIN, AGAIN),
    PENDING: (STOP, AGAIN, BEAT, AGAIN, AGAIN, STOP),
    ACTIVE: (STOP, AGAIN, START, BEAT, AGAIN, STOP),
    COMPLETED: (ACCEPT, AGAIN, FINISH, FINISH, AGAIN, FREE),
    CANCELLED: (ACCEPT, AGAIN, AGAIN, AGAIN, AGAIN, FREE),
}
Cell = tuple[LeaseState | None, LeaseState | None, Transition]


def cells(table: Table) -> list[Cell]:
    return [(said, has, table[said][column]) for said in STATES for column, has in enumerate(STATES)]


def name(value: object) -> str:
    return getattr(value, "name", "nothing")


# --- one lease


@pytest.mark.parametrize("status", list(BotStatus), ids=name)
@pytest.mark.parametrize(("reported", "held", "expected"), cells(ONE_SLOT), ids=name)
def test_every_cell_of_the_table_with_one_slot(
    reported: LeaseState | None, held: LeaseState | None, expected: Transition, status: BotStatus
) -> None:
    if status is BotStatus.BOT_TERMINATING and (reported, held) == (None, PENDING):
        expected = Transition.HAND_BACK
    assert transition(reported, held, status=status) is expected


@pytest.mark.parametrize("status", list(BotStatus), ids=name)
@pytest.mark.parametrize(("reported", "held", "expected"), cells(SEVERAL_SLOTS), ids=name)
def test_every_cell_of_the_table_with_several_slots(
    reported: LeaseState | None, held: LeaseState | None, expected: Transition, status: BotStatus
) -> None:
    if status is BotStatus.BOT_TERMINATING and (reported, held) == (None, PENDING):
        expected = Transition.HAND_BACK
    for capacity in (2, 64):
        assert transition(reported, held, capacity=capacity, status=status) is expected


@pytest.mark.parametrize("capacity", [1, 4])
@pytest.mark.parametrize(("reported", "held", "expected"), cells(ONE_SLOT), ids=name)
def test_only_an_end_that_was_reported_before_leaves_a_lease_alone_that_the_bot_was_not_told_of(
    reported: LeaseState | None, held: LeaseState | None, expected: Transition, capacity: int
) -> None:
    usual = transition(reported, held, capacity=capacity)
    for again, told in ((True, True), (False, False), (False, True)):
        assert transition(reported, held, capacity=capacity, again=again, told=told) is usual
    kept = transition(reported, held, capacity=capacity, again=True, told=False)
    assert kept is (Transition.KEEP if (reported, held) == (COMPLETED, PENDING) else usual)


def test_the_table_has_every_state_of_the_protocol() -> None:
    assert set(STATES) == {None, *LeaseState}
    for table in (ONE_SLOT, SEVERAL_SLOTS):
        assert len(cells(table)) == len(STATES) ** 2


# --- the same table in words

_WORDS: dict[str, LeaseState | None] = {"no lease": None, "nothing": None}
_WORDS |= {state.name: state for state in LeaseState}


def written(text: str) -> dict[tuple[str, str], tuple[str, str]]:
    """The cells of the first table in a text, by the words for both sides; "/" is "or"."""
    rows = [line.strip().strip("|").split("|") for line in text.splitlines() if line.lstrip().startswith("|")]
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for row in rows[2:]:
        said, has, one, several, _ = (cell.strip() for cell in row)
        for left, right in itertools.product(said.split(" / "), has.split(" / ")):
            assert (left, right) not in found, f"{left}, {right} is there twice"
            found[left, right] = one, several
        if said == "any other pair":
            break
    return found


def read_by_a_person(
    table: dict[tuple[str, str], tuple[str, str]], reported: LeaseState | None, held: LeaseState | None
) -> tuple[str, str]:
    """The cell that the table gives for a pair."""
    left = {"no lease"} if reported is None else {reported.name}
    right = "nothing" if held is None else held.name
    exact = [cell for (said, has), cell in table.items() if said in left and has == right]
    if not exact and held is None and reported is not None:
        exact = [table["anything else", "nothing"]]
    return exact[0] if exact else table["any other pair", ""]


DOCUMENTS = {
    "the docstring": lambda: lease_transition.__doc__ or "",
    "docs/leases.md": lambda: (Path(__file__).parents[3] / "docs" / "leases.md").read_text(),
}


@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize(
    ("reported", "held"), list(itertools.product(STATES, repeat=2)), ids=lambda pair: name(pair)
)
def test_the_written_table_says_what_the_code_does(
    document: str, reported: LeaseState | None, held: LeaseState | None
) -> None:
    one, several = read_by_a_person(written(DOCUMENTS[document]()), reported, held)
    assert transition(reported, held).name == one
    assert transition(reported, held, capacity=3).name == several


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_written_table_has_no_row_of_its_own(document: str) -> None:
    table = written(DOCUMENTS[document]())
    special = {
        ("no lease, BOT_TERMINATING", "PENDING"): Transition.HAND_BACK,
        ("COMPLETED, again", "PENDING, not told"): Transition.KEEP,
    }
    for pair, step in special.items():
        assert table.pop(pair) == (step.name, step.name)
    assert table.pop(("any other pair", "")) == tuple(step.name for step in OTHERWISE)
    assert table.pop(("anything else", "nothing")) == ("CLOSE", "TELL_CANCELLED")
    for said, has in table:
        assert (_WORDS[said], _WORDS[has]) in TABLE
    anything_else = {(state, None) for state in (UNSPECIFIED, PENDING, ACTIVE)}
    assert {(_WORDS[said], _WORDS[has]) for said, has in table} | anything_else == set(TABLE)


def test_the_page_explains_every_word_of_the_table() -> None:
    explained = set(re.findall(r"^\| ([A-Z_]+) \| [^|]+ \|$", DOCUMENTS["docs/leases.md"](), re.MULTILINE))
    assert explained == {step.name for step in Transition}


def test_what_is_told_takes_a_slot_and_so_does_what_is_kept_back() -> None:
    for step in Transition:
        kept_back = step in (Transition.KEEP, Transition.WAIT)
        assert step.stays is (step.told or kept_back)
    assert {step.name for step in Transition if step.told} == {
        "SEND",
        "ACTIVATE",
        "HEARTBEAT",
        "TELL_CANCELLED",
    }


# --- a session


def hold_against(
    reported: dict[str, LeaseState],
    held: dict[str, LeaseState],
    *,
    capacity: int = 1,
    status: BotStatus = BotStatus.OK,
    completed_before: tuple[str, ...] = (),
    untold: tuple[str, ...] = (),
    suspects: tuple[str, ...] = (),
) -> Verdict:
    return reconcile(
        reported=reported,
        held=held,
        capacity=capacity,
        status=status,
        completed_before=completed_before,
        untold=untold,
        suspects=suspects,
    )


# --- one slot


def test_a_session_without_leases_has_nothing_to_do() -> None:
    assert hold_against({}, {}) == Verdict()


@pytest.mark.parametrize(("reported", "held", "expected"), cells(ONE_SLOT), ids=name)
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


@pytest.mark.parametrize(("reported", "held", "expected"), cells(SEVERAL_SLOTS), ids=name)
def test_with_several_slots_nothing_closes_the_session_for_one_lease(
    reported: LeaseState | None, held: LeaseState | None, expected: Transition
) -> None:
    if reported is held is None:
        return
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
    verdict = hold_against({"a": ACTIVE, "b": PENDING, "c": COMPLETED, "d": CANCELLED}, {}, capacity=2)
    assert verdict == Verdict({"a": STOP, "b": STOP, "c": ACCEPT, "d": ACCEPT})


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


# --- attempts that the bot has not been told of


@pytest.mark.parametrize("capacity", [1, 3])
def test_an_end_that_is_reported_again_is_not_that_of_the_attempt_that_follows(capacity: int) -> None:
    again = hold_against(
        {"job": COMPLETED}, {"job": PENDING}, capacity=capacity, completed_before=("job",), untold=("job",)
    )
    assert again == Verdict({"job": Transition.KEEP})
    told = hold_against({"job": COMPLETED}, {"job": PENDING}, capacity=capacity, completed_before=("job",))
    assert told == Verdict({"job": FINISH})


# --- suspects


def test_a_suspect_is_sent_to_a_bot_on_which_nothing_else_runs() -> None:
    verdict = hold_against({}, {"s": PENDING}, capacity=4, untold=("s",), suspects=("s",))
    assert verdict == Verdict({"s": SEND})


@pytest.mark.parametrize(
    ("reported", "held"),
    [(ACTIVE, ACTIVE), (ACTIVE, PENDING), (PENDING, PENDING), (ACTIVE, CANCELLED), (None, PENDING)],
    ids=name,
)
def test_a_suspect_waits_until_everything_else_is_off_the_bot(
    reported: LeaseState | None, held: LeaseState
) -> None:
    verdict = hold_against(
        {} if reported is None else {"other": reported},
        {"other": held, "s": PENDING},
        capacity=4,
        untold=("s",),
        suspects=("s",),
    )
    assert verdict.leases["s"] is Transition.WAIT
    assert verdict.leases["other"] is transition(reported, held, capacity=4)


def test_a_suspect_waits_for_a_lease_that_only_the_bot_knows_of() -> None:
    verdict = hold_against({"unknown": ACTIVE}, {"s": PENDING}, capacity=4, untold=("s",), suspects=("s",))
    assert verdict == Verdict({"unknown": STOP, "s": Transition.WAIT})


@pytest.mark.parametrize(
    ("reported", "held"), [(COMPLETED, ACTIVE), (None, CANCELLED), (None, ACTIVE)], ids=name
)
def test_a_suspect_is_sent_in_the_answer_to_the_report_that_frees_the_bot(
    reported: LeaseState | None, held: LeaseState
) -> None:
    verdict = hold_against(
        {} if reported is None else {"other": reported},
        {"other": held, "s": PENDING},
        capacity=4,
        untold=("s",),
        suspects=("s",),
    )
    assert verdict.leases["s"] is SEND


def test_a_suspect_that_was_told_is_sent_again_whatever_else_the_bot_says() -> None:
    verdict = hold_against({"unknown": ACTIVE}, {"s": PENDING}, capacity=4, suspects=("s",))
    assert verdict.leases["s"] is SEND


def test_of_two_suspects_one_goes_first_and_they_do_not_wait_for_each_other() -> None:
    verdict = hold_against(
        {}, {"b": PENDING, "a": PENDING}, capacity=4, untold=("a", "b"), suspects=("a", "b")
    )
    assert verdict == Verdict({"b": Transition.WAIT, "a": SEND})


def test_a_suspect_that_waits_is_handed_back_by_a_bot_that_ends() -> None:
    verdict = hold_against(
        {"other": ACTIVE},
        {"other": ACTIVE, "s": PENDING},
        capacity=4,
        status=BotStatus.BOT_TERMINATING,
        untold=("s",),
        suspects=("s",),
    )
    assert verdict.leases["s"] is Transition.HAND_BACK


def test_with_one_slot_a_suspect_is_a_job_as_any_other() -> None:
    verdict = hold_against({}, {"s": PENDING}, untold=("s",), suspects=("s",))
    assert verdict == Verdict({"s": SEND})
