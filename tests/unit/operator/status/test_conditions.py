"""Conditions, from pass to pass."""

from datetime import UTC, datetime, timedelta

from buildgrid_operator.api.status import Condition
from buildgrid_operator.status.conditions import (
    SCHEDULER_CONDITIONS,
    Verdict,
    changes,
    is_true,
    merged,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def merge(
    before: tuple[Condition, ...], *verdicts: Verdict, generation: int = 1, hours: int = 0
) -> tuple[Condition, ...]:
    now = NOON + timedelta(hours=hours)
    return merged(before, verdicts, types=SCHEDULER_CONDITIONS, generation=generation, now=now)


READY = Verdict("Ready", "True", "Serving", "3 of 3 replicas serve")
ROLLING = Verdict("Ready", "False", "Progressing", "2 of 3 replicas serve")
FINE = Verdict("Stalled", "False", "AsExpected", "")


def test_a_new_condition_begins_now() -> None:
    (condition,) = merge((), READY)
    assert condition.last_transition_time == "2026-01-01T12:00:00Z"
    assert (condition.status, condition.reason, condition.observed_generation) == ("True", "Serving", 1)


def test_the_transition_time_moves_only_with_the_status() -> None:
    first = merge((), ROLLING)
    other_reason = merge(first, Verdict("Ready", "False", "CrashLoop", "x"), hours=1, generation=2)
    assert other_reason[0].last_transition_time == first[0].last_transition_time
    assert (other_reason[0].reason, other_reason[0].observed_generation) == ("CrashLoop", 2)
    assert merge(other_reason, READY, hours=2)[0].last_transition_time == "2026-01-01T14:00:00Z"


def test_what_was_not_judged_stays_as_it_was() -> None:
    first = merge((), READY, FINE)
    second = merge(first, Verdict("Stalled", "True", "InvalidSpec", "x"), generation=2, hours=1)
    assert second[0] == first[0]
    assert second[1].status == "True"


def test_the_order_is_always_the_same_and_types_of_others_are_left_to_them() -> None:
    foreign = merge((), READY)[0].model_copy(update={"type": "Audited"})
    assert [c.type for c in merge((foreign,), FINE, READY)] == ["Ready", "Stalled"]


def test_messages_are_made_printable() -> None:
    (condition,) = merge((), Verdict("Ready", "False", "CrashLoop", "postgresql://a:b@c\nfailed"))
    assert condition.message == "postgresql://***@c failed"


def test_a_pass_that_finds_the_same_is_no_change() -> None:
    first = merge((), READY, FINE)
    assert changes(first, merge(first, READY, FINE, hours=1)) == ()


def test_another_status_or_reason_is_a_change_and_another_message_is_not() -> None:
    first = merge((), ROLLING)
    words = merge(first, Verdict("Ready", "False", "Progressing", "1 of 3 replicas serve"))
    assert changes(first, words) == ()
    reason = merge(first, Verdict("Ready", "False", "CrashLoop", "x"))
    (change,) = changes(first, reason)
    assert change.before == first[0]
    assert not change.good
    (change,) = changes(first, merge(first, READY))
    assert change.good


def test_of_a_new_object_only_readiness_and_what_is_wrong_is_news() -> None:
    assert [c.after.type for c in changes((), merge((), READY, FINE))] == ["Ready"]
    stuck = Verdict("Stalled", "True", "InvalidSpec", "x")
    found = changes((), merge((), ROLLING, stuck))
    assert [(c.after.type, c.good) for c in found] == [("Ready", False), ("Stalled", False)]


def test_that_nothing_is_wrong_any_more_is_told_only_with_words() -> None:
    stuck = merge((), READY, Verdict("Stalled", "True", "InvalidSpec", "x"))
    assert changes(stuck, merge(stuck, READY, FINE)) == ()
    told = Verdict("Stalled", "False", "AsExpected", "x was corrected")
    assert [change.good for change in changes(stuck, merge(stuck, READY, told))] == [True]


def test_what_nobody_need_do_anything_about_is_no_warning() -> None:
    drains, short = (Verdict("Draining", "True", each, "x") for each in ("Draining", "DrainTimeoutShort"))
    types = ["Draining"]
    conditions = [
        merged((), [each], types=types, generation=1, now=datetime(2026, 11, 24, tzinfo=UTC))
        for each in (drains, short)
    ]
    assert [change.good for found in conditions for change in changes((), found)] == [True, False]


def test_a_condition_can_be_asked_for() -> None:
    conditions = merge((), READY, FINE)
    assert is_true(conditions, "Ready")
    assert not is_true(conditions, "Stalled")
    assert not is_true(conditions, "Degraded")
