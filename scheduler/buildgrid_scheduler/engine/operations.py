"""Transactions on single operations: cancelling, attaching to a job. Rare, so each is one of its own."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from buildgrid_scheduler.core.errors import Cancelled, NotFound
from buildgrid_scheduler.engine.cancelling import HeldJob, cancel_unwanted
from buildgrid_scheduler.engine.enqueueing import EnqueueBatch
from buildgrid_scheduler.engine.items import Effects, Enqueue
from buildgrid_scheduler.store import statements as sql
from buildgrid_scheduler.store.hot_connection import Statements

Metadata = tuple[str, ...] | None
"""a row of `request_metadata`, see core.request_metadata"""

_FIND = """
SELECT o.job_name, o.cancelled, j.action_digest, j.completed_at IS NOT NULL
FROM operations o JOIN jobs j ON j.name = o.job_name WHERE o.instance_name = %s AND o.name = %s
"""
_LOCK_FLIGHT = """
SELECT job_name FROM in_flight WHERE instance_name = %s AND action_digest = %s FOR UPDATE
"""
_LOCK_QUEUE = "SELECT job_name FROM queue WHERE job_name = %s FOR UPDATE"
_LOCK_LEASE = "SELECT session_name FROM leases WHERE job_name = %s FOR UPDATE"
_LOCK_JOB = "SELECT completed_at IS NOT NULL FROM jobs WHERE name = %s FOR UPDATE"
_IS_COMPLETE = "SELECT completed_at IS NOT NULL FROM jobs WHERE name = %s"
_CANCEL_OPERATION = "UPDATE operations SET cancelled = true WHERE name = %s"

_JOB = "SELECT cancelled FROM jobs WHERE instance_name = %s AND name = %s FOR SHARE"
_ATTACH = """
INSERT INTO operations (name, instance_name, job_name, created_at, request_metadata_hash, client_identity_id)
VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""
_IS_THERE = "SELECT 1 FROM operations WHERE name = %s"
_PULL_FORWARD = "UPDATE queue SET priority = %s WHERE job_name = %s AND priority > %s"
_TAKE_FLIGHT = """
INSERT INTO in_flight (instance_name, action_digest, job_name) VALUES (%s, %s, %s)
ON CONFLICT (instance_name, action_digest) DO UPDATE SET job_name = excluded.job_name
"""
_SET_STATUS = "UPDATE jobs SET status_code = %s WHERE name = %s"


def unknown_operation(name: str) -> NotFound:
    """The answer for an operation that is not there, or belongs to another instance."""
    return NotFound(f"operation {name!r} is not known; it may have been pruned: execute the action again")


def _lock_queue_or_lease(db: Statements, job: str) -> None:
    """Hold the row that an unfinished job has in one of the two, before its own is locked.

    It may move from one to the other between two looks; a finished job has neither.
    """
    while not db.rows(_LOCK_QUEUE, (job,)) and not db.rows(_LOCK_LEASE, (job,)):
        if db.rows(_IS_COMPLETE, (job,)) != [(False,)]:  # done, or pruned
            return


def cancel(instance: str, operation: str) -> Callable[[Statements, datetime, Effects], None]:
    """Cancel one operation, and its job when no other operation wants it.

    Cancelling what is done is a no-op. Raises NotFound.
    """

    def transaction(db: Statements, now: datetime, effects: Effects) -> None:
        found = db.rows(_FIND, (instance, operation))
        if not found:
            raise unknown_operation(operation)
        job, cancelled, digest, complete = found[0]
        if cancelled or complete:
            return
        # Whoever shares this job has to hold the in_flight row: none can join while we count.
        db.rows(_LOCK_FLIGHT, (instance, digest))
        _lock_queue_or_lease(db, job)
        if db.rows(_LOCK_JOB, (job,)) != [(False,)]:
            return
        db.execute(_CANCEL_OPERATION, (operation,))
        cancel_unwanted(db, [HeldJob(job, instance, digest)], now, effects)

    return transaction


