"""Execution: hands an action to the farm and follows it to its end, through lost streams and restarts.

The stream is only a window on the operation. When it breaks, WaitExecution opens another, on whichever
replica answers; an operation that is gone is asked for again, which costs nothing where the action cache has
the result.
"""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterable, Callable
from dataclasses import dataclass
from enum import Enum, auto
from importlib import metadata as distributions
from time import monotonic
from typing import TypeAlias

import grpc
import grpc.aio
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    Digest,
    ExecuteOperationMetadata,
    ExecuteRequest,
    ExecuteResponse,
    ExecutionStage,
    RequestMetadata,
    ToolDetails,
    WaitExecutionRequest,
)
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2_grpc import ExecutionStub
from google.longrunning.operations_pb2_grpc import OperationsStub
from google.longrunning.operations_proto_pb2 import CancelOperationRequest, Operation

from buildgrid_client.execution_errors import ExecutionFailed, error_of_call, error_of_status
from buildgrid_client.retries import backoff

REQUEST_METADATA_HEADER = "build.bazel.remote.execution.v2.requestmetadata-bin"

# Called at each change with the stage and what else the operation tells.
StageCallback: TypeAlias = Callable[[ExecutionStage.Value.ValueType, ExecuteOperationMetadata], None]
# Called with the reason each time that the server is lost, and with None once it has been heard of again.
OutageCallback: TypeAlias = Callable[[str | None], None]
Metadata: TypeAlias = tuple[tuple[str, str | bytes], ...]

# An operation that vanishes over and over is a server that forgets, not an outage; it must not run actions
# for ever.
_MAX_EXECUTES = 10
_CANCEL_TIMEOUT_S = 2.0


class Step(Enum):
    """What to do after a stream ended before its operation was done."""

    EXECUTE = auto()
    WAIT = auto()
    FAIL = auto()


def next_step(code: grpc.StatusCode | None, details: str, operation_name: str) -> Step:
    """How to go on after a stream ended with `code` (None: without an error) and the operation not done.

    `operation_name` is empty as long as the server has told none.
    """
    if code is grpc.StatusCode.NOT_FOUND and operation_name:
        return Step.EXECUTE
    # Proxies that end a long stream reset it, which arrives as INTERNAL.
    lost = code in (None, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED) or (
        code is grpc.StatusCode.INTERNAL and "RST_STREAM" in details
    )
    if not lost:
        return Step.FAIL
    return Step.WAIT if operation_name else Step.EXECUTE


@dataclass
class _Progress:
    """Where one execution is."""

    operation_name: str = ""
    executes: int = 0
    stage: ExecutionStage.Value.ValueType = ExecutionStage.UNKNOWN
    # Streams in a row that told nothing, and when the first of them broke.
    silent_streams: int = 0
    silent_since: float = 0.0


