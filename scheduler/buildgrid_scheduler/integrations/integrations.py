"""The services around a scheduler, each optional, as one thing to start, to stop and to tell."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    ExecutedActionMetadata,
    ExecuteResponse,
)

from buildgrid_scheduler.assets.retention import Retention
from buildgrid_scheduler.core.completed_job import CompletedJob
from buildgrid_scheduler.core.metering import IdentityKey
from buildgrid_scheduler.logstreams.lease_streams import LeaseStreams
from buildgrid_scheduler.outgoing.outbox import DRAIN_SECONDS, Outbox
from buildgrid_scheduler.stats.histograms import ExecutionHistograms

if TYPE_CHECKING:  # needs a package that is optional
    from buildgrid_scheduler.metering.metering import Metering


class Integrations:
    """What is told here is never waited for, but for `checked_priority`; see the parts."""

    def __init__(
        self,
        histograms: ExecutionHistograms | None = None,
        *,
        retention: Retention | None = None,
        metering: "Metering | None" = None,
        lease_streams: LeaseStreams | None = None,
    ) -> None:
        self.histograms = histograms or ExecutionHistograms()
        self.lease_streams = lease_streams
        self._retention = retention
        self._metering = metering
        self._completions: Outbox[CompletedJob] = Outbox("completions", self._completed)

    @property
    def outboxes(self) -> list[Outbox[Any]]:
        """For metrics."""
        found: list[Outbox[Any]] = [self._completions]
        if self._retention is not None:
            found.append(self._retention.outbox)
        if self._metering is not None:
            found += self._metering.outboxes
        if self.lease_streams is not None:
            found.append(self.lease_streams.outbox)
        return found

    def start(self) -> None:
        """Start clients and threads."""
        for part in (self._retention, self._metering, self.lease_streams):
            if part is not None:
                part.start()
        self._completions.start()

    def stop(self, drain: float = DRAIN_SECONDS) -> None:
        """Send what waits, for at most `drain` seconds in all; storage and database must still be there."""
        deadline = time.monotonic() + drain
        self._completions.stop(drain)
        for part in (self._retention, self._metering):
            if part is not None:
                part.stop(max(0.0, deadline - time.monotonic()))
        if self.lease_streams is not None:
            self.lease_streams.stop()

    def checked_priority(self, identity: IdentityKey | None, priority: int) -> int:
        """The priority that a client's action gets, for threads. Raises ResourceExhausted when refused."""
        return priority if self._metering is None else self._metering.checked_priority(identity, priority)

    async def checked_priority_async(self, identity: IdentityKey | None, priority: int) -> int:
        """As `checked_priority`, for coroutines."""
        if self._metering is None:
            return priority
        return await self._metering.checked_priority_async(identity, priority)

    def operation_made(self, identity: IdentityKey | None, operation: str) -> None:
        """A client has got an operation, on a new job or on a shared one."""
        if self._metering is not None:
            self._metering.operation_made(identity, operation)

    def job_queued(self, instance: str, action_digest: str, action: bytes) -> None:
        """A new job waits. `action` is serialized."""
        if self._retention is not None:
            self._retention.action_queued(instance, action_digest, action)

    def jobs_completed(self, jobs: Sequence[CompletedJob]) -> None:
        """These jobs came to their ends; may be called while others wait.

        All but those that nobody wants any more are kept by the asset service, so that whoever asked can look
        into them. What was executed to its end is measured and metered, as only its result says what it took.
        Log streams are ended by those who write them.
        """
        for job in jobs:
            self._completions.put(job)

    def publish(self, job: str, metadata: ExecutedActionMetadata, property_label: str) -> None:
        """Observe the durations of an execution, and meter what it used."""
        self.histograms.observe(metadata, property_label)
        if self._metering is not None:
            self._metering.job_completed(job, metadata)

    def _completed(self, job: CompletedJob) -> None:
        response = ExecuteResponse.FromString(job.response)
        result = response.result if response.HasField("result") else None
        if result is not None:
            self.publish(job.name, result.execution_metadata, job.property_label)
        if self._retention is not None and not job.cancelled:
            self._retention.job_completed(job.instance, job.action_digest, result)
