"""The timers of a replica."""

import time
from collections.abc import Iterator
from typing import Protocol

from buildgrid_scheduler.timers.loop import STOP_WITHIN, TimerLoop
from buildgrid_scheduler.timers.options import AgedJobHandlerOptions, TimerSettings


class Rounds(Protocol):
    """What timers do: each method begins a round, see `loop.Round`. `engine.timed_rounds` has them."""

    def expired_sessions(self) -> Iterator[int]:
        """Close them."""
        ...

    def execution_timeouts(self) -> Iterator[int]:
        """End what executes for too long, and take back what was not started for too long."""
        ...

    def queue_timeouts(self) -> Iterator[int]:
        """End what waits for too long."""
        ...

    def pruning(self) -> Iterator[int]:
        """Delete what ended long ago."""
        ...

    def abandoned_operations(self) -> Iterator[int]:
        """Note what is followed here; cancel what nobody follows any more."""
        ...

    def reconfigure(self, settings: TimerSettings) -> None:
        """For the rounds that begin from now on."""
        ...


class Timers:
    """A loop for each, which the caller may run, too. Those without options or interval do nothing."""

    def __init__(self, rounds: Rounds, settings: TimerSettings) -> None:
        self._rounds = rounds
        self._started = False
        self.session_expiry = TimerLoop(
            rounds.expired_sessions, _session_expiry(settings), "expired sessions were closed"
        )
        self.execution = TimerLoop(
            rounds.execution_timeouts,
            _execution(settings),
            "leases were ended after max_execution_timeout or lease_start_timeout",
        )
        self.queue = TimerLoop(rounds.queue_timeouts, _queue(settings), "jobs were ended that no bot took")
        self.pruning = TimerLoop(rounds.pruning, _pruning(settings), "old jobs were pruned")
        self.abandoned = TimerLoop(
            rounds.abandoned_operations,
            _abandoned(settings),
            "operations were cancelled that nobody followed",
        )
        self._loops = (
            (self.session_expiry, _session_expiry),
            (self.execution, _execution),
            (self.queue, _queue),
            (self.pruning, _pruning),
            (self.abandoned, _abandoned),
        )

    def start(self) -> None:
        """Start all that have something to do."""
        self._started = True
        for loop, _ in self._loops:
            loop.start()

    def ask_to_stop(self) -> None:
        """End each after the step that is under way; does not wait for that."""
        for loop, _ in self._loops:
            loop.ask_to_stop()

    def stop(self) -> None:
        """End each after the step that is under way. Returns after STOP_WITHIN at the latest."""
        self.ask_to_stop()
        deadline = time.monotonic() + STOP_WITHIN
        for loop, _ in self._loops:
            loop.stop(max(0.0, deadline - time.monotonic()))

    def reconfigure(self, settings: TimerSettings) -> None:
        """From the next rounds on these are in force; what has something to do only now is started."""
        self._rounds.reconfigure(settings)
        for loop, interval in self._loops:
            loop.change_interval(interval(settings))
            if self._started:
                loop.start()


def _session_expiry(settings: TimerSettings) -> float:
    return settings.session_expiry_interval


def _execution(settings: TimerSettings) -> float:
    limited = settings.max_execution_timeout or settings.lease_start_timeout
    return settings.execution_interval if limited else 0


def _queue(settings: TimerSettings) -> float:
    return _period(settings.queue_timeout)


def _pruning(settings: TimerSettings) -> float:
    return _period(settings.pruning)


def _abandoned(settings: TimerSettings) -> float:
    return settings.follow_interval


def _period(options: AgedJobHandlerOptions | None) -> float:
    return 0 if options is None else options.handling_period.total_seconds()