class ExecutionClient:
    """Runs actions whose blobs are in the CAS. One client serves any number of concurrent calls.

    `outage_tolerance`: seconds without any word from the server after which a lost stream becomes an error.
    `invocation_id` groups what one run of the client asks for; a new one by default.
    """

    def __init__(
        self,
        channel: grpc.aio.Channel,
        instance_name: str = "",
        *,
        outage_tolerance: float = 300.0,
        tool_name: str = "buildgrid-client",
        tool_version: str | None = None,
        invocation_id: str | None = None,
        correlated_invocations_id: str = "",
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.instance_name = instance_name
        self.invocation_id = invocation_id or str(uuid.uuid4())
        self._execution = ExecutionStub(channel)
        self._operations = OperationsStub(channel)
        self._outage_tolerance = outage_tolerance
        self._request_metadata = RequestMetadata(
            tool_details=ToolDetails(tool_name=tool_name, tool_version=tool_version or _own_version()),
            tool_invocation_id=self.invocation_id,
            correlated_invocations_id=correlated_invocations_id,
        )
        self._clock = clock

    async def execute(
        self,
        action_digest: Digest,
        *,
        skip_cache_lookup: bool = False,
        priority: int = 0,
        mnemonic: str = "",
        target: str = "",
        on_stage: StageCallback | None = None,
        on_outage: OutageCallback | None = None,
    ) -> ExecuteResponse:
        """Run the action and return what came of it; a command that fails by itself is a result like any
        other.

        `priority`: lower is more urgent. `mnemonic` and `target` say what the action is, for people who look
        at the queue. When the caller is cancelled, so is the operation. A stream that is lost is taken up
        again; `on_outage` is for telling people who wait.

        Raises ExecutionFailed when the action could not be run to its end (with the blobs to upload when some
        were missing), and when the server was away for longer than `outage_tolerance`.
        """
        request = ExecuteRequest(
            instance_name=self.instance_name,
            action_digest=action_digest,
            skip_cache_lookup=skip_cache_lookup,
            inline_stdout=True,
            inline_stderr=True,
        )
        request.execution_policy.priority = priority
        metadata = self._metadata(action_digest, mnemonic, target)
        progress = _Progress()
        step = Step.EXECUTE
        stream: AsyncIterable[Operation]
        try:
            while True:
                if step is Step.EXECUTE:
                    progress.executes += 1
                    stream = self._execution.Execute(request, metadata=metadata)
                else:
                    wait = WaitExecutionRequest(name=progress.operation_name)
                    stream = self._execution.WaitExecution(wait, metadata=metadata)
                try:
                    response = await _follow(stream, progress, on_stage, on_outage)
                    if response is not None:
                        return response
                    code, details = None, "the server ended the stream before the operation was done"
                except grpc.aio.AioRpcError as error:
                    code, details = error.code(), error.details() or "no reason was given"
                    if next_step(code, details, progress.operation_name) is Step.FAIL:
                        raise error_of_call(error) from error
                step = next_step(code, details, progress.operation_name)
                if on_outage is not None:
                    on_outage(details)
                await self._pause(progress, step, details)
        except asyncio.CancelledError:
            await self._cancel(progress.operation_name, metadata)
            raise

    async def _pause(self, progress: _Progress, step: Step, details: str) -> None:
        """Wait before the next stream, or give up."""
        now = self._clock()
        progress.silent_streams += 1
        if progress.silent_streams == 1:
            progress.silent_since = now
        what = f"operation {progress.operation_name!r}" if progress.operation_name else "the server"
        if step is Step.EXECUTE and progress.executes >= _MAX_EXECUTES and progress.operation_name:
            raise ExecutionFailed(
                grpc.StatusCode.ABORTED,
                f"{what} vanished after {progress.executes} attempts; do the replicas of this server share "
                f"one database? ({details})",
            )
        if now - progress.silent_since > self._outage_tolerance:
            raise ExecutionFailed(
                grpc.StatusCode.UNAVAILABLE,
                f"no word of {what} for {now - progress.silent_since:.0f} s; last: {details}",
            )
        # A server that moves long connections elsewhere is no outage: the first new stream is opened at once.
        if progress.silent_streams > 1:
            await asyncio.sleep(backoff(progress.silent_streams - 1))

    async def _cancel(self, operation_name: str, metadata: Metadata) -> None:
        """Free the bot. Should this fail: the server itself cancels an operation that nobody watches."""
        if not operation_name:
            return
        with contextlib.suppress(grpc.aio.AioRpcError):
            request = CancelOperationRequest(name=operation_name)
            await self._operations.CancelOperation(request, timeout=_CANCEL_TIMEOUT_S, metadata=metadata)

    def _metadata(self, action_digest: Digest, mnemonic: str, target: str) -> Metadata:
        told = RequestMetadata(action_id=action_digest.hash, action_mnemonic=mnemonic, target_id=target)
        told.MergeFrom(self._request_metadata)
        return ((REQUEST_METADATA_HEADER, told.SerializeToString()),)


async def _follow(
    stream: AsyncIterable[Operation],
    progress: _Progress,
    on_stage: StageCallback | None,
    on_outage: OutageCallback | None,
) -> ExecuteResponse | None:
    """The response; None when the stream ended before the operation was done."""
    async for operation in stream:
        progress.operation_name = operation.name
        if progress.silent_streams and on_outage is not None:
            on_outage(None)
        progress.silent_streams = 0
        told = ExecuteOperationMetadata()
        # Servers repeat themselves to keep the stream alive; only news is passed on.
        if operation.metadata.Unpack(told) and told.stage != progress.stage:
            progress.stage = told.stage
            if on_stage is not None:
                on_stage(told.stage, told)
        if operation.done:
            return _response_of(operation)
    return None


def _response_of(operation: Operation) -> ExecuteResponse:
    if operation.HasField("error"):
        raise error_of_status(operation.error)
    response = ExecuteResponse()
    if not operation.response.Unpack(response):
        raise ExecutionFailed(
            grpc.StatusCode.INTERNAL,
            f"operation {operation.name!r} is done with a {operation.response.type_url or 'nothing'} in it, "
            "not an ExecuteResponse",
        )
    if response.status.code:
        raise error_of_status(response.status, response)
    return response


def _own_version() -> str:
    try:
        return distributions.version("buildgrid-kubernetes")
    except distributions.PackageNotFoundError:
        return "unknown"
