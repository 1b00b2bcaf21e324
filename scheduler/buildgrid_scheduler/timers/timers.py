"""The timers of a replica."""

from collections.abc import Iterator
from typing import Protocol

from buildgrid_scheduler.timers.loop import TimerLoop
from buildgrid_scheduler.timers.options import AgedJobHandlerOptions, TimerSettings


class Rounds(Protocol):
    """What timers do: each method begins a round, see `loop.Round`. `engine.timed_rounds` has them."""

    def expired_sessions(self) -> Iterator[int]:
        """Close them."""
        ...

    def execution_timeouts(self) -> Iterator[int]:
        """End what executes for too long."""
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


class Timers:
    """One loop for each, which may also be run by the caller. Without options or interval it does nothing."""

    def __init__(self, rounds: Rounds, settings: TimerSettings) -> None:
        self.session_expiry = TimerLoop(
            rounds.expired_sessions, settings.session_expiry_interval, "expired sessions were closed"
        )
        self.execution = TimerLoop(
            rounds.execution_timeouts,
            settings.execution_interval if settings.max_execution_timeout else 0,
            "jobs were ended after max_execution_timeout",
        )
        self.queue = TimerLoop(
            rounds.queue_timeouts, _period(settings.queue_timeout), "jobs were ended that no bot took"
        )
        self.pruning = TimerLoop(rounds.pruning, _period(settings.pruning), "old jobs were pruned")
        self.abandoned = TimerLoop(
            rounds.abandoned_operations,
            settings.follow_interval,
            "operations were cancelled that nobody followed",
        )
        self._all = (self.session_expiry, self.execution, self.queue, self.pruning, self.abandoned)

    def start(self) -> None:
        """Start all that have something to do."""
        for loop in self._all:
            loop.start()

    def stop(self) -> None:
        """End each after the step that is under way."""
        for loop in self._all:
            loop.stop()


def _period(options: AgedJobHandlerOptions | None) -> float:
    return 0 if options is None else options.handling_period.total_seconds()
