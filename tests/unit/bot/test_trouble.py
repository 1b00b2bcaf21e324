"""What a bot says of calls that fail, and when it gives up."""

import grpc
from buildgrid_bot.trouble import Trouble

AWAY, REFUSED = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INVALID_ARGUMENT


def test_an_outage_is_told_at_once_and_then_every_now_and_again() -> None:
    trouble = Trouble(say_every=30)
    told = [now for now in range(100) if trouble.failed("reach it", AWAY, "gone", float(now)).text]
    assert told == [0, 30, 60, 90]


def test_another_reason_is_told_at_once() -> None:
    trouble = Trouble(say_every=30)
    trouble.failed("reach it", AWAY, "gone", 0)
    text = trouble.failed("open a session", REFUSED, "instance 'x' is not known here", 1).text
    assert text is not None
    assert "INVALID_ARGUMENT: instance 'x' is not known here" in text and "--instance" in text


def test_a_server_that_is_away_is_waited_for_without_end() -> None:
    trouble = Trouble(refused_for=60)
    assert not any(trouble.failed("reach it", AWAY, "gone", float(now)).give_up for now in range(10_000))


def test_refusals_in_a_row_come_to_an_end() -> None:
    trouble = Trouble(refused_for=60)
    ends = [trouble.failed("open a session", REFUSED, "no", now) for now in (0.0, 30.0, 59.0, 60.0)]
    assert [complaint.give_up for complaint in ends] == [False, False, False, True]
    assert ends[-1].text is not None and "giving up" in ends[-1].text


def test_only_refusals_in_a_row_count() -> None:
    trouble = Trouble(refused_for=60)
    trouble.failed("open a session", REFUSED, "no", 0)
    trouble.failed("open a session", AWAY, "restarting", 50)
    assert not trouble.failed("open a session", REFUSED, "no", 70).give_up
    assert trouble.over() == 3
    assert not trouble.failed("open a session", REFUSED, "no", 200).give_up
    assert trouble.over() == 1


def test_a_property_that_no_label_holds_names_its_flag() -> None:
    text = Trouble().failed("open a session", grpc.StatusCode.FAILED_PRECONDITION, "no label", 0).text
    assert text is not None and "--property" in text
