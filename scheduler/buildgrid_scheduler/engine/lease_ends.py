"""Changes to leases and their jobs, gathered by decisions and written in one go.

Used by every transaction that ends or moves leases: the batch of reports, closing a session, cancelling.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from buildgrid_scheduler.core.attempts import Tries, becomes_suspect, pause_of_bot
from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.core.completed_job import CompletedJob
from buildgrid_scheduler.core.completion import (
    Attempt,
    Completion,
    CompletionPolicy,
    Retry,
    end_of_lost_lease,
)
from buildgrid_scheduler.core.history import PastAttempt
from buildgrid_scheduler.core.job_state import JobState, Stage
from buildgrid_scheduler.core.lease_transition import LeaseState
from buildgrid_scheduler.core.suspects import suspect_hash
from buildgrid_scheduler.engine.items import Effects
from buildgrid_scheduler.store import statements as sql
from buildgrid_scheduler.store.hot_connection import Statements


@dataclass(frozen=True, slots=True)
class LeaseRow:
    """A row of `leases` with what is needed of its job, locked."""

    session_name: str
    job_name: str
    state: LeaseState
    told_at: datetime | None
    started_at: datetime | None
    requirement_hash: str
    property_label: str
    queued_at: datetime
    instance: str
    action_digest: str
    do_not_cache: bool
    n_tries: int
    n_infra_tries: int
    partial_metadata: bytes | None

    @classmethod
    def of(cls, row: tuple[Any, ...]) -> "LeaseRow":
        """From a row of LOCK_LEASES."""
        return cls(row[0], row[1], LeaseState(row[2]), *row[3:])

    @property
    def attempt(self) -> Attempt:
        """As the pure decisions take it."""
        return Attempt(
            self.job_name,
            self.instance,
            self.action_digest,
            self.do_not_cache,
            self.tries,
            self.queued_at,
            self.started_at,
        )

    @property
    def tries(self) -> Tries:
        """Both counts of the job."""
        return Tries(self.n_tries, self.n_infra_tries)


@dataclass(frozen=True, slots=True)
class Holder:
    """The bot that has, or had, leases."""

    bot_id: str
    status: BotStatus
    capacity: int = 1
    capacity_class: str = ""
    disrupted: bool = False
    """its pod was evicted or preempted"""

    @property
    def announced(self) -> bool:
        """Whether its going is the farm's doing, for all that it had."""
        return self.status.announces_end or self.disrupted


@dataclass(frozen=True, slots=True)
class Requeued:
    """A job that waits again."""

    lease: LeaseRow
    tries: Tries
    requirement_hash: str
    """under which it waits"""
    attempt: PastAttempt | None = None
    """what is noted of the attempt; none: it was never handed out, as far as anybody knows"""
    avoid_class: str | None = None
    avoid_bot: str | None = None
    """could not do it"""


