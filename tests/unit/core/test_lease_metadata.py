"""Bots are told in trailing metadata where to stream to, within what clients accept."""

import base64

from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    Digest,
    ExecutedActionMetadata,
    ExecuteOperationMetadata,
    ExecutionStage,
)
from buildgrid_scheduler.core.job_state import Stage
from buildgrid_scheduler.core.job_streams import JobStreams
from buildgrid_scheduler.core.lease_metadata import MOST_BYTES, LeaseMetadata, trailing_metadata

DIGEST = "a" * 64 + "/7"
PARTIAL = ExecutedActionMetadata(worker="bot").SerializeToString()


def lease(number: int = 0, partial: bytes | None = None) -> LeaseMetadata:
    return LeaseMetadata(Stage.EXECUTING, DIGEST, partial, f"write/out/{number}", f"write/err/{number}")


def parsed(entries: list[tuple[str, bytes]]) -> list[ExecuteOperationMetadata]:
    return [ExecuteOperationMetadata.FromString(value) for _, value in entries]


def on_the_wire(entries: list[tuple[str, bytes]]) -> int:
    return sum(len(key) + len(base64.b64encode(value)) + 32 for key, value in entries)


def test_a_lease_is_told_with_stage_digest_partial_metadata_and_the_names_to_write_to() -> None:
    ((key, value),) = trailing_metadata([lease(partial=PARTIAL)])
    assert key == "executeoperationmetadata-bin"
    assert ExecuteOperationMetadata.FromString(value) == ExecuteOperationMetadata(
        stage=ExecutionStage.EXECUTING,
        action_digest=Digest(hash="a" * 64, size_bytes=7),
        stdout_stream_name="write/out/0",
        stderr_stream_name="write/err/0",
        partial_execution_metadata=ExecutedActionMetadata(worker="bot"),
    )


def test_partial_metadata_that_are_none_are_left_out() -> None:
    (told,) = parsed(trailing_metadata([lease(partial=b"\xff\xff")]))
    assert not told.HasField("partial_execution_metadata")
    assert told.stdout_stream_name == "write/out/0"


def test_where_there_is_no_room_bots_are_spared_what_they_have_said() -> None:
    large = ExecutedActionMetadata(worker="b" * MOST_BYTES).SerializeToString()
    told = parsed(trailing_metadata([lease(0, large), lease(1, PARTIAL)]))
    assert [t.stdout_stream_name for t in told] == ["write/out/0", "write/out/1"]
    assert not any(t.HasField("partial_execution_metadata") for t in told)


def test_of_very_many_leases_the_first_are_told() -> None:
    entries = trailing_metadata([lease(n) for n in range(1000)])
    told = [t.stdout_stream_name for t in parsed(entries)]
    assert told == [f"write/out/{n}" for n in range(len(told))]
    assert 10 < len(told) < 1000
    assert on_the_wire(entries) <= MOST_BYTES < on_the_wire(entries) + 300


def test_streams_that_were_just_made_are_told() -> None:
    bare = LeaseMetadata(Stage.EXECUTING, DIGEST)
    streamed = bare.with_streams(JobStreams("out", "out/write", "err", "err/write"))
    (told,) = parsed(trailing_metadata([streamed]))
    assert (told.stdout_stream_name, told.stderr_stream_name) == ("out/write", "err/write")
    assert bare.with_streams(None) == bare


def test_without_leases_there_is_nothing_to_tell() -> None:
    assert trailing_metadata([]) == []
