"""What a command used of its machine, as its bot has put it into the CAS."""

from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    Digest,
    ExecutedActionMetadata,
)
from buildgrid_protos.build.buildbox.execution_stats_pb2 import ExecutionStatistics
from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError

from buildgrid_scheduler.storage.abc import StorageABC

LARGEST_BLOB = 64 * 1024
"""Bytes: statistics take a hundred, and a bot may name any blob."""


def statistics_digests(metadata: ExecutedActionMetadata) -> list[Digest]:
    """The digests in the auxiliary metadata: one of them may be that of the statistics."""
    found = []
    for entry in metadata.auxiliary_metadata:
        if entry.Is(Digest.DESCRIPTOR):
            try:
                digest = Digest.FromString(entry.value)
            except DecodeError:
                continue
            if digest.size_bytes <= LARGEST_BLOB:
                found.append(digest)
    return found


def parse_statistics(blob: bytes) -> ExecutionStatistics | None:
    """The statistics in a blob; None when it holds something else."""
    try:
        packed = Any.FromString(blob)
        if not packed.Is(ExecutionStatistics.DESCRIPTOR):
            return None
        return ExecutionStatistics.FromString(packed.value)
    except DecodeError:
        return None


def read_statistics(storage: StorageABC, metadata: ExecutedActionMetadata) -> ExecutionStatistics | None:
    """The statistics of an execution; None when there are none. Raises SchedulerError."""
    for digest in statistics_digests(metadata):
        blob = storage.read_one(digest)
        statistics = None if blob is None else parse_statistics(blob)
        if statistics is not None:
            return statistics
    return None
