"""One batch of the hot path, as one transaction: enqueues, reports of bots, claims, wake-ups.

Two round trips: what must be known to decide (the rows of sessions and leases), then everything that was
decided, with the claims. A third one when other replicas have to be told what was claimed.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import psycopg

from buildgrid_scheduler.assigner.waiting import Arrival, WaitingBots
from buildgrid_scheduler.core.lease_transition import LeaseState
from buildgrid_scheduler.core.requirements import Offer
from buildgrid_scheduler.engine.claiming import Claim, Claims
from buildgrid_scheduler.engine.enqueueing import EnqueueBatch
from buildgrid_scheduler.engine.items import Effects, Enqueue, Enqueued, NewJob, Synchronize, Tell
from buildgrid_scheduler.engine.lease_ends import LeaseChanges, LeaseRow, lock_leases
from buildgrid_scheduler.engine.synchronizing import SessionOutcome, SessionRow, synchronize
from buildgrid_scheduler.store import statements as sql
from buildgrid_scheduler.store.hot_connection import Row, Statements

_ENDS = (LeaseState.COMPLETED, LeaseState.CANCELLED)


LEAVES_WITHIN = timedelta(seconds=10)
"""So long the session of a bot that leaves, and has nothing left to do, outlives its last call, which may be
repeated where the answer was lost."""


@dataclass(frozen=True, slots=True)
class RoundSettings:
    """What a round needs to know of the configuration."""

    keepalive: timedelta
    priority_percentage: int = 100
    max_queue_size: int | None = None
    store_results: bool = True
    accept_new_jobs: bool = True


@dataclass(slots=True)
class Round:
    """The state of one batch while it runs. `run` may be called again after a failure."""

    enqueues: Sequence[Enqueue]
    calls: Sequence[Synchronize]
    changes: LeaseChanges
    settings: RoundSettings
    requires: Callable[[Mapping[str, list[str]]], Offer]
    effects: Effects = field(default_factory=Effects)
    enqueued: list[tuple[Enqueue, Enqueued]] = field(default_factory=list)
    batch: EnqueueBatch | None = None
    new_jobs: list[NewJob] = field(default_factory=list)
    outcomes: list[SessionOutcome] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)

    @property
    def now(self) -> datetime:
        """When this round takes place."""
        return self.changes.now

    def run(
        self, db: Statements, waiting: WaitingBots, notify: Callable[[Statements, Effects], None]
    ) -> None:
        """The body of the transaction. `notify` tells the other replicas, where there are any."""
        enqueue_cursor = self._enqueue(db)
        sessions, leases = self._lock(db)
        if enqueue_cursor is not None and self.batch is not None:
            rows = enqueue_cursor.fetchall()
            self.batch.pull_forward(rows, db)
            enqueued, self.new_jobs = self.batch.results(rows)
            self.enqueued += enqueued
        for call in self.calls:
            self.outcomes.append(
                synchronize(
                    call,
                    sessions.get(call.session_name),
                    leases.get(call.session_name, []),
                    self.changes,
                    self.effects,
                )
            )
        self.changes.write(db, store_results=self.settings.store_results)
        payloads = self._payloads(db)
        claims = self._claims()
        arriving = {(j.instance, j.requirement_hash): self.requires(j.requirements) for j in self.new_jobs}
        claims.send(db, waiting, self.outcomes, arriving)
        claims.read(db, waiting)
        self.claims = claims.made
        self._refresh(db)  # with what was claimed; it travels with whatever is sent next
        if payloads is not None:
            self._add_payloads(dict(payloads.fetchall()))
        for job in self.new_jobs:
            if job.name not in self.effects.states:  # otherwise it was handed out at once
                self.effects.arrivals.append((job.instance, job.requirement_hash))
        self.changes.tell(self.effects)
        notify(db, self.effects)

    def _enqueue(self, db: Statements) -> psycopg.Cursor[Row] | None:
        if not self.enqueues:
            return None
        there: dict[str, str] = {}
        if tried := [item.operation_name for item in self.enqueues if item.tried]:
            there = dict(db.rows(sql.JOBS_OF_OPERATIONS, (tried,)))
        for item in self.enqueues:
            if job := there.get(item.operation_name):
                self.enqueued.append((item, Enqueued(item.operation_name, job, True, None)))
        self.batch = EnqueueBatch([e for e in self.enqueues if e.operation_name not in there])
        if not self.settings.accept_new_jobs:
            self.batch.refuse_new(db)
        elif self.settings.max_queue_size is not None:
            self.batch.refuse_above(self.settings.max_queue_size, db)
        return self.batch.send(db, self.now)

    def _lock(self, db: Statements) -> tuple[dict[str, SessionRow], dict[str, list[LeaseRow]]]:
        if not self.calls:
            return {}, {}
        names = [call.session_name for call in self.calls]
        cursor = db.execute(sql.LOCK_SESSIONS, (names,))
        leases: dict[str, list[LeaseRow]] = defaultdict(list)
        for lease in lock_leases(db, names):
            leases[lease.session_name].append(lease)
        return self._sessions(db, cursor.fetchall()), leases

    @staticmethod
    def _sessions(db: Statements, rows: Sequence[Row]) -> dict[str, SessionRow]:
        sessions = {row[0]: SessionRow(*row) for row in rows}
        if just_marked := [s.name for s in sessions.values() if s.drained and s.disrupted is None]:
            disrupted = {name for (name,) in db.rows(sql.DISRUPTED_SESSIONS, (just_marked,))}
            for name in just_marked:
                sessions[name] = replace(sessions[name], disrupted=name in disrupted)
        return sessions

    def _payloads(self, db: Statements) -> psycopg.Cursor[Row] | None:
        wanted = [job for outcome in self.outcomes for job in outcome.payloads_wanted]
        return db.execute(sql.LEASE_ACTIONS, (wanted,)) if wanted else None

    def _add_payloads(self, actions: dict[str, bytes]) -> None:
        for outcome in self.outcomes:
            if outcome.payloads_wanted:
                outcome.tells = [
                    Tell(t.job_name, t.state, actions[t.job_name]) if t.job_name in actions else t
                    for t in outcome.tells
                ]

    def _refresh(self, db: Statements) -> None:
        if closed := [o.item.session_name for o in self.outcomes if o.closed]:
            db.execute(sql.DELETE_SESSIONS, (closed,))
        if alive := [o for o in self.outcomes if o.error is None]:
            db.execute(
                sql.REFRESH_SESSIONS,
                (
                    [self.expires_at(o) for o in alive],
                    [o.item.session_name for o in alive],
                    [int(o.item.status) for o in alive],
                    [" ".join(o.completed) for o in alive],
                    [o.item.call_id for o in alive],
                    [o.given for o in alive],
                    [self.changes.avoids(o.item.session_name) for o in alive],
                ),
            )

    def expires_at(self, outcome: SessionOutcome) -> datetime:
        """Until when a session of this round lives without another call."""
        keepalive = self.settings.keepalive
        return self.now + (min(keepalive, LEAVES_WITHIN) if outcome.leaving else keepalive)

    def _claims(self) -> Claims:
        # A job is not handed back in the answer that reports its failure, nor in the one that says stop.
        exclude = [job.lease.job_name for job in self.changes.requeued]
        for call in self.calls:
            exclude += [job for job, report in call.reports.items() if report.state in _ENDS]
        for outcome in self.outcomes:
            exclude += [t.job_name for t in outcome.tells if t.state is LeaseState.CANCELLED]
        # What waits since an earlier report, or since another bot took it over, may be left out by that.
        blind = any(outcome.unknown for outcome in self.outcomes)
        return Claims(self.now, exclude, blind, self.settings.priority_percentage, self.effects)

    def arrivals(self) -> list[Arrival]:
        """The jobs that this round enqueued."""
        return [Arrival(j.instance, j.requirement_hash, self.requires(j.requirements)) for j in self.new_jobs]
