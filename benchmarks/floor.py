"""The floor, what gRPC alone costs: no database, no checks, no logic.

`python -m benchmarks.floor --port N`
"""

import argparse
import asyncio
import signal
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import grpc
import grpc.aio
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    ActionResult,
    BatchUpdateBlobsRequest,
    BatchUpdateBlobsResponse,
    CacheCapabilities,
    DigestFunction,
    ExecuteOperationMetadata,
    ExecuteRequest,
    ExecuteResponse,
    ExecutionCapabilities,
    ExecutionStage,
    FindMissingBlobsRequest,
    FindMissingBlobsResponse,
    GetCapabilitiesRequest,
    ServerCapabilities,
    WaitExecutionRequest,
)
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2_grpc import (
    CapabilitiesServicer,
    ExecutionServicer,
    add_CapabilitiesServicer_to_server,
    add_ExecutionServicer_to_server,
)
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2 import (
    ACTIVE,
    COMPLETED,
    PENDING,
    BotSession,
    CreateBotSessionRequest,
    Lease,
    PostBotEventTempRequest,
    UpdateBotSessionRequest,
)
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2_grpc import (
    BotsServicer,
    add_BotsServicer_to_server,
)
from google.longrunning.operations_proto_pb2 import Operation
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty

from benchmarks.floor_queue import FloorJob, FloorQueue

Context = grpc.aio.ServicerContext[Any, Any]

_ACTION_URL = "type.googleapis.com/build.bazel.remote.execution.v2.Action"


class FloorExecution(ExecutionServicer):
    def __init__(self, queue: FloorQueue, blobs: dict[str, bytes]) -> None:
        self._queue = queue
        self._blobs = blobs

    async def Execute(self, request: ExecuteRequest, context: Context) -> AsyncIterator[Operation]:
        payload = AnyMessage(type_url=_ACTION_URL, value=self._blobs.pop(request.action_digest.hash, b""))
        job = FloorJob(uuid4().hex, request.action_digest, payload)
        self._queue.put(job)
        async for operation in self._watch(job):
            yield operation

    async def WaitExecution(
        self, request: WaitExecutionRequest, context: Context
    ) -> AsyncIterator[Operation]:
        job = self._queue.get(request.name)
        if job is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, request.name)
        async for operation in self._watch(job):
            yield operation

    async def _watch(self, job: FloorJob) -> AsyncIterator[Operation]:
        async for stage in job.stages():
            operation = Operation(name=job.name, done=stage == ExecutionStage.COMPLETED)
            operation.metadata.Pack(ExecuteOperationMetadata(stage=stage, action_digest=job.action_digest))
            if operation.done:
                result = ActionResult.FromString(job.result.value)
                operation.response.Pack(ExecuteResponse(result=result))
            yield operation
        self._queue.forget(job.name)


class FloorBots(BotsServicer):
    def __init__(self, queue: FloorQueue) -> None:
        self._queue = queue

    async def CreateBotSession(self, request: CreateBotSessionRequest, context: Context) -> BotSession:
        session = request.bot_session
        session.name = f"{request.parent}/{uuid4()}"
        return session

    async def UpdateBotSession(self, request: UpdateBotSessionRequest, context: Context) -> BotSession:
        session = request.bot_session
        active = [lease for lease in session.leases if self._report(lease) == ACTIVE]
        del session.leases[:]
        session.leases.extend(active)
        if not active and (job := await self._next(context)):
            session.leases.append(Lease(id=job.name, payload=job.payload, state=PENDING))
        return session

    async def PostBotEventTemp(self, request: PostBotEventTempRequest, context: Context) -> Empty:
        return Empty()

    def _report(self, lease: Lease) -> int:
        if job := self._queue.get(lease.id):
            if lease.state == COMPLETED:
                job.result = lease.result
                job.move(ExecutionStage.COMPLETED)
            else:
                job.move(ExecutionStage.EXECUTING)
        return lease.state

    async def _next(self, context: Context) -> FloorJob | None:
        return self._queue.next_now() or await self._queue.next_within(
            0.8 * (context.time_remaining() or 300)
        )


class FloorCapabilities(CapabilitiesServicer):
    async def GetCapabilities(self, request: GetCapabilitiesRequest, context: Context) -> ServerCapabilities:
        return ServerCapabilities(
            cache_capabilities=CacheCapabilities(digest_functions=[DigestFunction.SHA256]),
            execution_capabilities=ExecutionCapabilities(
                digest_function=DigestFunction.SHA256, exec_enabled=True
            ),
        )


def _storage_handler(blobs: dict[str, bytes]) -> grpc.GenericRpcHandler:
    """The two methods of the CAS that a client needs here."""

    async def update(request: BatchUpdateBlobsRequest, context: Context) -> BatchUpdateBlobsResponse:
        answer = BatchUpdateBlobsResponse()
        for blob in request.requests:
            blobs[blob.digest.hash] = blob.data
            answer.responses.add(digest=blob.digest)
        return answer

    async def find(request: FindMissingBlobsRequest, context: Context) -> FindMissingBlobsResponse:
        return FindMissingBlobsResponse()

    return grpc.method_handlers_generic_handler(
        "build.bazel.remote.execution.v2.ContentAddressableStorage",
        {
            "BatchUpdateBlobs": grpc.unary_unary_rpc_method_handler(
                update,
                request_deserializer=BatchUpdateBlobsRequest.FromString,
                response_serializer=BatchUpdateBlobsResponse.SerializeToString,
            ),
            "FindMissingBlobs": grpc.unary_unary_rpc_method_handler(
                find,
                request_deserializer=FindMissingBlobsRequest.FromString,
                response_serializer=FindMissingBlobsResponse.SerializeToString,
            ),
        },
    )


async def serve(address: str) -> None:
    """Until SIGINT or SIGTERM."""
    queue = FloorQueue()
    blobs: dict[str, bytes] = {}
    server = grpc.aio.server()
    add_ExecutionServicer_to_server(FloorExecution(queue, blobs), server)
    add_BotsServicer_to_server(FloorBots(queue), server)
    add_CapabilitiesServicer_to_server(FloorCapabilities(), server)
    server.add_generic_rpc_handlers((_storage_handler(blobs),))
    server.add_insecure_port(address)
    await server.start()
    stopping = asyncio.Event()
    for signal_ in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signal_, stopping.set)
    await stopping.wait()
    await server.stop(grace=0)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.floor", description=__doc__)
    parser.add_argument("--port", type=int, default=50061)
    asyncio.run(serve(f"127.0.0.1:{parser.parse_args().port}"))


if __name__ == "__main__":
    main()
