"""ExportHistory of the Fleet service: see fleet.proto."""

from collections.abc import AsyncIterator, Collection
from datetime import UTC, datetime

from buildgrid_protos.buildgrid.fleet.v1 import fleet_pb2
from google.protobuf.timestamp_pb2 import Timestamp

from buildgrid_scheduler.core.clock import to_timestamp
from buildgrid_scheduler.core.errors import InvalidArgument
from buildgrid_scheduler.fleet.finished_jobs import FinishedJob, FinishedJobs
from buildgrid_scheduler.services.blocking import Blocking
from buildgrid_scheduler.store.provider import SqlProvider


async def history_pages(
    provider: SqlProvider,
    blocking: Blocking,
    instances: Collection[str],
    request: fleet_pb2.ExportHistoryRequest,
) -> AsyncIterator[list[fleet_pb2.FinishedJob]]:
    """What the request asks for, of these instances; a page is in memory, and no transaction between two.

    Raises InvalidArgument for a time that is none, or a start after the end; Unavailable, DeadlineExceeded.
    """
    jobs = FinishedJobs(
        provider,
        instances,
        _moment(request.start_time, "start_time") if request.HasField("start_time") else None,
        _moment(request.end_time, "end_time") if request.HasField("end_time") else None,
    )
    while page := await blocking(jobs.page):
        yield [message_of(job) for job in page]


def message_of(job: FinishedJob) -> fleet_pb2.FinishedJob:
    """On the wire."""
    message = fleet_pb2.FinishedJob(
        instance_name=job.instance,
        queued_time=to_timestamp(job.queued_at),
        properties=[
            fleet_pb2.Property(key=key, value=value)
            for key, values in sorted(job.requirements.items())
            for value in values
        ],
        property_label=job.property_label,
        priority=job.priority,
        status_code=job.status_code,
    )
    if job.duration is not None:
        message.duration.FromTimedelta(job.duration)
    return message


def _moment(stamp: Timestamp, field: str) -> datetime:
    try:
        return stamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise InvalidArgument(
            f"{field} is no time: seconds {stamp.seconds}, nanos {stamp.nanos}; leave it out, or name one in "
            "the years 1 to 9999"
        ) from None
