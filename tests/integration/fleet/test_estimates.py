"""What all replicas together know of jobs that require the same."""

import math
import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from buildgrid_scheduler.core.requirement_figures import (
    JOBS_MEMORY,
    RATE_HALF_LIFE,
    RATE_MEMORY,
    Estimate,
    Figures,
    Sums,
)
from buildgrid_scheduler.engine.figures import Key
from buildgrid_scheduler.fleet.estimates import FORGOTTEN_AFTER, add_figures, estimates_of
from buildgrid_scheduler.store.provider import SqlProvider
from sqlalchemy import text

START = datetime(2026, 1, 1, tzinfo=UTC)
CC, GPU, ELSEWHERE = ("", "cc"), ("", "gpu"), ("other", "cc")


def sums(arrived: int = 0, *durations: float) -> Sums:
    made = Sums(arrived)
    for each in durations:
        made.finish(timedelta(seconds=each), math.inf)
    return made


Add = Callable[..., dict[Key, Figures]]
Known = Callable[..., dict[Key, Estimate]]


@pytest.fixture
def add(provider: SqlProvider) -> Add:
    """A replica writes down what happened, so long after START."""

    def add(seen: dict[Key, Sums], after: timedelta = timedelta(0)) -> dict[Key, Figures]:
        with provider.session() as session:
            return dict(add_figures(session, seen, START + after))

    return add


@pytest.fixture
def known(provider: SqlProvider) -> Known:
    def known(*keys: Key, after: timedelta = timedelta(0)) -> dict[Key, Estimate]:
        with provider.session() as session:
            return dict(estimates_of(session, keys, START + after))

    return known


def rows(provider: SqlProvider) -> int:
    with provider.session() as session:
        count: int = session.execute(text("SELECT count(*) FROM requirement_figures")).scalar_one()
        return count


def test_of_what_nobody_had_nothing_is_known(add: Add, known: Known) -> None:
    assert add({}) == {}
    assert known() == {}
    assert known(CC) == {}
    add({CC: sums(1)})
    assert known(GPU, ELSEWHERE) == {}


def test_a_requirement_is_of_one_instance(add: Add, known: Known) -> None:
    add({CC: sums(1, 10.0), ELSEWHERE: sums(1, 20.0), GPU: sums(1)})
    told = known(CC, ELSEWHERE, GPU)
    assert {key: estimate.duration for key, estimate in told.items()} == {
        CC: timedelta(seconds=10),
        ELSEWHERE: timedelta(seconds=20),
        GPU: None,
    }


def test_two_replicas_add_to_the_same(add: Add, known: Known) -> None:
    add({CC: sums(3, 10.0)})
    figures = add({CC: sums(5, 20.0)})
    assert figures[CC].arrived == 8
    told = known(CC)[CC]
    assert told.arrival_rate == pytest.approx(8 / RATE_MEMORY.total_seconds())
    assert told.duration is not None
    assert 15 < told.duration.total_seconds() < 15.2  # the newer one counts a little more
    assert told.duration_spread == pytest.approx(timedelta(seconds=5), rel=0.01)


def test_a_rate_halves_between_additions_and_until_it_is_read(add: Add, known: Known) -> None:
    add({CC: sums(8, 10.0)})
    assert add({CC: sums(2)}, RATE_HALF_LIFE)[CC].arrived == pytest.approx(6)
    told = known(CC, after=2 * RATE_HALF_LIFE)[CC]
    assert told.arrival_rate == pytest.approx(3 / RATE_MEMORY.total_seconds())
    assert told.duration == timedelta(seconds=10), "time alone changes no duration"


def test_a_replica_whose_transaction_began_earlier_lets_nothing_grow_young(add: Add, known: Known) -> None:
    add({CC: sums(8)}, RATE_HALF_LIFE)
    assert add({CC: sums(1)})[CC].arrived == 9
    assert known(CC, after=RATE_HALF_LIFE)[CC].arrival_rate == pytest.approx(9 / RATE_MEMORY.total_seconds())


def test_very_many_jobs_and_very_long_pauses_are_no_errors(add: Add) -> None:
    add({CC: sums(1, 0.0)})
    for day in range(1, 100):
        figures = add({CC: sums(day % 2, 0.0)}, timedelta(days=day))
        assert figures[CC].arrived == day % 2
    add({CC: sums(1)}, timedelta(days=100))
    for pause in range(1, 30):  # shorter ones, after which ever less is left
        add({CC: sums(0, 0.0)}, timedelta(days=100) + pause * 40 * RATE_MEMORY)
    crowd = Sums(10**6, 10**6, 2e6, 4e6)
    assert add({CC: crowd}, timedelta(days=200))[CC] == Figures(1e6, 1e6, 2e6, 4e6)


def test_the_database_reckons_as_it_is_written(add: Add) -> None:
    random_ = random.Random(1)
    at, reckoned = timedelta(0), Figures(0, 0, 0, 0)
    for _ in range(60):
        step = timedelta(seconds=random_.expovariate(1 / 60))
        seen = sums(random_.randrange(5), *(random_.expovariate(0.1) for _ in range(random_.randrange(4))))
        at += step
        young, kept = math.exp(-step / RATE_MEMORY), math.exp(-seen.finished / JOBS_MEMORY)
        reckoned = Figures(
            reckoned.arrived * young + seen.arrived,
            reckoned.finished * kept + seen.finished,
            reckoned.seconds * kept + seen.seconds,
            reckoned.seconds_squared * kept + seen.seconds_squared,
        )
        told = add({CC: seen}, at)[CC]
        for name in ("arrived", "finished", "seconds", "seconds_squared"):
            assert getattr(told, name) == pytest.approx(getattr(reckoned, name), rel=1e-6), name


def test_what_nobody_asked_for_in_a_week_is_forgotten(add: Add, known: Known, provider: SqlProvider) -> None:
    add({CC: sums(1, 10.0), GPU: sums(1)})
    add({GPU: sums(1)}, timedelta(days=1))
    add({GPU: sums(1)}, FORGOTTEN_AFTER)
    assert rows(provider) == 2
    add({ELSEWHERE: sums(1)}, FORGOTTEN_AFTER + timedelta(seconds=1))
    assert rows(provider) == 2
    assert known(CC) == {}


def test_by_default_it_is_the_databases_time(provider: SqlProvider) -> None:
    with provider.session() as session:
        add_figures(session, {CC: sums(8)})
    with provider.session() as session:
        told = estimates_of(session, [CC])[CC]
    assert told.arrival_rate == pytest.approx(8 / RATE_MEMORY.total_seconds(), rel=0.5)


def test_replicas_that_write_at_the_same_time_wait_for_each_other(provider: SqlProvider) -> None:
    keys = [("", str(number)) for number in range(50)]
    failures: list[Exception] = []

    def replica(order: int) -> None:
        try:
            for _ in range(10):
                with provider.session() as session:
                    add_figures(session, {key: sums(1) for key in keys[::order]}, START)
        except Exception as error:  # noqa: BLE001 - shown by the assertion
            failures.append(error)

    threads = [threading.Thread(target=replica, args=(order,)) for order in (1, -1, 1, -1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    with provider.session() as session:
        found = session.execute(text("SELECT DISTINCT arrived FROM requirement_figures")).scalars().all()
    assert found == [40]
