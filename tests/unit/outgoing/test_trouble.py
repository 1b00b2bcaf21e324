"""Trouble with other services: logged now and then, and a reason to leave them alone for a while."""

import logging

import pytest
from buildgrid_scheduler.outgoing.complaints import Complaints, describe
from buildgrid_scheduler.outgoing.pause import Pause


class Time:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_first_complaint_is_logged_at_once_and_the_next_ones_together(
    caplog: pytest.LogCaptureFixture,
) -> None:
    time = Time()
    complaints = Complaints(logging.getLogger("test"), "push: not sent", interval=30, clock=time)
    complaints.add("a")
    complaints.add("b")
    complaints.add("c")
    assert [record.getMessage() for record in caplog.records] == ["push: not sent: a"]
    time.now += 30
    complaints.add("d")
    assert caplog.records[-1].getMessage() == "push: not sent (3 times since the last such line): d"


def test_what_was_not_told_is_told_in_the_end_and_once(caplog: pytest.LogCaptureFixture) -> None:
    complaints = Complaints(logging.getLogger("test"), "push: not sent")
    complaints.add("a")
    complaints.add("b")
    complaints.finish()
    complaints.finish()
    assert [record.getMessage() for record in caplog.records] == ["push: not sent: a", "push: not sent: b"]


def test_an_error_is_described_in_one_line() -> None:
    assert describe(ValueError("two\n  lines")) == "ValueError: two lines"
    assert describe("as it is") == "as it is"
    assert len(describe(ValueError("x" * 10_000))) == 500


def test_a_service_that_fails_thrice_in_a_row_is_left_alone_for_a_while() -> None:
    time = Time()
    pause = Pause(failures=3, seconds=10, clock=time)
    pause.failed()
    pause.failed()
    assert not pause.active()
    pause.failed()
    assert pause.active()
    time.now += 10
    assert not pause.active()


def test_after_a_pause_one_more_failure_is_enough_for_the_next() -> None:
    time = Time()
    pause = Pause(failures=3, seconds=10, clock=time)
    for _ in range(3):
        pause.failed()
    time.now += 10
    pause.failed()
    assert pause.active()


def test_an_answer_ends_the_row_of_failures() -> None:
    pause = Pause(failures=2, seconds=10, clock=Time())
    pause.failed()
    pause.answered()
    pause.failed()
    assert not pause.active()
