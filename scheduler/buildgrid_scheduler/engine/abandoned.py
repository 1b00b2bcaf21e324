"""Operations that nobody follows any more: who is followed is noted, what is not is cancelled.

An operation of the Execution service has `watched_at`, the last time at which it was seen to be followed,
on the clock of the replica that saw it. Clocks of replicas may differ: what is followed is noted at least
every quarter of the timeout, so half a timeout of difference does no harm to it; and what was left is
cancelled that much sooner or later.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from buildgrid_scheduler.core.lease_transition import LeaseState
from buildgrid_scheduler.engine.cancelling import HeldJob, cancel_unwanted
from buildgrid_scheduler.engine.items import Effects
from buildgrid_scheduler.store.hot_connection import Statements

_CANCELLED = int(LeaseState.CANCELLED)

# Whoever updates several operations locks them by name first, or skips those that are locked.
_NOTE_FOLLOWED = """
UPDATE operations SET watched_at = %(now)s WHERE name = ANY(ARRAY(
  SELECT o.name FROM operations o
  WHERE o.name = ANY(%(names)s::text[]) AND o.watched_at < %(now)s AND NOT o.cancelled
  ORDER BY o.name FOR NO KEY UPDATE))
"""
# A page of what is unfinished, by name, and of that what seems to be abandoned.
_LOOK = """
WITH live AS MATERIALIZED (
  SELECT t.job_name, t.queued_at FROM (
    (SELECT job_name, queued_at FROM queue WHERE job_name > %(after)s ORDER BY job_name LIMIT %(page)s)
    UNION ALL
    (SELECT job_name, queued_at FROM leases WHERE job_name > %(after)s AND state <> %(cancelled)s
     ORDER BY job_name LIMIT %(page)s)
  ) t ORDER BY t.job_name LIMIT %(page)s
), found AS MATERIALIZED (
  SELECT l.job_name FROM live l
  WHERE l.queued_at < %(before)s AND EXISTS (
    SELECT 1 FROM operations o
    WHERE o.job_name = l.job_name AND o.watched_at < %(before)s AND NOT o.cancelled)
  ORDER BY l.job_name LIMIT %(limit)s
)
SELECT e.looked_at, e.latest, f.job_name
FROM (SELECT count(*) AS looked_at, max(job_name) AS latest FROM live) e LEFT JOIN found f ON true
ORDER BY f.job_name
"""
# A job that has a row in in_flight is left alone for now if that is held: somebody is about to join it.
_HOLD_FLIGHT = """
WITH job AS MATERIALIZED (
  SELECT j.name, j.instance_name, j.action_digest FROM jobs j WHERE j.name = ANY(%s)
), held AS MATERIALIZED (
  SELECT f.job_name FROM job j JOIN in_flight f
    ON f.instance_name = j.instance_name AND f.action_digest = j.action_digest AND f.job_name = j.name
  FOR UPDATE OF f SKIP LOCKED
)
SELECT j.name, j.instance_name, j.action_digest FROM job j
WHERE EXISTS (SELECT 1 FROM held h WHERE h.job_name = j.name) OR NOT EXISTS (
  SELECT 1 FROM in_flight f
  WHERE f.instance_name = j.instance_name AND f.action_digest = j.action_digest AND f.job_name = j.name)
"""
_HOLD_QUEUED = "SELECT job_name FROM queue WHERE job_name = ANY(%s) FOR UPDATE SKIP LOCKED"
_HOLD_LEASED = """
SELECT job_name FROM leases WHERE job_name = ANY(%s) AND state <> %s FOR UPDATE SKIP LOCKED
"""
_HOLD_JOBS = """
SELECT name FROM jobs WHERE name = ANY(%s) AND completed_at IS NULL FOR UPDATE SKIP LOCKED
"""
# Looks again whether it is followed: it may have been noted since.
_CANCEL = """
UPDATE operations SET cancelled = true WHERE ctid = ANY(ARRAY(
  SELECT o.ctid FROM unnest(%(jobs)s::text[]) AS j(name) JOIN operations o ON o.job_name = j.name
  WHERE o.watched_at < %(before)s AND NOT o.cancelled
  FOR UPDATE OF o SKIP LOCKED))
RETURNING job_name
"""


def note_followed(operations: Collection[str]) -> Callable[[Statements, datetime, Effects], None]:
    """These operations are followed now; not those that were made without being followed.

    Whoever has waited for this knows that the operation is not cancelled for a whole timeout, unless it was
    before.
    """

    def transaction(db: Statements, now: datetime, effects: Effects) -> None:
        db.execute(_NOTE_FOLLOWED, {"now": now, "names": sorted(operations)})

    return transaction


@dataclass(frozen=True, slots=True)
class Look:
    """A step through what is unfinished."""

    cancelled: int
    """operations"""
    after: str | None
    """where to go on; None: that was all"""


def cancel_abandoned(
    timeout: timedelta, *, after: str = "", page: int, at_once: int
) -> Callable[[Statements, datetime, Effects], Look]:
    """Cancel operations that nobody was seen to follow for `timeout`, and jobs that nobody else wants.

    Looks at no more than `page` unfinished jobs, those whose names follow `after`, of all instances, and
    takes the operations of at most `at_once` of them. What somebody else holds is left to the next round.
    """

    def transaction(db: Statements, now: datetime, effects: Effects) -> Look:
        before = now - timeout
        values = {"after": after, "before": before, "page": page, "limit": at_once, "cancelled": _CANCELLED}
        rows = db.rows(_LOOK, values)
        looked_at, latest = rows[0][0], rows[0][1]
        found = [job for _, _, job in rows if job is not None]
        cancelled = _cancel(db, found, before, now, effects) if found else 0
        if len(found) == at_once:
            return Look(cancelled, found[-1])
        return Look(cancelled, latest if looked_at == page else None)

    return transaction


def _cancel(db: Statements, jobs: list[str], before: datetime, now: datetime, effects: Effects) -> int:
    held = {
        name: HeldJob(name, instance, digest) for name, instance, digest in db.rows(_HOLD_FLIGHT, (jobs,))
    }
    queued = db.execute(_HOLD_QUEUED, (list(held),))
    leased = db.execute(_HOLD_LEASED, (list(held), _CANCELLED))
    live = [name for (name,) in [*queued.fetchall(), *leased.fetchall()]]
    unfinished = [name for (name,) in db.rows(_HOLD_JOBS, (live,))]
    rows = db.rows(_CANCEL, {"jobs": unfinished, "before": before})
    if rows:
        cancel_unwanted(db, [held[name] for name in {name for (name,) in rows}], now, effects)
    return len(rows)
