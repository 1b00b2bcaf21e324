from datetime import timedelta

import pytest
from buildgrid_operator.api.durations import LONGEST, Duration, parse_duration, show_duration
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("0s", timedelta()),
        ("90s", timedelta(seconds=90)),
        ("1h30m", timedelta(minutes=90)),
        ("1.5h", timedelta(minutes=90)),
        ("720h", timedelta(days=30)),
        ("0.25s", timedelta(milliseconds=250)),
        ("1h1m1s1.001ms", timedelta(hours=1, minutes=1, seconds=1, microseconds=1001)),
    ],
)
def test_durations_are_read_as_kubernetes_writes_them(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    "text", ["", "s", "90", "-1s", "+1s", "1d", "1m1h", "1s1s", "1 h", "1H", "1h\n", "1e3s", "½h", ".5s"]
)
def test_other_texts_are_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="write for example 90s"):
        parse_duration(text)


@given(st.timedeltas(min_value=timedelta(), max_value=parse_duration(LONGEST)))
def test_every_duration_is_read_as_it_is_written(duration: timedelta) -> None:
    assert parse_duration(show_duration(duration)) == duration


@pytest.mark.parametrize("text", ["0s", "5s", "1h30m", "720h", "500ms", "1m0.5ms"])
def test_durations_are_written_in_their_shortest_form(text: str) -> None:
    assert show_duration(parse_duration(text)) == text


def test_bounds_include_their_ends_and_zero_only_where_it_means_something() -> None:
    bounded = Duration("1s", "1m")
    assert [bounded.accepts(text) for text in ("0s", "999ms", "1s", "1m", "1m1ms")] == [
        False, False, True, True, False,
    ]  # fmt: skip
    assert Duration("1s", "1m", or_zero="never").accepts("0s")
    assert "or 0s: never" in Duration("1s", or_zero="never").rule.message
