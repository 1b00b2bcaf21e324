"""How often jobs come, and how long they take, of what was counted."""

import math
from datetime import timedelta

import pytest
from buildgrid_scheduler.core.requirement_figures import (
    JOBS_MEMORY,
    RATE_HALF_LIFE,
    RATE_MEMORY,
    Figures,
    Sums,
)

NOTHING = Figures(0, 0, 0, 0)
NOW = timedelta(0)


def seconds(number: float) -> timedelta:
    return timedelta(seconds=number)


def after(known: Figures, *durations: float) -> Figures:
    """What is known once jobs finished with these durations, each written down by itself.

    That growing old is what PostgreSQL does, see tests/integration/fleet/test_estimates.py.
    """
    for duration in durations:
        sums = Sums()
        sums.finish(seconds(duration), known.longest_counted)
        kept = math.exp(-1 / JOBS_MEMORY)
        known = Figures(
            known.arrived,
            known.finished * kept + sums.finished,
            known.seconds * kept + sums.seconds,
            known.seconds_squared * kept + sums.seconds_squared,
        )
    return known


def duration(known: Figures) -> float:
    told = known.estimate(NOW).duration
    assert told is not None
    return told.total_seconds()


def test_of_jobs_that_never_finished_no_duration_is_known() -> None:
    estimate = Figures(3, 0, 0, 0).estimate(NOW)
    assert (estimate.duration, estimate.duration_spread) == (None, None)
    assert estimate.arrival_rate > 0


def test_mean_and_standard_deviation_are_of_what_was_counted() -> None:
    sums = Sums()
    for each in (1, 3, 5, 7):
        sums.finish(seconds(each), math.inf)
    estimate = Figures(0, sums.finished, sums.seconds, sums.seconds_squared).estimate(NOW)
    assert estimate.duration == seconds(4)
    assert estimate.duration_spread == pytest.approx(seconds(5**0.5), abs=seconds(1e-5))


def test_a_steady_rate_is_told_as_it_is() -> None:
    arrived, step = 0.0, seconds(5)
    for _ in range(2000):  # 3 a second, until nothing changes any more
        arrived = arrived * math.exp(-step / RATE_MEMORY) + 15
    assert Figures(arrived, 0, 0, 0).estimate(NOW).arrival_rate == pytest.approx(3, rel=0.01)


def test_a_rate_halves_while_nothing_comes() -> None:
    known = Figures(100, 0, 0, 0)
    before = known.estimate(NOW).arrival_rate
    assert known.estimate(RATE_HALF_LIFE).arrival_rate == pytest.approx(before / 2)
    assert known.estimate(timedelta(days=300)).arrival_rate == 0


def test_a_clock_that_is_behind_makes_no_rate_higher() -> None:
    known = Figures(100, 0, 0, 0)
    assert known.estimate(-RATE_HALF_LIFE) == known.estimate(NOW)


def test_a_job_that_took_less_than_nothing_took_hardly_any_time() -> None:
    assert 0 < duration(after(NOTHING, -5.0)) < 0.01


def test_the_last_fifty_jobs_tell() -> None:
    known = after(NOTHING, *[10.0] * 300, *[20.0] * 50)
    assert 15 < duration(known) < 18
    assert duration(after(known, *[20.0] * 200)) == pytest.approx(20, rel=0.02)


def test_one_job_that_hung_hardly_moves_the_mean() -> None:
    usual = after(NOTHING, *[8.0, 12.0] * 100)
    assert duration(after(usual, 7200.0)) < 1.1 * duration(usual)


def test_one_job_in_fifty_that_hangs_hardly_moves_the_mean() -> None:
    known = after(NOTHING, *([10.0] * 49 + [7200.0]) * 20)
    assert duration(known) < 15


def test_before_ten_jobs_nothing_is_out_of_the_ordinary() -> None:
    assert after(NOTHING, *[1.0] * 9).longest_counted == math.inf
    assert after(NOTHING, *[1.0] * 12).longest_counted < 5


def test_one_long_job_in_ten_is_counted_whole_however_long_it_takes() -> None:
    known = after(NOTHING, *[1.0] * 50, *([1.0] * 9 + [600.0]) * 200)
    assert duration(known) == pytest.approx(60, rel=0.25)


def test_jobs_that_take_longer_than_before_are_believed_in_the_end() -> None:
    known = after(NOTHING, *[1.0] * 100, *[600.0] * 200)
    assert duration(known) == pytest.approx(600, rel=0.05)


def test_jobs_that_took_hardly_any_time_may_take_some() -> None:
    known = after(NOTHING, *[0.0] * 100)
    assert known.longest_counted == 1
    assert duration(after(known, *[30.0] * 200)) == pytest.approx(30, rel=0.05)
