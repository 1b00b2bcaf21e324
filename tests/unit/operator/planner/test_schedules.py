"""When schedules begin and end, and what is told of those that cannot be read."""

from datetime import UTC, datetime, timedelta

import pytest
from buildgrid_operator.planner.policy import Schedule
from buildgrid_operator.planner.schedules import Floor, floor_at

_HOUR = timedelta(hours=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_a_working_day_begins_by_the_clock_in_winter_and_in_summer() -> None:
    day = Schedule("0 8 * * *", 10 * _HOUR, 6, "Europe/Berlin")
    assert floor_at(0, [day], at("2026-01-15T06:59:59")) == Floor(0, at("2026-01-15T07:00"))
    assert floor_at(0, [day], at("2026-01-15T07:00")) == Floor(6, at("2026-01-15T17:00"))
    assert floor_at(0, [day], at("2026-07-15T05:59:59")) == Floor(0, at("2026-07-15T06:00"))
    assert floor_at(0, [day], at("2026-07-15T06:00")) == Floor(6, at("2026-07-15T16:00"))


def test_an_hour_that_the_clock_passes_twice_begins_once() -> None:
    night = Schedule("30 2 * * *", _HOUR / 2, 3, "Europe/Berlin")
    day = at("2026-10-25T00:00")
    floors = [floor_at(0, [night], day + timedelta(minutes=minute)).bots for minute in range(24 * 60)]
    assert floors.count(3) == 30


def test_an_hour_that_the_clock_skips_begins_after_it() -> None:
    night = Schedule("30 2 * * *", _HOUR / 2, 3, "Europe/Berlin")
    day = at("2026-03-29T00:00")
    floors = [floor_at(0, [night], day + timedelta(minutes=minute)).bots for minute in range(24 * 60)]
    assert floors.count(3) == 30


def test_of_what_overlaps_the_greatest_number_counts() -> None:
    day, noon = Schedule("0 8 * * *", 10 * _HOUR, 6), Schedule("0 12 * * *", _HOUR, 9)
    assert floor_at(2, [day, noon], at("2026-01-15T12:30")) == Floor(9, at("2026-01-15T13:00"))
    assert floor_at(7, [day], at("2026-01-15T12:30")).bots == 7
    assert floor_at(7, [], at("2026-01-15T12:30")) == Floor(7, None)


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "Europe", "Local"])
def test_a_time_zone_that_is_none_is_named(zone: str) -> None:
    with pytest.raises(ValueError, match=f"no time zone '{zone}'"):
        floor_at(0, [Schedule("0 8 * * *", _HOUR, 1, zone)], at("2026-01-15T12:00"))


@pytest.mark.parametrize("start", ["60 8 * * *", "0 24 * * *", "0 8 31 2 *", "0 8 * * FOO"])
def test_a_time_that_is_none_is_named(start: str) -> None:
    with pytest.raises(ValueError) as caught:
        floor_at(0, [Schedule(start, _HOUR, 1)], at("2026-01-15T12:00"))
    assert repr(start) in str(caught.value)
