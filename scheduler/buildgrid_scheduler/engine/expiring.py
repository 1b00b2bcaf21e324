"""Transactions that end jobs for which time has run out: those that execute, and those that wait.

Any replica may run them at any time: each takes rows that nobody else holds (SKIP LOCKED), in the order of
locks of all transactions, and a bounded number of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from google.rpc import code_pb2

from buildgrid_scheduler.core.completed_job import CompletedJob
from buildgrid_scheduler.core.completion import CompletionPolicy, link_to_action
from buildgrid_scheduler.core.job_state import JobState, Stage
from buildgrid_scheduler.core.lease_transition import LeaseState
from buildgrid_scheduler.core.time_limits import overlong_response, unserved_response
from buildgrid_scheduler.engine.items import Effects
from buildgrid_scheduler.store import statements as sql
from buildgrid_scheduler.store.hot_connection import Statements

_LOCK_OVERLONG = """
SELECT l.job_name, l.instance_name, j.action_digest, j.do_not_cache, l.property_label, l.session_name,
       coalesce(b.bot_id, ''), l.told_at, l.started_at
FROM leases l JOIN jobs j ON j.name = l.job_name LEFT JOIN bots b ON b.name = l.session_name
WHERE l.state = %s AND l.started_at < %s
ORDER BY l.job_name LIMIT %s FOR UPDATE OF l SKIP LOCKED
"""
# By kind of job, since that is how the queue is indexed; within a kind the oldest first. A job that waits
# again after an attempt has waited since that ended, though it keeps its place in the queue.
_LOCK_UNSERVED = """
WITH RECURSIVE kind(instance_name, requirement_hash) AS (
  (SELECT instance_name, requirement_hash FROM queue ORDER BY 1, 2 LIMIT 1)
  UNION ALL
  SELECT n.instance_name, n.requirement_hash FROM kind CROSS JOIN LATERAL (
    SELECT q.instance_name, q.requirement_hash FROM queue q
    WHERE (q.instance_name, q.requirement_hash) > (kind.instance_name, kind.requirement_hash)
    ORDER BY 1, 2 LIMIT 1) n
)
SELECT t.job_name, t.instance_name, j.action_digest, j.do_not_cache, t.property_label, j.platform_requirements
FROM kind CROSS JOIN LATERAL (
  SELECT q.job_name, q.instance_name, q.property_label FROM queue q
  WHERE q.instance_name = kind.instance_name AND q.requirement_hash = kind.requirement_hash
    AND q.queued_at < %(before)s
    AND (SELECT coalesce((a.attempts -> -1 ->> 'ended')::timestamptz, q.queued_at) FROM jobs a
         WHERE a.name = q.job_name) < %(before)s
  ORDER BY q.queued_at, q.job_name LIMIT %(limit)s FOR UPDATE OF q SKIP LOCKED) t
JOIN jobs j ON j.name = t.job_name
LIMIT %(limit)s
"""
_END_JOBS = """
UPDATE jobs j SET response = d.response, status_code = %s, completed_at = %s, worker_name = d.worker,
  assigned_at = d.assigned, worker_start_at = d.started, worker_completed_at = d.ended
FROM unnest(%s::text[], %s::bytea[], %s::text[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[])
  AS d(name, response, worker, assigned, started, ended)
WHERE j.name = d.name AND j.completed_at IS NULL
"""
_CANCEL_LEASES = "UPDATE leases SET state = %s WHERE job_name = ANY(%s)"
_LEAVE_QUEUE = "DELETE FROM queue WHERE job_name = ANY(%s)"


@dataclass(frozen=True, slots=True)
class _Ended:
    """A job whose row in `queue` or `leases` is held, and how it ends."""

    name: str
    instance: str
    action_digest: str
    do_not_cache: bool
    property_label: str
    response: bytes
    worker: str | None = None
    assigned_at: datetime | None = None
    started_at: datetime | None = None


def end_overlong(
    limit: timedelta, *, at_once: int, policy: CompletionPolicy, grace: timedelta = timedelta()
) -> Callable[[Statements, datetime, Effects], int]:
    """End jobs that have executed for longer than `limit` and `grace`, of all instances; returns how many.

    At most `at_once`. They answer DEADLINE_EXCEEDED; their bots are told to stop, and what they may still
    report is discarded. A job executes from when its bot said so.
    """

    def transaction(db: Statements, now: datetime, effects: Effects) -> int:
        rows = db.rows(_LOCK_OVERLONG, (int(LeaseState.ACTIVE), now - limit - grace, at_once))
        ended = []
        for job, instance, digest, do_not_cache, label, session, bot_id, told_at, started_at in rows:
            response = overlong_response(limit, bot_id, link_to_action(policy, digest))
            ended.append(
                _Ended(job, instance, digest, do_not_cache, label, response, bot_id, told_at, started_at),
            )
            effects.sessions.add(session)
        if ended:
            _end_jobs(db, ended, code_pb2.DEADLINE_EXCEEDED, now, effects)
            db.execute(_CANCEL_LEASES, (int(LeaseState.CANCELLED), [job.name for job in ended]))
            _leave_flight(db, ended)
        return len(ended)

    return transaction


def end_unserved(
    limit: timedelta, *, at_once: int, policy: CompletionPolicy
) -> Callable[[Statements, datetime, Effects], int]:
    """End jobs that have waited for longer than `limit`, of all instances; returns how many.

    At most `at_once`. They answer UNAVAILABLE, and say what bots they would have needed.
    """

    def transaction(db: Statements, now: datetime, effects: Effects) -> int:
        rows = db.rows(_LOCK_UNSERVED, {"before": now - limit, "limit": at_once})
        ended = []
        for job, instance, digest, do_not_cache, label, requirements in rows:
            needs: Mapping[str, Sequence[str]] = requirements
            response = unserved_response(limit, label, needs, link_to_action(policy, digest))
            ended.append(_Ended(job, instance, digest, do_not_cache, label, response))
        if ended:
            _end_jobs(db, ended, code_pb2.UNAVAILABLE, now, effects)
            db.execute(_LEAVE_QUEUE, ([job.name for job in ended],))
            _leave_flight(db, ended)
        return len(ended)

    return transaction


def _end_jobs(db: Statements, ended: list[_Ended], code: int, now: datetime, effects: Effects) -> None:
    ended.sort(key=lambda job: job.name)
    db.execute(
        _END_JOBS,
        (
            code,
            now,
            [job.name for job in ended],
            [job.response for job in ended],
            [job.worker for job in ended],
            [job.assigned_at for job in ended],
            [job.started_at for job in ended],
            [now if job.worker is not None else None for job in ended],
        ),
    )
    for job in ended:
        effects.states[job.name] = JobState(Stage.COMPLETED, job.action_digest, job.response)
        effects.completed.append(
            CompletedJob(
                job.name, job.instance, job.action_digest, job.property_label, job.response, code, now
            )
        )


def _leave_flight(db: Statements, ended: Sequence[_Ended]) -> None:
    if shared := [job for job in ended if not job.do_not_cache]:
        db.execute(
            sql.LEAVE_FLIGHT,
            (
                [job.instance for job in shared],
                [job.action_digest for job in shared],
                [job.name for job in shared],
            ),
        )
