"""What clients are told of a job, and the messages that tell it. Pure."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import cast

from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb2
from google.longrunning.operations_proto_pb2 import Operation
from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError
from google.rpc import code_pb2

from buildgrid_scheduler.core.clock import to_timestamp
from buildgrid_scheduler.core.instance import qualified

_TYPE = "type.googleapis.com/build.bazel.remote.execution.v2."
METADATA_TYPE = _TYPE + "ExecuteOperationMetadata"
RESPONSE_TYPE = _TYPE + "ExecuteResponse"
ACTION_TYPE = _TYPE + "Action"


class Stage(IntEnum):
    """Numbers are those of the wire (REAPI, ExecutionStage.Value)."""

    UNKNOWN = 0
    CACHE_CHECK = 1
    QUEUED = 2
    EXECUTING = 3
    COMPLETED = 4


@dataclass(frozen=True, slots=True)
class JobState:
    """A job as its clients see it. `response` is a serialized ExecuteResponse, once COMPLETED."""

    stage: Stage
    action_digest: str  # HASH/SIZE
    response: bytes | None = None
    partial_metadata: bytes | None = None  # a serialized ExecutedActionMetadata
    stdout_stream_name: str = ""
    stderr_stream_name: str = ""


def cancelled_response(message: str = "the operation was cancelled") -> bytes:
    """What a cancelled operation answers."""
    response = re_pb2.ExecuteResponse()
    response.status.code = code_pb2.CANCELLED
    response.status.message = message
    return response.SerializeToString()


def failed_response(code: int, message: str, *, result: re_pb2.ActionResult | None = None) -> bytes:
    """What an operation answers whose job could not be brought to its end."""
    response = re_pb2.ExecuteResponse(result=result)
    response.status.code = code
    response.status.message = message
    return response.SerializeToString()


def executed_action_metadata(
    response: bytes | None,
    *,
    worker: str | None,
    queued_at: datetime,
    worker_start_at: datetime | None,
    worker_completed_at: datetime | None,
) -> re_pb2.ExecutedActionMetadata:
    """When a job was queued, started and done: what its response says, and where that is silent, its row."""
    metadata = re_pb2.ExecutedActionMetadata()
    if response is not None:
        with suppress(DecodeError):
            metadata.CopyFrom(re_pb2.ExecuteResponse.FromString(response).result.execution_metadata)
    metadata.worker = metadata.worker or worker or ""
    for moment, field in (
        (queued_at, "queued_timestamp"),
        (worker_start_at, "worker_start_timestamp"),
        (worker_completed_at, "worker_completed_timestamp"),
    ):
        if moment is not None and not metadata.HasField(field):  # type: ignore[arg-type]
            getattr(metadata, field).CopyFrom(to_timestamp(moment))
    return metadata


def operation_message(instance: str, name: str, state: JobState, *, cancelled: bool = False) -> Operation:
    """The Operation on the wire.

    `cancelled`: this operation was, whatever becomes of the job that others may still share.
    """
    hash_, _, size = state.action_digest.partition("/")
    stage = Stage.COMPLETED if cancelled else state.stage
    metadata = re_pb2.ExecuteOperationMetadata(
        stage=cast("re_pb2.ExecutionStage.Value.ValueType", int(stage)),
        action_digest=re_pb2.Digest(hash=hash_, size_bytes=int(size)),
        stdout_stream_name=state.stdout_stream_name,
        stderr_stream_name=state.stderr_stream_name,
    )
    if state.partial_metadata:
        with suppress(DecodeError):  # it is as the bot sent it
            metadata.partial_execution_metadata.CopyFrom(
                re_pb2.ExecutedActionMetadata.FromString(state.partial_metadata)
            )
    operation = Operation(
        name=qualified(instance, name),
        metadata=Any(type_url=METADATA_TYPE, value=metadata.SerializeToString()),
    )
    if stage is Stage.COMPLETED:
        operation.done = True
        response = cancelled_response() if cancelled else state.response
        if response is None:
            response = failed_response(
                code_pb2.DATA_LOSS, "the result of this operation can no longer be found"
            )
        operation.response.CopyFrom(Any(type_url=RESPONSE_TYPE, value=response))
    return operation
