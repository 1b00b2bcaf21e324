"""What clients are told of jobs that took too long."""

from datetime import timedelta

import pytest
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import ExecuteResponse
from buildgrid_scheduler.core.time_limits import in_words, overlong_response, unserved_response
from google.rpc import code_pb2


def test_who_ran_for_too_long_hears_the_limit_its_name_and_where() -> None:
    response = ExecuteResponse.FromString(
        overlong_response(timedelta(hours=2), "bot-7", "http://b/action/a/1/")
    )
    assert response.status.code == code_pb2.DEADLINE_EXCEEDED
    for word in ("bot-7", "2h", "max_execution_timeout"):
        assert word in response.status.message
    assert response.message == "http://b/action/a/1/"


def test_who_was_taken_by_no_bot_hears_which_bots_are_missing() -> None:
    needs = {"Pool": ["gpu"], "OSFamily": ["linux"], "container-image": ["a", "b"]}
    response = ExecuteResponse.FromString(unserved_response(timedelta(minutes=90), "gpu", needs))
    assert response.status.code == code_pb2.UNAVAILABLE
    assert "OSFamily=linux, Pool=gpu, container-image=a, container-image=b" in response.status.message
    assert "within 1h 30min" in response.status.message
    assert "label 'gpu'" in response.status.message
    assert not response.message


def test_who_needs_nothing_in_particular_is_asked_for_any_bot() -> None:
    response = ExecuteResponse.FromString(unserved_response(timedelta(hours=1), "unknown", {}))
    assert "are there bots, and enough of them?" in response.status.message


@pytest.mark.parametrize(
    ("span", "words"),
    [
        (timedelta(), "0s"),
        (timedelta(milliseconds=250), "0.25s"),
        (timedelta(seconds=90), "1min 30s"),
        (timedelta(hours=2), "2h"),
        (timedelta(days=1, seconds=5), "1d 5s"),
        (timedelta(days=30, hours=1, minutes=1, seconds=1), "30d 1h"),
    ],
)
def test_spans_are_told_by_their_two_largest_units(span: timedelta, words: str) -> None:
    assert in_words(span) == words
