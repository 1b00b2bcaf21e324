"""What replicas tell each other arrives whole, in payloads that PostgreSQL takes."""

import json

import pytest
from buildgrid_scheduler.notifier.messages import MAX_PAYLOAD, decode, encode
from hypothesis import given
from hypothesis import strategies as st

NAMES = st.lists(st.text(max_size=60), max_size=300)
ARRIVALS = st.lists(st.tuples(st.text(max_size=40), st.text("0123456789abcdef", max_size=40)), max_size=200)


@given(
    origin=st.text("0123456789abcdef", max_size=12),
    jobs=NAMES,
    arrivals=ARRIVALS,
    sessions=NAMES,
    hello=st.booleans(),
)
def test_everything_arrives_in_payloads_below_the_limit(
    origin: str, jobs: list[str], arrivals: list[tuple[str, str]], sessions: list[str], hello: bool
) -> None:
    payloads = encode(origin, jobs=jobs, arrivals=arrivals, sessions=sessions, hello=hello)
    assert all(len(payload.encode()) <= MAX_PAYLOAD < 8000 for payload in payloads)
    messages = [decode(payload) for payload in payloads]
    assert {message.origin for message in messages} <= {origin}
    assert [job for message in messages for job in message.jobs] == jobs
    assert [arrival for message in messages for arrival in message.arrivals] == arrivals
    assert [session for message in messages for session in message.sessions] == sessions
    assert sum(message.hello for message in messages) == hello


def test_nothing_to_tell_is_no_payload() -> None:
    assert encode("me") == []


def test_a_thousand_jobs_take_a_handful_of_payloads() -> None:
    jobs = [f"{n:036}" for n in range(1000)]
    assert len(encode("me", jobs=jobs)) <= 7


@pytest.mark.parametrize("payload", ["", "no JSON", "{}"])
def test_what_is_not_ours_is_an_error_that_the_listener_knows(payload: str) -> None:
    with pytest.raises((ValueError, KeyError)):
        decode(payload)


def test_kinds_that_a_newer_version_adds_are_passed_over() -> None:
    assert decode(json.dumps({"o": "me", "x": [1], "j": ["a"]})).jobs == ["a"]
