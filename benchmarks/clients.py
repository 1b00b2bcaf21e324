"""The process with all clients: each asks for one action after another and waits for its result."""

import asyncio
import time
from collections.abc import AsyncIterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import grpc.aio
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    Digest,
    ExecuteRequest,
    ExecuteResponse,
    WaitExecutionRequest,
)
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2_grpc import (
    ContentAddressableStorageStub,
    ExecutionStub,
)
from google.longrunning.operations_proto_pb2 import Operation

from benchmarks.actions import ActionPool
from benchmarks.backlog import queue_backlog
from benchmarks.channels import RETRY_PAUSE, describe, is_retryable, open_channels
from benchmarks.options import LoadOptions, Window
from benchmarks.tallies import ClientTally

if TYPE_CHECKING:
    from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2_grpc import ExecutionAsyncStub

_CONNECT_WITHIN = 10
_AFTER_WINDOW = 10
"""Seconds for jobs in flight to end when the window is over."""


@dataclass
class _Job:
    """One action that a client waits for; moments of the monotonic clock."""

    digest: Digest
    asked_at: float
    operation: str = ""
    first_update_at: float | None = None
    retried: bool = False


class Clients:
    """All clients of a run, on shared connections."""

    def __init__(self, options: LoadOptions) -> None:
        self._options = options
        self._channels = open_channels(options.endpoint, options.channels)
        self._pool = ActionPool(ContentAddressableStorageStub(self._channels[0]), options)
        self._stubs = [ExecutionStub(channel) for channel in self._channels]
        self._tally = ClientTally()

    async def prepare(self) -> None:
        """Connects, uploads the actions and queues the backlog."""
        try:
            async with asyncio.timeout(_CONNECT_WITHIN):
                await asyncio.gather(*(channel.channel_ready() for channel in self._channels))
        except TimeoutError:
            raise RuntimeError(f"no answer from {self._options.endpoint}") from None
        await self._pool.fill()
        await queue_backlog(self._stubs, self._pool, self._options)

    async def run(self, window: Window) -> ClientTally:
        """Starts at once, and returns when the window is over and the jobs in flight are done."""
        tasks = [
            asyncio.create_task(self._client(self._stubs[number % len(self._stubs)], window))
            for number in range(self._options.clients)
        ]
        done, running = await asyncio.wait(tasks, timeout=window.end + _AFTER_WINDOW - time.monotonic())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for task in done:
            task.result()
        self._tally.unfinished = len(running)
        self._tally.late_uploads = self._pool.late_uploads
        for channel in self._channels:
            await channel.close()
        return self._tally

    async def _client(self, stub: "ExecutionAsyncStub", window: Window) -> None:
        while time.monotonic() < window.end:
            digest = await self._pool.take()
            job = _Job(digest, time.monotonic())
            problem = await self._execute(stub, job)
            finished_at = time.monotonic()
            if problem:
                self._tally.errors[problem] += 1
                await asyncio.sleep(RETRY_PAUSE)
            elif window.holds(finished_at):
                assert job.first_update_at is not None
                self._tally.done_ms.append(1000 * (finished_at - job.asked_at))
                self._tally.first_update_ms.append(1000 * (job.first_update_at - job.asked_at))

    async def _execute(self, stub: "ExecutionAsyncStub", job: _Job) -> str | None:
        """Waits for the job's end, over lost streams; what was wrong, None when all was well."""
        while True:
            try:
                operation = await self._follow(self._ask(stub, job), job)
            except grpc.aio.AioRpcError as error:
                lost_operation = job.operation and error.code() is grpc.StatusCode.NOT_FOUND
                if not is_retryable(error) and not lost_operation:
                    return describe(error)
                if lost_operation:
                    job.operation = ""
            else:
                if operation is not None:
                    return _problem(operation, job)
            self._tally.retries += 1
            job.retried = True
            await asyncio.sleep(RETRY_PAUSE)

    def _ask(self, stub: "ExecutionAsyncStub", job: _Job) -> AsyncIterable[Operation]:
        if job.operation:
            return stub.WaitExecution(WaitExecutionRequest(name=job.operation))
        return stub.Execute(ExecuteRequest(instance_name=self._options.instance, action_digest=job.digest))

    async def _follow(self, stream: AsyncIterable[Operation], job: _Job) -> Operation | None:
        """The done operation; None when the stream ended without."""
        async for operation in stream:
            job.operation = operation.name
            if job.first_update_at is None:
                job.first_update_at = time.monotonic()
            if operation.done:
                return operation
        return None


def _problem(operation: Operation, job: _Job) -> str | None:
    response = ExecuteResponse()
    if not operation.response.Unpack(response):
        return "the operation is done without an ExecuteResponse"
    if response.status.code:
        return f"ExecuteResponse with status {response.status.code}: {response.status.message[:160]}"
    if response.cached_result and not job.retried:
        return "a cached result for an action that is new"
    if response.result.exit_code or response.result.stdout_raw != job.digest.hash.encode():
        return "the result is not the one that the bot gave"
    return None
