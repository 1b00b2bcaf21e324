"""Durations and sizes, as people write them."""

from datetime import timedelta

import pytest
from buildgrid_scheduler.config.values import (
    addresses_overlap,
    parse_duration,
    parse_size,
    show_duration,
    show_size,
)
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        (90, 90),
        (0.5, 0.5),
        ("90", 90),
        ("90s", 90),
        ("15m", 900),
        ("1h30m", 5400),
        ("30d", 30 * 86400),
        ("1w", 7 * 86400),
        ("250ms", 0.25),
        ("1.5h", 5400),
        (" 5s ", 5),
        (0, 0),
    ],
)
def test_a_duration(written: object, seconds: float) -> None:
    assert parse_duration(written) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "written", ["", "soon", "5 minutes", "5m5", "-5s", -1, True, None, [], "5x", "nan", "1e400", "99999999d"]
)
def test_what_is_no_duration(written: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(written)


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=36500)))
def test_a_duration_is_shown_as_it_can_be_written(duration: timedelta) -> None:
    whole = timedelta(seconds=int(duration.total_seconds()))
    assert parse_duration(show_duration(whole)) == whole


@pytest.mark.parametrize(
    ("written", "size"),
    [
        (1500, 1500),
        ("1500", 1500),
        ("1500B", 1500),
        ("2Ki", 2048),
        ("512Mi", 512 * 1024**2),
        ("10GiB", 10 * 1024**3),
        ("10GB", 10**10),
        ("1.5Gi", 3 * 512 * 1024**2),
        ("1 Ti", 1024**4),
    ],
)
def test_a_size(written: object, size: int) -> None:
    assert parse_size(written) == size


@pytest.mark.parametrize("written", ["", "big", "10Zi", "-1", "1e3", 1.5, True, None, "Gi"])
def test_what_is_no_size(written: object) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(written)


@given(st.integers(min_value=0, max_value=10**15))
def test_a_size_is_shown_as_it_can_be_written(size: int) -> None:
    assert parse_size(show_size(size)) == size


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("127.0.0.1:1", "127.0.0.1:1", True),
        ("127.0.0.1:1", "127.0.0.1:2", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
        ("127.0.0.1:01", "127.0.0.1:1", True),
        ("127.0.0.1:1", "127.0.0.2:1", False),
        ("[::]:1", "127.0.0.1:1", True),
        ("[::]:1", "0.0.0.0:1", True),
        ("[::]:1", "[::1]:1", True),
        ("[0:0::0]:1", "[::1]:1", True),
        ("[::]:1", "build.example.org:1", True),
        ("0.0.0.0:1", "127.0.0.1:1", True),
        ("0.0.0.0:1", "localhost:1", True),
        ("0.0.0.0:1", "build.example.org:1", True),
        ("0.0.0.0:1", "[::1]:1", False),
        ("localhost:1", "127.0.0.1:1", True),
        ("LOCALHOST:1", "[::1]:1", True),
        ("build.example.org:1", "127.0.0.1:1", False),
    ],
)
def test_whether_two_addresses_can_both_be_bound(one: str, other: str, overlap: bool) -> None:
    assert addresses_overlap(one, other) is overlap
    assert addresses_overlap(other, one) is overlap
