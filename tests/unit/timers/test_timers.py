"""Which loops a replica runs, by its settings."""

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from buildgrid_scheduler.timers.options import AgedJobHandlerOptions, TimerSettings
from buildgrid_scheduler.timers.timers import Timers

OFTEN = 0.001
AGED = AgedJobHandlerOptions(timedelta(hours=1), timedelta(seconds=OFTEN), 100)
EVERYTHING = {"sessions", "execution", "queue", "pruning", "abandoned"}


class Recorded:
    """Rounds that note that they were begun."""

    def __init__(self, awaited: set[str]) -> None:
        self.begun: set[str] = set()
        self.all_begun = threading.Event()
        self._awaited = awaited

    def _begin(self, what: str) -> Iterator[int]:
        self.begun.add(what)
        if self.begun >= self._awaited:
            self.all_begun.set()
        return iter(())

    def reconfigure(self, settings: TimerSettings) -> None:
        self.settings = settings

    def expired_sessions(self) -> Iterator[int]:
        return self._begin("sessions")

    def execution_timeouts(self) -> Iterator[int]:
        return self._begin("execution")

    def queue_timeouts(self) -> Iterator[int]:
        return self._begin("queue")

    def pruning(self) -> Iterator[int]:
        return self._begin("pruning")

    def abandoned_operations(self) -> Iterator[int]:
        return self._begin("abandoned")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            TimerSettings(
                session_expiry_interval=OFTEN,
                execution_interval=OFTEN,
                max_execution_timeout=timedelta(hours=1),
                queue_timeout=AGED,
                pruning=AGED,
                abandoned_operation_timeout=timedelta(seconds=OFTEN),
            ),
            EVERYTHING,
        ),
        (TimerSettings(OFTEN, OFTEN, None), {"sessions"}),
        (TimerSettings(OFTEN, OFTEN, None, lease_start_timeout=timedelta(1)), {"sessions", "execution"}),
        (TimerSettings(0, 0, timedelta(hours=1), pruning=AGED), {"pruning"}),
        (TimerSettings(-1, OFTEN, timedelta(hours=1), queue_timeout=AGED), {"execution", "queue"}),
    ],
)
def test_only_what_has_options_and_an_interval_is_run(settings: TimerSettings, expected: set[str]) -> None:
    rounds = Recorded(expected)
    timers = Timers(rounds, settings)
    timers.start()
    assert rounds.all_begun.wait(30)
    timers.stop()
    assert rounds.begun == expected


def test_what_has_no_options_returns_at_once_when_the_caller_runs_it() -> None:
    rounds = Recorded(set())
    timers = Timers(rounds, TimerSettings(session_expiry_interval=0, execution_interval=0))
    for loop in (timers.session_expiry, timers.execution, timers.queue, timers.pruning):
        loop.run(threading.Event())
    assert not rounds.begun


def test_new_settings_are_passed_on_and_start_what_has_something_to_do_now() -> None:
    rounds = Recorded({"pruning"})
    timers = Timers(rounds, TimerSettings(session_expiry_interval=0))
    settings = TimerSettings(session_expiry_interval=0, pruning=AGED)
    timers.start()
    timers.reconfigure(settings)
    assert rounds.all_begun.wait(30)
    assert rounds.settings is settings
    timers.stop()


def test_new_settings_start_nothing_before_all_is_started() -> None:
    rounds = Recorded({"sessions"})
    timers = Timers(rounds, TimerSettings(session_expiry_interval=0))
    threads = threading.active_count()
    timers.reconfigure(TimerSettings(session_expiry_interval=OFTEN))
    assert threading.active_count() == threads
    timers.start()
    assert rounds.all_begun.wait(30)
    timers.stop()
