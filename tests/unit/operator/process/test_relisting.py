"""When all is listed again."""

from datetime import timedelta

import pytest
from buildgrid_operator.process.relisting import STARTING, ListTimes

RELIST = timedelta(minutes=10)
STARTED = STARTING.total_seconds() + 1


class Clock:
    """Stands still unless it is set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def times(clock: Clock) -> ListTimes:
    return ListTimes(RELIST, clock)


def test_all_is_listed_every_ten_minutes(times: ListTimes, clock: Clock) -> None:
    clock.now += 599
    assert not times.due(blind=False)
    clock.now += 1
    assert times.due(blind=False)
    assert not times.due(blind=False)


def test_once_more_when_the_watches_of_a_stream_have_begun(times: ListTimes, clock: Clock) -> None:
    times.stream_begins()
    times.watch_listed()
    clock.now += STARTED - 2
    assert not times.due(blind=False)
    clock.now += 2
    assert times.due(blind=False)
    clock.now += 599
    assert not times.due(blind=False)


def test_each_stream_begins_so(times: ListTimes, clock: Clock) -> None:
    for _ in range(2):
        times.stream_begins()
        clock.now += STARTED
        assert times.due(blind=False)


def test_a_list_while_the_watches_begin_is_not_the_one_after(times: ListTimes, clock: Clock) -> None:
    times.stream_begins()
    clock.now += 21
    assert times.due(blind=True)
    clock.now += STARTED - 21
    assert times.due(blind=True)


def test_when_a_watch_begins_anew(times: ListTimes, clock: Clock) -> None:
    times.stream_begins()
    clock.now += STARTED
    assert times.due(blind=False)
    times.watch_listed()
    times.watch_listed()
    assert times.due(blind=False)
    assert not times.due(blind=False)


def test_sooner_while_something_cannot_be_watched(times: ListTimes, clock: Clock) -> None:
    clock.now += 20
    assert not times.due(blind=False)
    assert times.due(blind=True)
    assert ListTimes(timedelta(0), clock).due(blind=True), "never later than it is asked for"


def test_a_list_that_failed_is_due_still(times: ListTimes, clock: Clock) -> None:
    clock.now += 600
    assert times.due(blind=False)
    times.failed()
    assert times.due(blind=False)
    assert not times.due(blind=False)
