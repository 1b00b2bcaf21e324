"""What follows when operations of a job were cancelled."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from google.rpc import code_pb2

from buildgrid_scheduler.core.completed_job import CompletedJob
from buildgrid_scheduler.core.job_state import JobState, Stage, cancelled_response
from buildgrid_scheduler.core.lease_transition import LeaseState
from buildgrid_scheduler.engine.items import Effects
from buildgrid_scheduler.store.hot_connection import Statements

_UNWANTED = """
SELECT t.job FROM unnest(%s::text[]) AS t(job)
WHERE NOT EXISTS (SELECT 1 FROM operations o WHERE o.job_name = t.job AND NOT o.cancelled)
"""
_CANCEL_JOBS = """
UPDATE jobs SET cancelled = true, completed_at = %s, status_code = %s, response = %s WHERE name = ANY(%s)
RETURNING name, property_label
"""
_LEAVE_QUEUE = "DELETE FROM queue WHERE job_name = ANY(%s)"
_CANCEL_LEASES = "UPDATE leases SET state = %s WHERE job_name = ANY(%s) RETURNING session_name"
# Unlike statements.LEAVE_FLIGHT it passes over no row: held here, it must go before others may share the job.
_LEAVE_FLIGHT = """
DELETE FROM in_flight f USING unnest(%s::text[], %s::text[], %s::text[]) AS d(instance, digest, job)
WHERE f.instance_name = d.instance AND f.action_digest = d.digest AND f.job_name = d.job
"""


@dataclass(frozen=True, slots=True)
class HeldJob:
    """An unfinished job whose rows are all locked: in_flight if it has one, queue or lease, and its own."""

    name: str
    instance: str
    action_digest: str


def cancel_unwanted(db: Statements, held: Iterable[HeldJob], now: datetime, effects: Effects) -> None:
    """Of jobs with operations that were just cancelled, cancel those that no operation wants any more.

    Their bots are told to stop. Nobody can join one of them meanwhile: whoever shares a job has to hold its
    row in in_flight, whoever attaches to it the job itself.
    """
    jobs = {job.name: job for job in held}
    unwanted = [jobs[name] for (name,) in db.rows(_UNWANTED, (sorted(jobs),))]
    effects.states.update(dict.fromkeys(jobs))
    if not unwanted:
        return
    names = [job.name for job in unwanted]
    response = cancelled_response()
    cancelled = db.execute(_CANCEL_JOBS, (now, code_pb2.CANCELLED, response, names))
    db.execute(_LEAVE_QUEUE, (names,))
    leases = db.execute(_CANCEL_LEASES, (int(LeaseState.CANCELLED), names))
    db.execute(
        _LEAVE_FLIGHT,
        ([job.instance for job in unwanted], [job.action_digest for job in unwanted], names),
    )
    effects.sessions.update(session for (session,) in leases.fetchall())
    labels: dict[str, str] = dict(cancelled.fetchall())
    for job in unwanted:
        effects.states[job.name] = JobState(Stage.COMPLETED, job.action_digest, response)
        effects.completed.append(
            CompletedJob(
                job.name,
                job.instance,
                job.action_digest,
                labels[job.name],
                response,
                code_pb2.CANCELLED,
                now,
                cancelled=True,
            )
        )
