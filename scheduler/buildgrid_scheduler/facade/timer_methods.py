"""Methods of the timers: loops that the caller may run, too, and what one of them does."""

import threading
from datetime import timedelta

from buildgrid_scheduler.engine.timed_rounds import TimedRounds
from buildgrid_scheduler.facade.door import Door
from buildgrid_scheduler.timers.timers import Timers


class TimerMethods(Door):
    """Part of `Scheduler`. All act across instances; any number of replicas may run them at once."""

    rounds: TimedRounds
    timers: Timers

    def execution_timer_loop(self, shutdown_requested: threading.Event) -> None:
        """End jobs that execute for too long, every `execution_timer_interval`, until the event is set.

        Leases that their bots do not start within `lease_start_timeout` are taken back.
        This loop, as the others: logs errors and goes on; returns at once with nothing to do.
        """
        self.timers.execution.run(shutdown_requested)

    def queue_timer_loop(self, shutdown_requested: threading.Event) -> None:
        """End jobs that wait for too long, as `queue_timeout_options` say, until the event is set."""
        self.timers.queue.run(shutdown_requested)

    def prune_timer_loop(self, shutdown_requested: threading.Event) -> None:
        """Delete jobs that ended long ago, as `pruning_options` say, until the event is set."""
        self.timers.pruning.run(shutdown_requested)

    def session_expiry_timer_loop(self, shutdown_requested: threading.Event) -> None:
        """Close expired sessions, every `session_expiry_timer_interval`, until the event is set."""
        self.timers.session_expiry.run(shutdown_requested)

    def cancel_jobs_exceeding_execution_timeout(self, max_execution_timeout: int | None = None) -> None:
        """End jobs that have executed for longer than `max_execution_timeout` seconds, without any grace.

        They answer DEADLINE_EXCEEDED, and their bots are told to stop. None or 0: nothing is done.
        """
        if max_execution_timeout is None or max_execution_timeout <= 0:
            return
        for _ in self.rounds.executing_longer_than(timedelta(seconds=max_execution_timeout)):
            pass
