"""A small REAPI client: uploads actions, follows operations, and comes back after failures."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
from buildgrid_client.digests import digest_of
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    Action,
    ActionResult,
    BatchUpdateBlobsRequest,
    Command,
    Digest,
    ExecuteOperationMetadata,
    ExecuteRequest,
    ExecuteResponse,
    ExecutionPolicy,
    ExecutionStage,
    GetActionResultRequest,
    Platform,
    UpdateActionResultRequest,
    WaitExecutionRequest,
)
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2_grpc import (
    ActionCacheStub,
    ContentAddressableStorageStub,
    ExecutionStub,
)
from google.longrunning import operations_pb2_grpc
from google.longrunning.operations_proto_pb2 import (
    CancelOperationRequest,
    DeleteOperationRequest,
    GetOperationRequest,
    ListOperationsRequest,
    Operation,
)
from google.protobuf.duration_pb2 import Duration

if TYPE_CHECKING:
    from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2_grpc import (
        ActionCacheAsyncStub,
        ContentAddressableStorageAsyncStub,
        ExecutionAsyncStub,
    )

WITHIN = 20.0
"""Seconds for whatever should happen at once."""
LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
"""The server is gone, or going: it is not known whether it did what was asked. CANCELLED is what gRPC's core
answers to calls that have arrived but have no handler yet when a server is stopped; Bazel retries it, too.
"""
QUEUED, EXECUTING, COMPLETED = ExecutionStage.QUEUED, ExecutionStage.EXECUTING, ExecutionStage.COMPLETED


def metadata_of(operation: Operation) -> ExecuteOperationMetadata:
    """The metadata that an operation carries."""
    metadata = ExecuteOperationMetadata()
    assert operation.metadata.Unpack(metadata)
    return metadata


def stage_of(operation: Operation) -> int:
    """The stage that an operation tells."""
    return metadata_of(operation).stage


def response_of(operation: Operation) -> ExecuteResponse:
    """The response of a done operation."""
    assert operation.done and not operation.HasField("error"), operation
    response = ExecuteResponse()
    assert operation.response.Unpack(response)
    return response


class Execution:
    """What the stream of an Execute or WaitExecution tells."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self.told: list[Operation] = []

    @property
    def name(self) -> str:
        """The operation's name, once it was told."""
        name: str = self.told[0].name
        return name

    async def next(self, within: float = WITHIN) -> Operation:
        """The next message. EOFError at the end of the stream."""
        async with asyncio.timeout(within):
            operation = await self._call.read()
        if operation is grpc.aio.EOF:
            raise EOFError(f"the stream ended after {len(self.told)} messages")
        self.told.append(operation)
        return operation

    async def until(self, stage: int, within: float = WITHIN) -> Operation:
        """The first message from now on with this stage."""
        async with asyncio.timeout(within):
            while stage_of(operation := await self.next(within)) != stage:
                pass
        return operation

    async def response(self, within: float = WITHIN) -> ExecuteResponse:
        """The response; the stream must end with it."""
        async with asyncio.timeout(within):
            while not (operation := await self.next(within)).done:
                pass
            assert await self._call.read() is grpc.aio.EOF
        return response_of(operation)

    @property
    def stages(self) -> list[int]:
        """The stages told so far, without repetitions."""
        stages = [stage_of(operation) for operation in self.told]
        return [s for i, s in enumerate(stages) if i == 0 or stages[i - 1] != s]

    def hang_up(self) -> None:
        """Stop following."""
        self._call.cancel()