@dataclass(slots=True)
class LeaseChanges:
    """What to write. `write` sends at most one statement of each kind."""

    now: datetime
    policy: CompletionPolicy
    completed: list[tuple[LeaseRow, Completion, str]] = field(default_factory=list)
    requeued: list[Requeued] = field(default_factory=list)
    freed: list[tuple[LeaseRow, str]] = field(default_factory=list)
    updated: list[tuple[str, LeaseState, datetime | None, bytes | None]] = field(default_factory=list)

    def end(self, lease: LeaseRow, outcome: Completion | Retry, bot_id: str) -> None:
        """The bot reported the end of an attempt."""
        if isinstance(outcome, Completion):
            self.completed.append((lease, outcome, bot_id))
        else:
            self._retry(lease, outcome, bot_id, lease.requirement_hash, avoid_bot=bot_id)

    def lose(
        self, lease: LeaseRow, holder: Holder, *, reason: str, vanished: bool, taken_over: bool = False
    ) -> None:
        """The bot no longer has the lease: the job waits again, or ends if this was its last attempt.

        `vanished`: it is gone with all its leases, and did not just lose this one. `taken_over`: so it seems,
        since there is a new session with its bot_id.
        """
        if lease.state is LeaseState.CANCELLED:
            self.free(lease, holder.bot_id)
            return
        started, announced = lease.state is LeaseState.ACTIVE, holder.announced
        outcome = end_of_lost_lease(
            lease.attempt,
            started=started,
            announced=announced,
            reason=reason,
            now=self.now,
            policy=self.policy,
        )
        if isinstance(outcome, Completion):
            self.completed.append((lease, outcome, holder.bot_id))
            return
        suspect = becomes_suspect(
            started=started, announced=announced, vanished=vanished, capacity=holder.capacity
        )
        hash_ = suspect_hash(lease.requirement_hash) if suspect else lease.requirement_hash
        session = lease.session_name if taken_over else None
        self._retry(
            lease,
            outcome,
            holder.bot_id,
            hash_,
            avoid_class=holder.capacity_class or None,
            taken_over=session,
        )

    def _retry(
        self,
        lease: LeaseRow,
        outcome: Retry,
        bot_id: str,
        hash_: str,
        *,
        avoid_class: str | None = None,
        avoid_bot: str | None = None,
        taken_over: str | None = None,
    ) -> None:
        counted = outcome.tries.counted_since(lease.tries)
        attempt = PastAttempt(
            bot_id, lease.told_at, lease.started_at, self.now, outcome.reason, counted, taken_over
        )
        self.requeued.append(Requeued(lease, outcome.tries, hash_, attempt, avoid_class, avoid_bot))

    def hand_back(self, lease: LeaseRow, bot_id: str) -> None:
        """The job waits again as if it had never been handed out; not if it was cancelled meanwhile."""
        if lease.state is LeaseState.CANCELLED:
            self.free(lease, bot_id)
        else:
            self.requeued.append(Requeued(lease, lease.tries, lease.requirement_hash))

    def free(self, lease: LeaseRow, bot_id: str) -> None:
        """A lease whose job is done goes."""
        self.freed.append((lease, bot_id))

    @property
    def arrivals(self) -> list[tuple[str, str]]:
        """(instance, requirement hash) of each job that waits again."""
        return [(job.lease.instance, job.requirement_hash) for job in self.requeued]

    def write(self, db: Statements, *, store_results: bool) -> None:
        """Send the statements. `store_results`: the action cache is in this database."""
        if self.completed:
            self._write_completions(db, store_results)
        if self.requeued:
            self._write_requeued(db)
        if self.freed:
            self._note_stopped(db)
        gone = [
            *(lease.job_name for lease, _ in self.freed),
            *(lease.job_name for lease, *_ in self.completed),
            *(job.lease.job_name for job in self.requeued),
        ]
        if gone:
            db.execute(sql.DELETE_LEASES, (gone,))
        if self.updated:
            jobs, states, started, partial = zip(*self.updated, strict=True)
            db.execute(
                sql.SET_LEASES, (self.now, list(jobs), [int(s) for s in states], list(started), list(partial))
            )

    def _write_requeued(self, db: Statements) -> None:
        db.execute(
            sql.REQUEUE,
            (
                [job.lease.job_name for job in self.requeued],
                [job.tries.n_tries - job.lease.n_tries for job in self.requeued],
                [job.tries.n_infra_tries - job.lease.n_infra_tries for job in self.requeued],
                [job.requirement_hash for job in self.requeued],
                [None if job.attempt is None else json.dumps(job.attempt.to_json()) for job in self.requeued],
                [job.avoid_class for job in self.requeued],
                [job.avoid_bot for job in self.requeued],
                [self._avoids_until(job, rather=False) for job in self.requeued],
                [self._avoids_until(job, rather=True) for job in self.requeued],
                [self.now] * len(self.requeued),
            ),
        )

    def avoids(self, session_name: str) -> datetime | None:
        """How long jobs may avoid the bot of a session that failed there now; none: there are none."""
        failed = [job for job in self.requeued if job.avoid_bot and job.lease.session_name == session_name]
        return max((self._avoids_until(job, rather=True) or self.now for job in failed), default=None)

    def _avoids_until(self, job: Requeued, *, rather: bool) -> datetime | None:
        """`rather`: where others may do it as well."""
        if job.avoid_class is None and job.avoid_bot is None:
            return None
        pause = timedelta() if job.avoid_bot is None else pause_of_bot(job.tries)
        if job.avoid_bot is None or rather:
            pause = max(pause, self.policy.avoid_class_for)
        return self.now + pause

    def _note_stopped(self, db: Statements) -> None:
        told = [(lease, bot_id) for lease, bot_id in self.freed if lease.told_at is not None]
        if told:
            db.execute(
                sql.NOTE_STOPPED,
                (
                    [lease.job_name for lease, _ in told],
                    [bot_id for _, bot_id in told],
                    [lease.told_at for lease, _ in told],
                    [lease.started_at for lease, _ in told],
                    [self.now] * len(told),
                ),
            )

    def _write_completions(self, db: Statements, store_results: bool) -> None:
        done = sorted(self.completed, key=lambda entry: entry[0].job_name)
        db.execute(
            sql.COMPLETE_JOBS,
            (
                self.now,
                [lease.job_name for lease, _, _ in done],
                [end.response for _, end, _ in done],
                [end.status_code for _, end, _ in done],
                [bot_id for _, _, bot_id in done],
                [lease.told_at for lease, _, _ in done],
                [end.worker_start_at for _, end, _ in done],
                [end.worker_completed_at for _, end, _ in done],
            ),
        )
        if shared := [lease for lease, _, _ in done if not lease.do_not_cache]:
            db.execute(
                sql.LEAVE_FLIGHT,
                (
                    [lease.instance for lease in shared],
                    [lease.action_digest for lease in shared],
                    [lease.job_name for lease in shared],
                ),
            )
        # An entry for each action: two jobs of one action in a batch must not write the same row twice.
        entries = {
            (lease.instance, lease.action_digest): end.cache_entry
            for lease, end, _ in done
            if end.cache_entry is not None
        }
        if entries and store_results:
            db.execute(
                sql.STORE_RESULTS,
                (self.now, [i for i, _ in entries], [d for _, d in entries], list(entries.values())),
            )

    def tell(self, effects: Effects) -> None:
        """Note what others wait for."""
        for lease, end, _ in self.completed:
            effects.states[lease.job_name] = JobState(Stage.COMPLETED, lease.action_digest, end.response)
            effects.completed.append(
                CompletedJob(
                    lease.job_name,
                    lease.instance,
                    lease.action_digest,
                    lease.property_label,
                    end.response,
                    end.status_code,
                    self.now,
                    cache_entry=end.cache_entry,
                )
            )
        for job in self.requeued:
            effects.states[job.lease.job_name] = JobState(Stage.QUEUED, job.lease.action_digest)
        effects.arrivals += self.arrivals
        effects.lease_changes.append(self)


def lock_leases(db: Statements, sessions: Iterable[str]) -> list[LeaseRow]:
    """The leases of some sessions, locked. A round trip."""
    return [LeaseRow.of(row) for row in db.rows(sql.LOCK_LEASES, (list(sessions),))]
