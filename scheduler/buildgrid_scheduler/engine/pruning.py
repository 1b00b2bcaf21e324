"""Transactions that delete what ended long ago."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from buildgrid_scheduler.engine.items import Effects
from buildgrid_scheduler.engine.known import REMEMBERED_FOR
from buildgrid_scheduler.store import statements as sql
from buildgrid_scheduler.store.hot_connection import Statements

# By queued time, which is indexed, rather than by completed time, which is not, so that completion stays
# cheap: what completed long ago was queued longer ago. Whoever attaches an operation to a job holds it.
_HOLD_JOBS = """
WITH RECURSIVE instance(name) AS (
  (SELECT instance_name FROM jobs ORDER BY instance_name LIMIT 1)
  UNION ALL
  SELECT n.instance_name FROM instance i CROSS JOIN LATERAL (
    SELECT j.instance_name FROM jobs j WHERE j.instance_name > i.name ORDER BY j.instance_name LIMIT 1) n
)
SELECT t.name, t.instance_name, t.action_digest FROM instance i CROSS JOIN LATERAL (
  SELECT j.name, j.instance_name, j.action_digest FROM jobs j
  WHERE j.instance_name = i.name AND j.queued_at < %(before)s AND j.completed_at < %(before)s
  ORDER BY j.queued_at, j.name LIMIT %(limit)s FOR UPDATE OF j SKIP LOCKED) t
LIMIT %(limit)s
"""
# A row that outlives its job would be shared for ever.
_STILL_IN_FLIGHT = """
SELECT f.job_name FROM unnest(%s::text[], %s::text[], %s::text[]) AS d(instance, digest, job)
JOIN in_flight f ON f.instance_name = d.instance AND f.action_digest = d.digest AND f.job_name = d.job
"""
# Nothing is waited for while the jobs are held: a bot may just be letting go of its lease.
_DELETE_LEASES = """
DELETE FROM leases WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM leases WHERE job_name = ANY(%s) FOR UPDATE SKIP LOCKED))
"""
_STILL_LEASED = "SELECT job_name FROM leases WHERE job_name = ANY(%s)"
# In the order of names, as all who lock several operations.
_DELETE_OPERATIONS = """
DELETE FROM operations WHERE name = ANY(ARRAY(
  SELECT o.name FROM unnest(%s::text[]) AS t(job) JOIN operations o ON o.job_name = t.job
  ORDER BY o.name FOR UPDATE OF o))
RETURNING request_metadata_hash
"""
_DELETE_JOBS = "DELETE FROM jobs WHERE name = ANY(%s)"
# What replicas may remember to be there has been marked lately, on the database's own clock.
_DELETE_METADATA = """
DELETE FROM request_metadata WHERE hash = ANY(ARRAY(
  SELECT m.hash FROM unnest(%(hashes)s::text[]) AS t(hash) JOIN request_metadata m ON m.hash = t.hash
  WHERE m.created_at < least(%(before)s::timestamptz, now() - %(lately)s::interval)
    AND NOT EXISTS (SELECT 1 FROM operations o WHERE o.request_metadata_hash = m.hash)
  ORDER BY m.hash FOR UPDATE OF m SKIP LOCKED))
"""
_PAGE_OF_METADATA = "SELECT hash FROM request_metadata WHERE hash > %s ORDER BY hash LIMIT %s"
_LATELY = timedelta(seconds=3 * REMEMBERED_FOR)


def prune(older_than: timedelta, *, at_once: int) -> Callable[[Statements, datetime, Effects], int]:
    """Delete jobs of all instances that ended longer than `older_than` ago; returns how many.

    At most `at_once`; the oldest of an instance first. Their operations go, with the request metadata that
    nothing else refers to, and so do cancelled leases of which their bots never let go.
    """

    def transaction(db: Statements, now: datetime, effects: Effects) -> int:
        before = now - older_than
        rows = db.rows(_HOLD_JOBS, {"before": before, "limit": at_once})
        if not rows:
            return 0
        names, instances, digests = zip(*rows, strict=True)
        flight = (list(instances), list(digests), list(names))
        db.execute(sql.LEAVE_FLIGHT, flight)
        in_flight = db.execute(_STILL_IN_FLIGHT, flight)
        db.execute(_DELETE_LEASES, (list(names),))
        leased = db.execute(_STILL_LEASED, (list(names),))
        kept = {name for (name,) in [*in_flight.fetchall(), *leased.fetchall()]}
        jobs = [name for name in names if name not in kept]
        metadata = {hash_ for (hash_,) in db.rows(_DELETE_OPERATIONS, (jobs,)) if hash_ is not None}
        db.execute(_DELETE_JOBS, (jobs,))
        if metadata:
            _delete_metadata(db, sorted(metadata), before)
        return len(jobs)

    return transaction


def prune_metadata(
    older_than: timedelta, *, after: str, page: int
) -> Callable[[Statements, datetime, Effects], str]:
    """Delete request metadata that was left behind without an operation; returns where to go on.

    That of operations that were refused, or were deleted before their job. Looks at `page` rows, those whose
    hashes follow `after`; "" is the beginning.
    """

    def transaction(db: Statements, now: datetime, effects: Effects) -> str:
        hashes = [hash_ for (hash_,) in db.rows(_PAGE_OF_METADATA, (after, page))]
        if hashes:
            _delete_metadata(db, hashes, now - older_than)
        return hashes[-1] if len(hashes) == page else ""

    return transaction


def _delete_metadata(db: Statements, hashes: Sequence[str], before: datetime) -> None:
    db.execute(_DELETE_METADATA, {"hashes": list(hashes), "before": before, "lately": _LATELY})