class Client:
    """Talks to one replica, for one instance."""

    def __init__(self, channel: grpc.aio.Channel, instance: str = "") -> None:
        self.instance = instance
        self.execution: ExecutionAsyncStub = ExecutionStub(channel)
        self.cas: ContentAddressableStorageAsyncStub = ContentAddressableStorageStub(channel)
        self.action_cache: ActionCacheAsyncStub = ActionCacheStub(channel)
        self.operations = operations_pb2_grpc.OperationsStub(channel)

    async def upload(self, *blobs: bytes) -> list[Digest]:
        """Put blobs into the CAS."""
        request = BatchUpdateBlobsRequest(instance_name=self.instance)
        for blob in blobs:
            request.requests.add(digest=digest_of(blob), data=blob)
        answer = await self.cas.BatchUpdateBlobs(request, timeout=WITHIN, wait_for_ready=True)
        assert all(response.status.code == 0 for response in answer.responses), answer
        return [digest_of(blob) for blob in blobs]

    async def add_action(self, name: str, **options: Any) -> Digest:
        """Upload an action and its command; see `action_blobs`."""
        return (await self.upload(*action_blobs(name, **options)))[0]

    async def add_actions(self, prefix: str, count: int) -> list[Digest]:
        """Upload many actions that differ in nothing but their number."""
        blobs = [action_blobs(f"{prefix}-{number}") for number in range(count)]
        await self.upload(blobs[0][1], b"", *(action for action, _, _ in blobs))
        return [digest_of(action) for action, _, _ in blobs]

    def execute(
        self, digest: Digest, *, priority: int = 0, skip_cache_lookup: bool = False, **options: Any
    ) -> Execution:
        """Ask for an action."""
        request = ExecuteRequest(
            instance_name=self.instance,
            action_digest=digest,
            skip_cache_lookup=skip_cache_lookup,
            execution_policy=ExecutionPolicy(priority=priority),
        )
        return Execution(self.execution.Execute(request, **options))

    async def queue(self, digest: Digest, **options: Any) -> Execution:
        """Ask for an action; returns when its operation exists."""
        execution = self.execute(digest, **options)
        await execution.next()
        return execution

    def wait(self, name: str) -> Execution:
        """Follow an operation again."""
        return Execution(self.execution.WaitExecution(WaitExecutionRequest(name=name)))

    async def get(self, name: str) -> Operation:
        """The operation as it is now."""
        return await self.operations.GetOperation(GetOperationRequest(name=name), timeout=WITHIN)

    async def unfinished(self) -> list[Operation]:
        """All unfinished operations of the instance."""
        request = ListOperationsRequest(name=self.instance)
        return list((await self.operations.ListOperations(request, timeout=WITHIN)).operations)

    async def cancel(self, name: str) -> None:
        """Cancel an operation."""
        await self.operations.CancelOperation(CancelOperationRequest(name=name), timeout=WITHIN)

    async def delete(self, name: str) -> None:
        """Forget an operation."""
        await self.operations.DeleteOperation(DeleteOperationRequest(name=name), timeout=WITHIN)

    async def cached(self, digest: Digest) -> ActionResult | None:
        """What the action cache has."""
        request = GetActionResultRequest(instance_name=self.instance, action_digest=digest)
        try:
            return await self.action_cache.GetActionResult(request, timeout=WITHIN)
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.NOT_FOUND
            return None

    async def store(self, digest: Digest, result: ActionResult) -> None:
        """Put a result into the action cache."""
        request = UpdateActionResultRequest(
            instance_name=self.instance, action_digest=digest, action_result=result
        )
        await self.action_cache.UpdateActionResult(request, timeout=WITHIN)


class StubbornClient:
    """Wants one action done: follows its operation over lost streams, from replica to replica."""

    def __init__(self, *clients: Client) -> None:
        self._clients = clients
        self._turn = 0
        self.operation: str | None = None
        self.first_told = asyncio.Event()
        self.responses: list[ExecuteResponse] = []
        self.interruptions = 0

    async def run(self, digest: Digest) -> ExecuteResponse:
        """The response; other failures than UNAVAILABLE are raised."""
        while not self.responses:
            client = self._clients[self._turn % len(self._clients)]
            execution = client.wait(self.operation) if self.operation else client.execute(digest)
            try:
                await self._follow(execution)
            except grpc.aio.AioRpcError as error:
                if error.code() not in LOST:
                    raise
                self.interruptions += 1
                self._turn += 1
                await asyncio.sleep(0.05)
        return self.responses[0]

    async def _follow(self, execution: Execution) -> None:
        while True:
            try:
                operation = await execution.next(within=60)
            except EOFError:
                assert self.responses, "a stream ended without a result"
                return
            self.operation = operation.name
            self.first_told.set()
            if operation.done:
                self.responses.append(response_of(operation))


def action_blobs(
    name: str,
    *,
    do_not_cache: bool = False,
    platform: Mapping[str, str] | None = None,
    timeout: timedelta | None = None,
    arguments: tuple[str, ...] = ("true",),
) -> tuple[bytes, bytes, bytes]:
    """An Action of its own, its Command and its input root, serialized."""
    command = Command(arguments=arguments).SerializeToString()
    action = Action(
        command_digest=digest_of(command),
        input_root_digest=digest_of(b""),
        do_not_cache=do_not_cache,
        salt=name.encode(),
    )
    if platform is not None:
        properties = [Platform.Property(name=k, value=v) for k, v in sorted(platform.items())]
        action.platform.CopyFrom(Platform(properties=properties))
    if timeout is not None:
        action.timeout.CopyFrom(Duration(seconds=int(timeout.total_seconds())))
    return action.SerializeToString(), command, b""
