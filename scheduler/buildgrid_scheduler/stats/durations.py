"""How long the steps of an execution took. Pure."""

from datetime import datetime, timedelta
from enum import StrEnum

from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import ExecutedActionMetadata

from buildgrid_scheduler.core.clock import from_timestamp


class Step(StrEnum):
    """A step of an execution; the values are labels of metrics."""

    QUEUED = "queued"
    """until a bot began"""
    TOTAL = "total"
    """from queued to the end of the bot's work"""
    WORKER = "worker"
    """all of the bot's work"""
    FETCH = "fetch"
    EXECUTION = "execution"
    UPLOAD = "upload"


_STAMPS = {
    Step.QUEUED: ("queued_timestamp", "worker_start_timestamp"),
    Step.TOTAL: ("queued_timestamp", "worker_completed_timestamp"),
    Step.WORKER: ("worker_start_timestamp", "worker_completed_timestamp"),
    Step.FETCH: ("input_fetch_start_timestamp", "input_fetch_completed_timestamp"),
    Step.EXECUTION: ("execution_start_timestamp", "execution_completed_timestamp"),
    Step.UPLOAD: ("output_upload_start_timestamp", "output_upload_completed_timestamp"),
}


def durations(metadata: ExecutedActionMetadata) -> dict[Step, timedelta]:
    """What the timestamps tell; a step of which one is missing is left out.

    The queued time is the server's and the others the bot's: where their clocks disagree, so that a step ends
    before it begins, it took no time.
    """
    known = {}
    for step, (first, last) in _STAMPS.items():
        begin, end = _moment(metadata, first), _moment(metadata, last)
        if begin is not None and end is not None:
            known[step] = max(end - begin, timedelta())
    return known


def _moment(metadata: ExecutedActionMetadata, field: str) -> datetime | None:
    return from_timestamp(getattr(metadata, field))
