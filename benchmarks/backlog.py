"""Jobs that wait already when the bots come: how a server does with a deep queue."""

import asyncio
from typing import TYPE_CHECKING

from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    ExecuteRequest,
    ExecutionPolicy,
)

from benchmarks.actions import ActionPool
from benchmarks.options import LoadOptions

if TYPE_CHECKING:
    from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2_grpc import ExecutionAsyncStub

_AT_ONCE = 32
_LESS_URGENT = ExecutionPolicy(priority=1)
"""Below the measured jobs, which then pass the backlog by."""


async def queue_backlog(stubs: "list[ExecutionAsyncStub]", pool: ActionPool, options: LoadOptions) -> None:
    """Asks for `options.backlog` actions, and does not wait for their results."""
    remaining = iter(range(options.backlog))

    async def ask(stub: "ExecutionAsyncStub") -> None:
        for _ in remaining:
            request = ExecuteRequest(
                instance_name=options.instance,
                action_digest=await pool.take(),
                execution_policy=_LESS_URGENT,
            )
            call = stub.Execute(request)
            async for _operation in call:
                break
            call.cancel()

    await asyncio.gather(*(ask(stubs[number % len(stubs)]) for number in range(_AT_ONCE)))