def _add_metadata(db: Statements, metadata: Metadata) -> None:
    """Before any lock: whoever enqueues writes these rows first, too."""
    if metadata is not None:
        db.execute(sql.ADD_REQUEST_METADATA, tuple([value] for value in metadata))


def _hash_of(metadata: Metadata) -> str | None:
    return metadata[0] if metadata is not None else None


def attach(
    instance: str, operation: str, job: str, *, metadata: Metadata = None, identity_id: int | None = None
) -> Callable[[Statements, datetime, Effects], None]:
    """A new operation on a job that exists. Raises NotFound, or Cancelled for a cancelled job."""

    def transaction(db: Statements, now: datetime, effects: Effects) -> None:
        _add_metadata(db, metadata)
        found = db.rows(_JOB, (instance, job))
        if not found:
            raise NotFound(f"job {job!r} is not known")
        if found[0][0]:
            raise Cancelled(f"job {job!r} was cancelled; execute the action again")
        db.execute(_ATTACH, (operation, instance, job, now, _hash_of(metadata), identity_id))

    return transaction


def share(
    instance: str,
    operation: str,
    digest: str,
    *,
    priority: int,
    metadata: Metadata = None,
    identity_id: int | None = None,
) -> Callable[[Statements, datetime, Effects], bool]:
    """A new operation on the unfinished job of an action, which a more urgent one pulls forward.

    False if there is no such job, or it may not be shared.
    """

    def transaction(db: Statements, now: datetime, effects: Effects) -> bool:
        _add_metadata(db, metadata)
        flight = db.rows(_LOCK_FLIGHT, (instance, digest))
        if not flight or db.rows(_IS_COMPLETE, (flight[0][0],)) != [(False,)]:
            return bool(db.rows(_IS_THERE, (operation,)))  # run again after a commit that went unheard
        job = flight[0][0]
        db.execute(_PULL_FORWARD, (priority, job, priority))
        db.execute(_ATTACH, (operation, instance, job, now, _hash_of(metadata), identity_id))
        return True

    return transaction


def create(
    item: Enqueue, status_code: int, max_queue_size: int | None, *, accept_new_jobs: bool = True
) -> Callable[[Statements, datetime, Effects], None]:
    """A new operation on a new job, whatever else runs; who comes later shares this one.

    Raises ResourceExhausted when too many jobs wait, Unavailable when new ones are not accepted.
    """
    job = replace(item.job, share=False, look_up=False)

    def transaction(db: Statements, now: datetime, effects: Effects) -> None:
        encoded = json.dumps(job.requirements)
        db.execute(sql.ADD_REQUIREMENTS, ([job.requirement_hash], [encoded]))
        _add_metadata(db, item.request_metadata)
        batch = EnqueueBatch([replace(item, job=job)])
        limited = max_queue_size is not None or not accept_new_jobs
        if limited and not db.rows(_IS_THERE, (item.operation_name,)):
            if not accept_new_jobs:
                batch.refuse_new(db)
            elif max_queue_size is not None:
                batch.refuse_above(max_queue_size, db)
        if batch.refused:
            raise batch.refused[item.operation_name]
        if not job.do_not_cache and job.response is None:
            db.execute(_TAKE_FLIGHT, (job.instance, job.action_digest, job.name))
        batch.send(db, now)
        if job.response is None:
            effects.arrivals.append((job.instance, job.requirement_hash))
        else:
            db.execute(_SET_STATUS, (status_code, job.name))

    return transaction


def delete(instance: str, operation: str) -> Callable[[Statements, datetime, Effects], None]:
    """Forget an operation; what it is a handle on stays."""

    def transaction(db: Statements, now: datetime, effects: Effects) -> None:
        db.execute("DELETE FROM operations WHERE instance_name = %s AND name = %s", (instance, operation))

    return transaction
