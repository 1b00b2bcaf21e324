"""A loop runs its rounds apart, outlives what goes wrong in them, and stops between two steps."""

import logging
import threading
from collections.abc import Iterator

import pytest
from buildgrid_scheduler.core.errors import Unavailable
from buildgrid_scheduler.timers.loop import TimerLoop

from tests.farm.waiting import eventually_sync

INTERVAL = 100.0


class Waits(threading.Event):
    """Notes how long would be waited before each round of `work`; set after `most` of them."""

    def __init__(self, work: "Work", most: int) -> None:
        super().__init__()
        self.waits: list[float] = [0.0]
        self._work = work
        self._most = most

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        assert timeout <= 5.0, "a change of the interval would go unnoticed for long"
        if self._work.rounds == len(self.waits):
            self.waits.append(0.0)
        self.waits[-1] += timeout
        if self._work.rounds == self._most:
            self.set()
        return self.is_set()


class Work:
    """A round of some steps, after which `fails` is raised."""

    def __init__(self, *steps: int, fails: Exception | None = None) -> None:
        self.rounds = 0
        self.steps_done = 0
        self._steps = steps
        self._fails = fails

    def __call__(self) -> Iterator[int]:
        self.rounds += 1
        for step in self._steps:
            self.steps_done += 1
            yield step
        if self._fails is not None:
            raise self._fails


def test_replicas_do_not_run_in_step() -> None:
    firsts, later = set(), set()
    for _ in range(50):
        work = Work()
        event = Waits(work, 4)
        TimerLoop(work, INTERVAL, "nothing was done").run(event)
        firsts.add(event.waits[0])
        later.update(event.waits[1:4])
    assert len(firsts) == 50
    assert INTERVAL / 2 <= min(firsts) < max(firsts) <= INTERVAL
    assert len(later) == 150
    assert 0.9 * INTERVAL <= min(later) < INTERVAL < max(later) <= 1.1 * INTERVAL


def test_a_round_is_run_to_its_end_and_counted_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    work = Work(2, 0, 3)
    with caplog.at_level(logging.INFO):
        TimerLoop(work, INTERVAL, "things were done").run(Waits(work, 1))
    assert (work.rounds, work.steps_done) == (1, 3)
    assert [record.getMessage() for record in caplog.records] == ["things were done: 5"]


def test_a_round_that_did_nothing_is_not_worth_a_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        work = Work(0)
        TimerLoop(work, INTERVAL, "things were done").run(Waits(work, 2))
    assert not caplog.records


@pytest.mark.parametrize("error", [Unavailable("the database is away"), RuntimeError("a bug")])
def test_errors_are_logged_and_the_next_round_comes(
    caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    work = Work(1, fails=error)
    TimerLoop(work, INTERVAL, "things were done").run(Waits(work, 3))
    assert work.rounds == 3
    assert len(caplog.records) == 3
    assert "things were done: failed, next try in 100 s" in caplog.text
    assert str(error) in caplog.text


def test_it_ends_after_the_step_during_which_it_is_told_to() -> None:
    event = Waits(Work(), 10)
    drawn = []

    def work() -> Iterator[int]:
        for number in range(5):
            drawn.append(number)
            if number == 2:
                event.set()
            yield 1

    TimerLoop(work, INTERVAL, "things were done").run(event)
    assert drawn == [0, 1, 2]


def test_nothing_is_done_once_it_is_told_to_end() -> None:
    work = Work(1)
    event = threading.Event()
    event.set()
    TimerLoop(work, INTERVAL, "things were done").run(event)
    assert not work.rounds


@pytest.mark.parametrize("interval", [0, -1])
def test_without_an_interval_it_neither_starts_nor_runs(interval: float) -> None:
    work = Work(1)
    loop = TimerLoop(work, interval, "things were done")
    threads = threading.active_count()
    loop.start()
    assert threading.active_count() == threads
    loop.run(threading.Event())
    loop.stop()
    assert not work.rounds


def test_its_thread_runs_rounds_until_it_is_stopped() -> None:
    twice = threading.Event()
    rounds = []

    def work() -> Iterator[int]:
        rounds.append(1)
        if len(rounds) == 2:
            twice.set()
        yield 1

    loop = TimerLoop(work, 0.001, "things were done")
    loop.start()
    assert twice.wait(30)
    loop.stop()
    assert not [t for t in threading.enumerate() if t.name == "timer: things were done"]


def test_to_stop_does_not_wait_for_the_next_round() -> None:
    loop = TimerLoop(Work(1), 3600, "things were done")
    loop.start()
    loop.stop()  # the test's own timeout is what tells


def test_a_changed_interval_holds_for_the_wait_that_is_under_way() -> None:
    work = Work(1)
    loop = TimerLoop(work, 3600, "things were done")
    waits = []

    class Changed(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout)
            loop.change_interval(12)
            return work.rounds > 0

    loop.run(Changed())
    assert work.rounds == 1
    assert sum(wait or 0 for wait in waits[:-1]) < 15


def test_it_can_be_switched_off_and_on_again() -> None:
    rounds = threading.Semaphore(0)

    def work() -> Iterator[int]:
        rounds.release()
        yield 1

    def threads() -> list[str]:
        return [t.name for t in threading.enumerate() if t.name == "timer: things were done"]

    loop = TimerLoop(work, 0, "things were done")
    for _ in range(2):
        loop.change_interval(0.001)
        loop.start()
        loop.start()
        assert rounds.acquire(timeout=30)
        assert len(threads()) == 1
        loop.change_interval(0)
        eventually_sync(lambda: not threads(), 30, lambda: "it does not end")
    loop.stop()
    loop.change_interval(0.001)
    loop.start()
    assert not threads(), "what was stopped does not start again"
