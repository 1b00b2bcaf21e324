"""A server with an Execution service that follows a script, and a CAS in memory: one process, real gRPC."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import grpc
import grpc.aio
from buildgrid_client.digests import digest_key, digest_of
from buildgrid_client.execution import REQUEST_METADATA_HEADER
from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as reapi
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2_grpc import (
    CapabilitiesServicer,
    ContentAddressableStorageServicer,
    ExecutionServicer,
    add_CapabilitiesServicer_to_server,
    add_ContentAddressableStorageServicer_to_server,
    add_ExecutionServicer_to_server,
)
from google.longrunning.operations_pb2_grpc import OperationsServicer, add_OperationsServicer_to_server
from google.longrunning.operations_proto_pb2 import CancelOperationRequest, Operation
from google.protobuf.empty_pb2 import Empty
from google.rpc.error_details_pb2 import PreconditionFailure
from google.rpc.status_pb2 import Status

OPERATION = "main/op-1"


class Abort(Exception):
    """Ends a stream with a status."""

    def __init__(self, code: grpc.StatusCode, details: str = "", status: Status | None = None) -> None:
        super().__init__(details)
        self.code = code
        self.details = details
        self.status = status


# What one stream says, in order: an operation, a failure, or something to wait for.
Line: TypeAlias = Operation | Abort | asyncio.Event


def stage(value: reapi.ExecutionStage.Value.ValueType, name: str = OPERATION) -> Operation:
    """An operation that is not done."""
    operation = Operation(name=name)
    operation.metadata.Pack(reapi.ExecuteOperationMetadata(stage=value))
    return operation


def done(response: reapi.ExecuteResponse | None = None, name: str = OPERATION) -> Operation:
    """A finished operation."""
    operation = stage(reapi.ExecutionStage.COMPLETED, name)
    operation.done = True
    operation.response.Pack(response or reapi.ExecuteResponse())
    return operation


def missing_status(*keys: str) -> Status:
    """FAILED_PRECONDITION that names blobs."""
    status = Status(code=grpc.StatusCode.FAILED_PRECONDITION.value[0], message="inputs are missing")
    failure = PreconditionFailure()
    for key in keys:
        failure.violations.add(type="MISSING", subject=f"blobs/{key}")
    status.details.add().Pack(failure)
    return status


@dataclass
class Call:
    """One call of the Execution service: its method and what came with it."""

    method: str
    request: reapi.ExecuteRequest | reapi.WaitExecutionRequest
    metadata: reapi.RequestMetadata


@dataclass
class FakeFarm:
    """`script` holds a list of lines for each stream in the order they are opened."""

    script: list[list[Line]] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    # Called at each Execute, before anything is said.
    on_execute: Callable[[], None] = lambda: None

    @property
    def methods(self) -> list[str]:
        return [call.method for call in self.calls]

    def store(self, blob: bytes) -> reapi.Digest:
        digest = digest_of(blob)
        self.blobs[digest_key(digest)] = blob
        return digest


# Generic only in the stubs.
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class ScriptedExecution(ExecutionServicer):
    def __init__(self, farm: FakeFarm) -> None:
        self._farm = farm

    async def Execute(  # noqa: N802
        self, request: reapi.ExecuteRequest, context: Context
    ) -> AsyncIterator[Operation]:
        self._farm.on_execute()
        async for operation in self._play("Execute", request, context):
            yield operation

    async def WaitExecution(  # noqa: N802
        self, request: reapi.WaitExecutionRequest, context: Context
    ) -> AsyncIterator[Operation]:
        async for operation in self._play("WaitExecution", request, context):
            yield operation

    async def _play(
        self, method: str, request: reapi.ExecuteRequest | reapi.WaitExecutionRequest, context: Context
    ) -> AsyncIterator[Operation]:
        header = dict(context.invocation_metadata() or ())[REQUEST_METADATA_HEADER]
        assert isinstance(header, bytes)
        self._farm.calls.append(Call(method, request, reapi.RequestMetadata.FromString(header)))
        for line in self._farm.script.pop(0):
            match line:
                case Operation():
                    yield line
                case asyncio.Event():
                    await line.wait()
                case Abort():
                    if line.status is not None:
                        details = line.status.SerializeToString()
                        context.set_trailing_metadata((("grpc-status-details-bin", details),))
                    await context.abort(line.code, line.details)


class RecordingOperations(OperationsServicer):  # type: ignore[misc]  # has no stubs
    def __init__(self, farm: FakeFarm) -> None:
        self._farm = farm

    async def CancelOperation(self, request: CancelOperationRequest, context: Context) -> Empty:  # noqa: N802
        self._farm.cancelled.append(request.name)
        return Empty()


class MemoryStorage(ContentAddressableStorageServicer):
    def __init__(self, farm: FakeFarm) -> None:
        self._farm = farm

    async def FindMissingBlobs(  # noqa: N802
        self, request: reapi.FindMissingBlobsRequest, context: Context
    ) -> reapi.FindMissingBlobsResponse:
        missing = [digest for digest in request.blob_digests if digest_key(digest) not in self._farm.blobs]
        return reapi.FindMissingBlobsResponse(missing_blob_digests=missing)

    async def BatchUpdateBlobs(  # noqa: N802
        self, request: reapi.BatchUpdateBlobsRequest, context: Context
    ) -> reapi.BatchUpdateBlobsResponse:
        response = reapi.BatchUpdateBlobsResponse()
        for blob in request.requests:
            assert self._farm.store(blob.data) == blob.digest
            response.responses.add(digest=blob.digest)
        return response

    async def BatchReadBlobs(  # noqa: N802
        self, request: reapi.BatchReadBlobsRequest, context: Context
    ) -> reapi.BatchReadBlobsResponse:
        response = reapi.BatchReadBlobsResponse()
        for digest in request.digests:
            blob = self._farm.blobs.get(digest_key(digest))
            answer = response.responses.add(digest=digest, data=blob or b"")
            if blob is None:
                answer.status.code = grpc.StatusCode.NOT_FOUND.value[0]
        return response


class FixedCapabilities(CapabilitiesServicer):
    async def GetCapabilities(  # noqa: N802
        self, request: reapi.GetCapabilitiesRequest, context: Context
    ) -> reapi.ServerCapabilities:
        if request.instance_name == "storage":
            return reapi.ServerCapabilities()
        if request.instance_name == "unknown":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such instance")
        if request.instance_name == "anonymous":
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "the call has no identity")
        if request.instance_name == "denied":
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "jo: the right 'execute' is missing")
        if request.instance_name == "alien":
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
        return reapi.ServerCapabilities(execution_capabilities=reapi.ExecutionCapabilities(exec_enabled=True))


async def serve(farm: FakeFarm, port: int = 0, *, stores: bool = True) -> tuple[grpc.aio.Server, int]:
    """A started server on this port, or a free one, of the loopback interface. `stores`: it has a CAS."""
    server = grpc.aio.server()
    add_ExecutionServicer_to_server(ScriptedExecution(farm), server)
    add_OperationsServicer_to_server(RecordingOperations(farm), server)
    if stores:
        storage = MemoryStorage(farm)  # type: ignore[abstract]  # splitting and trees are not asked for
        add_ContentAddressableStorageServicer_to_server(storage, server)
    add_CapabilitiesServicer_to_server(FixedCapabilities(), server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    return server, port
