"""The part of a batch that enqueues."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import psycopg
from google.rpc import code_pb2

from buildgrid_scheduler.core.errors import ResourceExhausted, SchedulerError, Unavailable
from buildgrid_scheduler.core.job_state import JobState, Stage
from buildgrid_scheduler.engine.items import Enqueue, Enqueued, NewJob
from buildgrid_scheduler.store import statements as sql
from buildgrid_scheduler.store.hot_connection import Row, Statements


def _shareable(job: NewJob) -> bool:
    return job.share and not job.do_not_cache


def _rank(job: NewJob) -> int:
    """Which of several jobs of one action the others follow.

    One that has to run leads, so that who refuses cached results gets none by sharing; then one that has its
    result, then one that would have to look for it.
    """
    if job.response is not None:
        return 1
    return 2 if job.look_up else 0


@dataclass(slots=True)
class EnqueueBatch:
    """Operations of one batch. Those that ask for the same action follow one leader."""

    items: Sequence[Enqueue]
    leaders: dict[str, NewJob] = field(default_factory=dict)
    """by job name"""
    leader_of: dict[str, str] = field(default_factory=dict)
    """job name by operation name"""
    refused: dict[str, SchedulerError] = field(default_factory=dict)
    """by operation name"""

    def __post_init__(self) -> None:
        groups: dict[tuple[str, ...], list[Enqueue]] = {}
        for item in self.items:
            action = (item.job.instance, item.job.action_digest)
            groups.setdefault(action if _shareable(item.job) else (item.job.name,), []).append(item)
        for group in groups.values():
            leader = min((item.job for item in group), key=_rank)
            leader.priority = min(item.job.priority for item in group)
            self.leaders[leader.name] = leader
            for item in group:
                self.leader_of[item.operation_name] = leader.name

    def refuse_above(self, limit: int, db: Statements) -> None:
        """Refuse what would make more than `limit` jobs of an instance and label wait.

        Operations that share a job are not new jobs, nor are those with an entry in the action cache: both
        are let through.
        """
        labels = {f"{j.instance}/{j.property_label}" for j in self.leaders.values() if j.response is None}
        db.execute(sql.LOCK_LABELS, (sorted(labels),))
        room: dict[tuple[str, str], int] = {}
        for job in self._new_jobs(db):
            key = (job.instance, job.property_label)
            if key not in room:
                waiting = db.rows(sql.COUNT_WAITING, (*key, limit))[0][0]
                room[key] = limit - waiting
            room[key] -= 1
            if room[key] < 0:
                error = ResourceExhausted(
                    f"{limit} jobs of label {job.property_label!r} wait already, which is the limit "
                    "(max_queue_size); try again later"
                )
                self._refuse(job, error)

    def refuse_new(self, db: Statements) -> None:
        """Refuse whatever would make a job. What may share one, or has an entry in the action cache, goes on.

        A job that ends, or an entry that goes, before this transaction has joined it makes a new job after
        all.
        """
        for job in self._new_jobs(db):
            self._refuse(
                job,
                Unavailable(
                    "this farm is being shut down: it finishes the jobs that it has, and accepts no new ones "
                    "(scheduler.accept_new_jobs is false); build elsewhere, or try again later"
                ),
            )

    def _new_jobs(self, db: Statements) -> list[NewJob]:
        """What would begin to wait: neither a job to share is there, nor an entry in the action cache."""
        new = [job for job in self.leaders.values() if job.response is None]
        shareable = [job for job in new if _shareable(job)]
        shared = {
            (instance, digest)
            for instance, digest in db.rows(
                sql.SHARED_NOW, ([j.instance for j in shareable], [j.action_digest for j in shareable])
            )
        }
        looked_up = [job for job in new if job.look_up]
        cached = {
            (instance, digest)
            for instance, digest in db.rows(
                sql.CACHED_NOW, ([j.instance for j in looked_up], [j.action_digest for j in looked_up])
            )
        }

        def is_new(job: NewJob) -> bool:
            action = (job.instance, job.action_digest)
            return not (_shareable(job) and action in shared) and not (job.look_up and action in cached)

        return [job for job in new if is_new(job)]

    def _refuse(self, job: NewJob, error: SchedulerError) -> None:
        del self.leaders[job.name]
        for operation, leader in self.leader_of.items():
            if leader == job.name:
                self.refused[operation] = error

    def send(self, db: Statements, now: datetime) -> psycopg.Cursor[Row] | None:
        """Send the statement; its rows say which job each leader's operations are on."""
        if not self.leaders:
            return None
        jobs = list(self.leaders.values())
        operations = [item for item in self.items if item.operation_name not in self.refused]
        cursor = db.execute(
            sql.ENQUEUE,
            {
                "now": now,
                "job_name": [j.name for j in jobs],
                "instance": [j.instance for j in jobs],
                "digest": [j.action_digest for j in jobs],
                "shareable": [_shareable(j) for j in jobs],
                "action": [j.action for j in jobs],
                "do_not_cache": [j.do_not_cache for j in jobs],
                "priority": [j.priority for j in jobs],
                "hash": [j.requirement_hash for j in jobs],
                "platform": [json.dumps(j.requirements) for j in jobs],
                "label": [j.property_label for j in jobs],
                "command": [j.command for j in jobs],
                "response": [j.response for j in jobs],
                "status": [None if j.response is None else code_pb2.OK for j in jobs],
                "look_up": [j.look_up for j in jobs],
                "op_name": [i.operation_name for i in operations],
                "op_leader": [self.leader_of[i.operation_name] for i in operations],
                "op_metadata": [i.request_metadata[0] if i.request_metadata else None for i in operations],
                "op_identity": [i.client_identity_id for i in operations],
                "op_watched": [i.watch is not None for i in operations],
            },
        )
        if born_complete := [j for j in jobs if j.response is not None and _shareable(j)]:
            db.execute(
                sql.FORGET_FLIGHT,
                (
                    [j.instance for j in born_complete],
                    [j.action_digest for j in born_complete],
                    [j.name for j in born_complete],
                ),
            )
        return cursor

    def pull_forward(self, rows: Sequence[Row], db: Statements) -> None:
        """Let jobs that were there before take the priority of those that now share them, if more urgent."""
        shared = {name for name, home, _, _ in rows if home is not None and home != name}
        if sharers := [j for j in self.leaders.values() if j.name in shared]:
            db.execute(
                sql.RAISE_PRIORITY,
                (
                    [j.instance for j in sharers],
                    [j.action_digest for j in sharers],
                    [j.name for j in sharers],
                    [j.priority for j in sharers],
                ),
            )

    def results(self, rows: Sequence[Row]) -> tuple[list[tuple[Enqueue, Enqueued]], list[NewJob]]:
        """What each operation came to, and the jobs that began to wait."""
        home = {name: home for name, home, _, _ in rows}
        made = {name for name, _, made, _ in rows if made}
        cached = {name: result for name, _, _, result in rows if result is not None}
        outcomes: list[tuple[Enqueue, Enqueued]] = []
        for item in self.items:
            if item.operation_name in self.refused:
                continue
            leader = self.leader_of[item.operation_name]
            if leader in cached:
                hit = Enqueued(item.operation_name, "", False, None, cached[leader])
                outcomes.append((item, hit))
                continue
            job = self.leaders[leader]
            state: JobState | None = None
            if leader in made:
                stage = Stage.QUEUED if job.response is None else Stage.COMPLETED
                state = JobState(stage, job.action_digest, job.response)
            outcomes.append(
                (item, Enqueued(item.operation_name, home[leader], home[leader] != leader, state))
            )
        new = [j for j in self.leaders.values() if j.name in made and j.response is None]
        return outcomes, new
