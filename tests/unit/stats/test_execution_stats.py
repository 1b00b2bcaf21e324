"""The statistics of a command are found through the auxiliary metadata of its result."""

from buildgrid_client.digests import digest_of
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    Digest,
    ExecutedActionMetadata,
)
from buildgrid_protos.build.buildbox.execution_stats_pb2 import ExecutionStatistics
from buildgrid_scheduler.stats.execution_stats import LARGEST_BLOB, parse_statistics, read_statistics
from buildgrid_scheduler.storage.memory import MemoryStorage
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration


def statistics(maxrss: int = 7) -> ExecutionStatistics:
    rusage = ExecutionStatistics.ProcessResourceUsage(utime=Duration(seconds=1), maxrss=maxrss)
    return ExecutionStatistics(command_rusage=rusage)


def packed(found: ExecutionStatistics) -> bytes:
    message = Any()
    message.Pack(found)
    return message.SerializeToString()


def naming(*digests: Digest) -> ExecutedActionMetadata:
    metadata = ExecutedActionMetadata()
    for digest in digests:
        metadata.auxiliary_metadata.add().Pack(digest)
    return metadata


def stored(storage: MemoryStorage, blob: bytes) -> Digest:
    storage.write_many([(digest_of(blob), blob)])
    return digest_of(blob)


def test_statistics_are_read_from_the_blob_that_is_named() -> None:
    storage = MemoryStorage()
    metadata = naming(stored(storage, b"something else"), stored(storage, packed(statistics())))
    metadata.auxiliary_metadata.add().Pack(Duration(seconds=3))
    assert read_statistics(storage, metadata) == statistics()


def test_there_are_none_without_a_digest_or_without_the_blob() -> None:
    assert read_statistics(MemoryStorage(), ExecutedActionMetadata()) is None
    assert read_statistics(MemoryStorage(), naming(digest_of(b"evicted"))) is None


def test_a_large_blob_is_not_read() -> None:
    storage = MemoryStorage()
    blob = packed(statistics()) + b"\x7a\x80\x80\x04" + bytes(65536)  # a field that a parser skips
    assert parse_statistics(blob) == statistics()
    assert len(blob) > LARGEST_BLOB
    assert read_statistics(storage, naming(stored(storage, blob))) is None


def test_a_blob_of_something_else_holds_no_statistics() -> None:
    other = Any()
    other.Pack(Duration(seconds=3))
    assert parse_statistics(other.SerializeToString()) is None
    assert parse_statistics(b"\xff\xff") is None
    wrong = Any(type_url="type.googleapis.com/build.buildbox.ExecutionStatistics", value=b"\xff\xff")
    assert parse_statistics(wrong.SerializeToString()) is None
