"""The state of the floor server: a queue in memory, without rules."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Digest, ExecutionStage
from google.protobuf.any_pb2 import Any


@dataclass
class FloorJob:
    """One execution, watched by one client."""

    name: str
    action_digest: Digest
    payload: Any
    stage: ExecutionStage.Value.ValueType = ExecutionStage.QUEUED
    result: Any = field(default_factory=Any)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def move(self, stage: ExecutionStage.Value.ValueType) -> None:
        self.stage = stage
        self.changed.set()

    async def stages(self) -> AsyncIterator[ExecutionStage.Value.ValueType]:
        """The stage now and at each change, until it is COMPLETED."""
        while True:
            self.changed.clear()
            stage = self.stage
            yield stage
            if stage == ExecutionStage.COMPLETED:
                return
            await self.changed.wait()


class FloorQueue:
    """First come, first served."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[FloorJob] = asyncio.Queue()
        self._jobs: dict[str, FloorJob] = {}

    def put(self, job: FloorJob) -> None:
        self._jobs[job.name] = job
        self._waiting.put_nowait(job)

    def get(self, name: str) -> FloorJob | None:
        return self._jobs.get(name)

    def forget(self, name: str) -> None:
        self._jobs.pop(name, None)

    def next_now(self) -> FloorJob | None:
        return None if self._waiting.empty() else self._waiting.get_nowait()

    async def next_within(self, seconds: float) -> FloorJob | None:
        try:
            async with asyncio.timeout(seconds):
                return await self._waiting.get()
        except TimeoutError:
            return None
