"""The rounds of the timers: short transactions, one after the other, through the engine."""

import random
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import TypeVar

from buildgrid_scheduler.engine.abandoned import cancel_abandoned
from buildgrid_scheduler.engine.engine import Engine
from buildgrid_scheduler.engine.expiring import end_overlong, end_unserved
from buildgrid_scheduler.engine.following import Following
from buildgrid_scheduler.engine.hang_ups import doubt
from buildgrid_scheduler.engine.items import Call, Effects
from buildgrid_scheduler.engine.pruning import prune, prune_metadata
from buildgrid_scheduler.engine.unheard import once
from buildgrid_scheduler.engine.unstarted import take_back_unstarted
from buildgrid_scheduler.notifier.delivery import Ticket
from buildgrid_scheduler.store.hot_connection import Statements
from buildgrid_scheduler.timers.options import ABANDONED_AFTER, TimerSettings
from buildgrid_scheduler.timers.rounds import in_batches
from buildgrid_scheduler.timers.vigil import Vigil

R = TypeVar("R")

JOBS_AT_ONCE = 200
"""Jobs that one transaction ends or deletes: some tens of milliseconds."""
LIVE_AT_ONCE = 5000
"""Unfinished jobs that one transaction looks at, without locks."""
METADATA_AT_ONCE = 1000


class TimedRounds:
    """See `timers.timers.Rounds`. Each step raises Unavailable while the database is away."""

    def __init__(self, engine: Engine, following: Following, settings: TimerSettings) -> None:
        self._engine = engine
        self._following = following
        self._settings = settings
        self._vigil = _vigil(settings)
        # Replicas begin at different ends.
        self._metadata_after = f"{random.getrandbits(32):08x}"

    def reconfigure(self, settings: TimerSettings) -> None:
        """For the rounds that begin from now on."""
        timeout = self._settings.abandoned_operation_timeout
        self._settings = settings
        if settings.abandoned_operation_timeout != timeout:
            self._vigil = _vigil(settings)  # others may learn of it later, and go by the old one until then

    def expired_sessions(self) -> Iterator[int]:
        """Close sessions whose bots stopped calling; sooner those of which a call broke off."""
        if hang_ups := self._engine.hang_ups.settled():
            self._call(doubt(hang_ups))
            yield 0
        while closed := self._call(self._engine.sessions.reap()):
            yield closed

    def execution_timeouts(self) -> Iterator[int]:
        """End jobs that execute for longer than `max_execution_timeout` and the grace.

        Take leases back that their bots do not start within `lease_start_timeout`.
        """
        settings = self._settings
        if settings.max_execution_timeout is not None:
            yield from self.executing_longer_than(
                settings.max_execution_timeout, grace=settings.execution_grace
            )
        if settings.lease_start_timeout is not None:
            yield from self._unstarted_for(settings.lease_start_timeout)

    def executing_longer_than(self, limit: timedelta, *, grace: timedelta = timedelta()) -> Iterator[int]:
        """End jobs that execute for longer than this."""
        policy = self._engine.policy
        return in_batches(
            lambda n: self._call(end_overlong(limit, grace=grace, at_once=n, policy=policy)),
            at_once=JOBS_AT_ONCE,
        )

    def _unstarted_for(self, limit: timedelta) -> Iterator[int]:
        engine = self._engine
        policy, store_results = engine.policy, engine.settings.store_results
        return in_batches(
            lambda n: self._call(
                take_back_unstarted(limit, at_once=n, policy=policy, store_results=store_results)
            ),
            at_once=JOBS_AT_ONCE,
        )

    def queue_timeouts(self) -> Iterator[int]:
        """End jobs that wait for longer than `queue_timeout` allows."""
        options, policy = self._settings.queue_timeout, self._engine.policy
        if options is None:
            return iter(())
        return in_batches(
            lambda n: self._call(end_unserved(options.job_max_age, at_once=n, policy=policy)),
            at_once=JOBS_AT_ONCE,
            window=options.max_handling_window,
        )

    def pruning(self) -> Iterator[int]:
        """Delete jobs that ended longer ago than `pruning` keeps them, and some of what is left of others."""
        options = self._settings.pruning
        if options is None:
            return
        yield from in_batches(
            lambda n: self._call(prune(options.job_max_age, at_once=n)),
            at_once=JOBS_AT_ONCE,
            window=options.max_handling_window,
        )
        transaction = prune_metadata(options.job_max_age, after=self._metadata_after, page=METADATA_AT_ONCE)
        self._metadata_after = self._call(transaction)

    def abandoned_operations(self) -> Iterator[int]:
        """Note what is followed here; cancel what was not followed anywhere for the timeout.

        The latter only after this replica has been able to note for a whole timeout: when the database was
        away, or all replicas were, clients get that long to come back.
        """
        for transaction in self._following.note_all():
            self._call(transaction)
            yield 0
        timeout, vigil = self._settings.abandoned_operation_timeout, self._vigil
        if timeout is None:
            return
        now = self._engine.clock()
        vigil.looked(now)
        if not vigil.covers(timeout, now):
            return
        after: str | None = ""
        while after is not None:
            look = self._call(cancel_abandoned(timeout, after=after, page=LIVE_AT_ONCE, at_once=JOBS_AT_ONCE))
            yield look.cancelled
            after = look.after

    def _call(self, transaction: Callable[[Statements, datetime, Effects], R]) -> R:
        """Done once, even if its commit goes unheard: so a round keeps to its window."""
        ticket: Ticket[R] = Ticket()
        self._engine.submit(Call(ticket, once(transaction)))
        return ticket.wait()


def _vigil(settings: TimerSettings) -> Vigil:
    return Vigil((settings.abandoned_operation_timeout or ABANDONED_AFTER) / 2)
