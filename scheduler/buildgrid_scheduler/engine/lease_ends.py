"""Changes to leases and their jobs, gathered by decisions and written in one go.

Used by every transaction that ends or moves leases: the batch of reports, closing a session, cancelling.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from buildgrid_scheduler.core.attempts import Tries
from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.core.completion import (
    Attempt,
    Completion,
    CompletionPolicy,
    Retry,
    end_of_lost_lease,
)
from buildgrid_scheduler.core.job_state import JobState, Stage
from buildgrid_scheduler.core.lease_transition import LeaseState
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
            Tries(self.n_tries, self.n_infra_tries),
            self.queued_at,
            self.started_at,
        )


@dataclass(slots=True)
class LeaseChanges:
    """What to write. `write` sends at most one statement of each kind."""

    now: datetime
    policy: CompletionPolicy
    completed: list[tuple[LeaseRow, Completion, str]] = field(default_factory=list)
    requeued: list[tuple[LeaseRow, Tries]] = field(default_factory=list)
    freed: list[str] = field(default_factory=list)
    updated: list[tuple[str, LeaseState, datetime | None, bytes | None]] = field(default_factory=list)

    def end(self, lease: LeaseRow, outcome: Completion | Retry, bot_id: str) -> None:
        """An attempt has ended."""
        if isinstance(outcome, Retry):
            self.requeued.append((lease, outcome.tries))
        else:
            self.completed.append((lease, outcome, bot_id))

    def lose(self, lease: LeaseRow, *, bot_id: str, status: BotStatus, reason: str) -> None:
        """The bot no longer has the lease: the job waits again, or ends if this was its last attempt."""
        if lease.state is LeaseState.CANCELLED:
            self.freed.append(lease.job_name)
            return
        outcome = end_of_lost_lease(
            lease.attempt,
            started=lease.state is LeaseState.ACTIVE,
            announced=status.announces_end,
            reason=reason,
            now=self.now,
            policy=self.policy,
        )
        self.end(lease, outcome, bot_id)

    def hand_back(self, lease: LeaseRow) -> None:
        """The job waits again as if it had never been handed out; not if it was cancelled meanwhile."""
        if lease.state is LeaseState.CANCELLED:
            self.freed.append(lease.job_name)
            return
        self.requeued.append((lease, Tries(lease.n_tries, lease.n_infra_tries)))

    def write(self, db: Statements, *, store_results: bool) -> None:
        """Send the statements. `store_results`: the action cache is in this database."""
        if self.completed:
            self._write_completions(db, store_results)
        if self.requeued:
            db.execute(
                sql.REQUEUE,
                (
                    [lease.job_name for lease, _ in self.requeued],
                    [tries.n_tries for _, tries in self.requeued],
                    [tries.n_infra_tries for _, tries in self.requeued],
                ),
            )
        gone = [
            *self.freed,
            *(lease.job_name for lease, *_ in self.completed),
            *(lease.job_name for lease, _ in self.requeued),
        ]
        if gone:
            db.execute(sql.DELETE_LEASES, (gone,))
        if self.updated:
            jobs, states, started, partial = zip(*self.updated, strict=True)
            db.execute(
                sql.SET_LEASES, (self.now, list(jobs), [int(s) for s in states], list(started), list(partial))
            )

    def _write_completions(self, db: Statements, store_results: bool) -> None:
        done = sorted(self.completed, key=lambda entry: entry[0].job_name)
        db.execute(
            sql.COMPLETE_JOBS,
            (
                [lease.job_name for lease, _, _ in done],
                [end.response for _, end, _ in done],
                [end.status_code for _, end, _ in done],
                [bot_id for _, _, bot_id in done],
                [end.worker_start_at for _, end, _ in done],
                [end.worker_completed_at for _, end, _ in done],
                [self.now] * len(done),
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
        for lease, _ in self.requeued:
            effects.states[lease.job_name] = JobState(Stage.QUEUED, lease.action_digest)
            effects.arrivals.append((lease.instance, lease.requirement_hash))


def lock_leases(db: Statements, sessions: Iterable[str]) -> list[LeaseRow]:
    """The leases of some sessions, locked. A round trip."""
    return [LeaseRow.of(row) for row in db.rows(sql.LOCK_LEASES, (list(sessions),))]
