"""What a command used of its machine, and when each step of an action took place."""

import resource
from datetime import UTC, datetime, timedelta

from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    Digest,
    ExecutedActionMetadata,
)
from buildgrid_protos.build.buildbox.execution_stats_pb2 import ExecutionStatistics
from google.protobuf.any_pb2 import Any
from google.protobuf.timestamp_pb2 import Timestamp


def statistics_of(usage: resource.struct_rusage) -> ExecutionStatistics:
    """The statistics of a finished command, its waited-for children included (getrusage(2); maxrss in kB)."""
    statistics = ExecutionStatistics()
    target = statistics.command_rusage
    target.utime.FromTimedelta(timedelta(seconds=usage.ru_utime))
    target.stime.FromTimedelta(timedelta(seconds=usage.ru_stime))
    target.maxrss = usage.ru_maxrss
    target.minflt = usage.ru_minflt
    target.majflt = usage.ru_majflt
    target.inblock = usage.ru_inblock
    target.oublock = usage.ru_oublock
    target.nvcsw = usage.ru_nvcsw
    target.nivcsw = usage.ru_nivcsw
    return statistics


def statistics_blob(statistics: ExecutionStatistics) -> bytes:
    """The blob to store in the CAS: a serialized Any of the statistics."""
    packed = Any()
    packed.Pack(statistics)
    return packed.SerializeToString(deterministic=True)


def add_statistics(metadata: ExecutedActionMetadata, digest: Digest) -> None:
    """Names the stored statistics in the metadata: auxiliary_metadata holds an Any of the blob's Digest."""
    metadata.auxiliary_metadata.add().Pack(digest)


def stamp(timestamp: Timestamp, clock: datetime | None = None) -> None:
    """Sets a timestamp of the metadata to now."""
    timestamp.FromDatetime(clock or datetime.now(UTC))
