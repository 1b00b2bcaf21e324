"""Reads what happened to a job."""

from dataclasses import dataclass

from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb2
from google.protobuf.message import DecodeError
from sqlalchemy import RowMapping, text
from sqlalchemy.exc import DBAPIError

from buildgrid_scheduler.core.errors import NotFound, Unavailable
from buildgrid_scheduler.core.history import Event, JobRecord, LastAttempt, PastAttempt, history
from buildgrid_scheduler.store.provider import SqlProvider

_LOAD = text("""
SELECT j.name, j.queued_at, j.attempts, j.completed_at, j.cancelled, j.status_code, j.response,
       j.worker_name, j.assigned_at, j.worker_start_at, l.job_name IS NOT NULL AS leased, l.told_at,
       l.started_at, b.bot_id
FROM jobs j LEFT JOIN leases l ON l.job_name = j.name LEFT JOIN bots b ON b.name = l.session_name
WHERE j.instance_name = :instance AND j.name IN (
  SELECT :name UNION ALL
  SELECT o.job_name FROM operations o WHERE o.instance_name = :instance AND o.name = :name)
""")


@dataclass(frozen=True, slots=True)
class JobHistory:
    """What happened to a job, oldest first."""

    job_name: str
    events: list[Event]


class JobHistories:
    """Reads one at a time."""

    def __init__(self, provider: SqlProvider) -> None:
        self._provider = provider

    def load(self, instance: str, name: str) -> JobHistory:
        """The history of a job, by its own name or that of an operation.

        Raises NotFound if there is none in this instance, Unavailable while the database is away.
        """
        unknown = NotFound(f"{name!r} is neither a job nor an operation; it may have been pruned")
        if "\0" in name:
            raise unknown
        values = {"instance": instance, "name": name}
        try:
            with self._provider.session() as session:
                row = session.execute(_LOAD, values).mappings().first()
        except DBAPIError as error:
            raise Unavailable("the database cannot be reached; try again") from error
        if row is None:
            raise unknown
        return JobHistory(row["name"], history(_record(row)))


def _record(row: RowMapping) -> JobRecord:
    last = None
    if row["leased"] and row["told_at"] is not None:
        last = LastAttempt(row["bot_id"] or "", row["told_at"], row["started_at"])
    elif row["worker_name"] is not None:
        last = LastAttempt(row["worker_name"], row["assigned_at"], row["worker_start_at"])
    return JobRecord(
        name=row["name"],
        queued_at=row["queued_at"],
        attempts=[PastAttempt.from_json(entry) for entry in row["attempts"] or ()],
        last=last,
        completed_at=row["completed_at"],
        cancelled=row["cancelled"],
        status_code=row["status_code"] or 0,
        message=_message(row["response"]),
    )


def _message(response: bytes | None) -> str:
    """What the answer says of a failure."""
    try:
        answer = re_pb2.ExecuteResponse.FromString(response or b"")
    except DecodeError:
        return ""
    message: str = answer.status.message
    return message
