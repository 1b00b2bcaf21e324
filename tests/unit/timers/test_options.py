"""How old what may get, as a configuration says it."""

from datetime import timedelta

import pytest
from buildgrid_scheduler.timers.options import AgedJobHandlerOptions, TimerSettings

from_config = AgedJobHandlerOptions.from_config


@pytest.mark.parametrize("nothing", [{}, None])
def test_without_words_it_is_thirty_days_five_minutes_and_ten_thousand_jobs(
    nothing: dict[str, float],
) -> None:
    expected = AgedJobHandlerOptions(timedelta(days=30), timedelta(minutes=5), 10_000)
    assert from_config(nothing, nothing, None) == from_config(nothing) == expected


def test_units_add_up() -> None:
    options = from_config(
        {"weeks": 1, "days": 2, "hours": 3, "minutes": 4.5, "seconds": 0.5}, {"seconds": 0.25}, 7
    )
    age = timedelta(days=9, hours=3, minutes=4, seconds=30.5)
    assert options == AgedJobHandlerOptions(age, timedelta(milliseconds=250), 7)


def test_an_age_of_nothing_is_one() -> None:
    assert from_config({"days": 0}).job_max_age == timedelta()


@pytest.mark.parametrize(
    ("age", "period", "window", "complaint"),
    [
        ({"fortnights": 1}, None, None, "job_max_age: 'fortnights' is no unit; there are weeks, days, hours"),
        ({"days": 1}, {"milliseconds": 1}, None, "handling_period: 'milliseconds' is no unit"),
        ({"days": -1}, None, None, "job_max_age: days: -1 is negative"),
        ({"days": 2, "hours": -1}, None, None, "job_max_age: hours: -1 is negative"),
        ({"days": float("nan")}, None, None, "job_max_age: days: nan is negative, or not a number"),
        ({"days": float("inf")}, None, None, "job_max_age: .* is too long"),
        ({"weeks": 1e12}, None, None, "job_max_age: .* is too long"),
        ({"days": "2"}, None, None, "job_max_age: days: '2' is not a number"),
        ({"days": True}, None, None, "job_max_age: days: True is not a number"),
        ({"days": 1}, {"seconds": 0}, None, "handling_period: must be above 0"),
        ({"days": 1}, {"minutes": -5}, None, "handling_period: minutes: -5 is negative"),
        ({"days": 1}, None, 0, "max_handling_window: 0: must be at least 1"),
        ({"days": 1}, None, -3, "max_handling_window: -3: must be at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(
    age: dict[str, float], period: dict[str, float] | None, window: int | None, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        from_config(age, period, window)


@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [
        (timedelta(seconds=300), 75),
        (timedelta(seconds=60), 15),
        (timedelta(hours=2), 75),
        (None, 75),
    ],
)
def test_what_is_followed_is_noted_four_times_per_timeout_or_more_often(
    timeout: timedelta | None, seconds: float
) -> None:
    assert TimerSettings(abandoned_operation_timeout=timeout).follow_interval == seconds
