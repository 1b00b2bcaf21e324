"""Who may take a Lease, and when. The calls and the clocks: tests/cluster/process/test_leadership.py."""

from dataclasses import replace
from datetime import timedelta

import pytest
from buildgrid_operator.process.leadership import LeaseView, Observation, Timing, may_take, observe

HELD = LeaseView("a", "2026-01-01T00:00:00.000000Z", 3, timedelta(seconds=15))
RENEWED = replace(HELD, renewed="2026-01-01T00:00:02.000000Z")


def test_a_lease_that_is_not_renewed_is_free_after_its_duration() -> None:
    seen = observe(None, HELD, 100.0)
    assert not may_take(seen, "b", 114.9)
    assert may_take(seen, "b", 115.0)


def test_every_renewal_begins_the_time_anew() -> None:
    seen = observe(None, HELD, 100.0)
    seen = observe(seen, HELD, 110.0)
    assert seen == Observation(HELD, 100.0)
    seen = observe(seen, RENEWED, 112.0)
    assert not may_take(seen, "b", 126.9)
    assert may_take(seen, "b", 127.0)


def test_the_holders_clock_does_not_matter() -> None:
    ancient = replace(HELD, renewed="1970-01-01T00:00:00.000000Z")
    assert not may_take(observe(None, ancient, 100.0), "b", 101.0)


def test_a_free_lease_and_the_own_one_are_taken_at_once() -> None:
    assert may_take(observe(None, replace(HELD, holder=""), 100.0), "b", 100.0)
    assert may_take(observe(None, HELD, 100.0), "a", 100.0)


def test_a_lease_that_says_nothing_is_free() -> None:
    view = LeaseView.of({"metadata": {"name": "x"}})
    assert may_take(observe(None, view, 0.0), "b", 0.0)


def test_a_lease_is_read_as_it_is_written() -> None:
    spec = {
        "holderIdentity": "a",
        "renewTime": HELD.renewed,
        "leaseTransitions": 3,
        "leaseDurationSeconds": 15,
    }
    assert LeaseView.of({"spec": spec}) == HELD


@pytest.mark.parametrize("seconds", [(10, 10, 2), (15, 2, 2), (15, 10, 0)])
def test_times_that_cannot_work_are_refused(seconds: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="duration > renew_deadline > retry"):
        Timing(*(timedelta(seconds=s) for s in seconds))
