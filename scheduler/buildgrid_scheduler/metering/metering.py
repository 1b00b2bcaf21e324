"""Metering: who is throttled, and what clients used."""

import time
from dataclasses import dataclass

from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import ExecutedActionMetadata
from sqlalchemy import select
from sqlalchemy.orm import Session

from buildgrid_scheduler.core.metering import (
    IdentityKey,
    MeteringThrottleAction,
    needs_question,
    throttled_priority,
)
from buildgrid_scheduler.metering.package import SyncMeteringServiceClient, Usage
from buildgrid_scheduler.metering.throttling import Throttling
from buildgrid_scheduler.metering.usage import identity_of, one_execution, usage_of
from buildgrid_scheduler.outgoing.outbox import DRAIN_SECONDS, Outbox
from buildgrid_scheduler.stats.execution_stats import read_statistics, statistics_digests
from buildgrid_scheduler.storage.abc import StorageABC
from buildgrid_scheduler.store.provider import SqlProvider
from buildgrid_scheduler.store.schema import ClientIdentityEntry, OperationEntry


@dataclass(frozen=True, slots=True)
class OperationUsage:
    """What is put for one operation."""

    operation: str
    identity: IdentityKey
    usage: Usage


class Metering:
    """Usage is put in the background; what fails is logged and counted (`outboxes`), and not tried again."""

    def __init__(
        self,
        client: SyncMeteringServiceClient,
        storage: StorageABC,
        provider: SqlProvider,
        *,
        action: MeteringThrottleAction | None = None,
        fresh_for: float = 5.0,
        bound: float = 1.0,
        capacity: int = 10_000,
        threads: int = 4,
    ) -> None:
        """`action` None: DEPRIORITIZE. `fresh_for`, `bound`: seconds, see Throttling.

        At most `capacity` usages wait for one of `threads` threads. `provider`: where the identities of
        operations are read.
        """
        self._client = client
        self._storage = storage
        self._provider = provider
        self._action = action or MeteringThrottleAction.DEPRIORITIZE
        self._throttling = Throttling(self._ask, fresh_for=fresh_for, bound=bound)
        self._jobs: Outbox[tuple[str, ExecutedActionMetadata]] = Outbox(
            "metering-jobs", self._meter, capacity=capacity
        )
        self._usages: Outbox[OperationUsage] = Outbox(
            "metering", self._put, capacity=capacity, threads=threads
        )
        self.outboxes = (self._throttling.outbox, self._jobs, self._usages)

    def start(self) -> None:
        """Start the threads."""
        self._throttling.start()
        self._jobs.start()
        self._usages.start()

    def stop(self, drain: float = DRAIN_SECONDS) -> None:
        """Put what waits, for at most `drain` seconds."""
        deadline = time.monotonic() + drain
        self._throttling.stop()
        self._jobs.stop(drain)
        self._usages.stop(max(0.0, deadline - time.monotonic()))

    def checked_priority(self, identity: IdentityKey | None, priority: int) -> int:
        """The priority that an action of this client gets; for threads.

        Raises ResourceExhausted for a throttled client, where those are refused. None: nobody is known.
        """
        if identity is None or not needs_question(self._action, priority):
            return priority
        throttled = self._throttling.is_throttled(identity)
        return throttled_priority(self._action, priority, identity) if throttled else priority

    async def checked_priority_async(self, identity: IdentityKey | None, priority: int) -> int:
        """As `checked_priority`, for coroutines."""
        if identity is None or not needs_question(self._action, priority):
            return priority
        throttled = await self._throttling.is_throttled_async(identity)
        return throttled_priority(self._action, priority, identity) if throttled else priority

    def operation_made(self, identity: IdentityKey | None, operation: str) -> None:
        """A client has asked for an execution, whether or not a job is shared."""
        if identity is not None:
            self._usages.put(OperationUsage(operation, identity, one_execution()))

    def job_completed(self, job: str, metadata: ExecutedActionMetadata) -> None:
        """A job came to its end: each of its operations that somebody is known to have made is metered."""
        if statistics_digests(metadata):
            self._jobs.put((job, metadata))

    def _ask(self, identity: IdentityKey) -> bool:
        return self._client.get_throttling(identity_of(identity)).throttled

    def _meter(self, item: tuple[str, ExecutedActionMetadata]) -> None:
        job, metadata = item
        with self._provider.session() as session:
            operations = identified_operations(session, job)
        if not operations:
            return
        statistics = read_statistics(self._storage, metadata)
        if statistics is None:
            return
        usage = usage_of(statistics)
        for operation, identity in operations:
            self._usages.put(OperationUsage(operation, identity, usage))

    def _put(self, item: OperationUsage) -> None:
        self._client.put_usage(identity_of(item.identity), item.operation, item.usage)


def identified_operations(session: Session, job: str) -> list[tuple[str, IdentityKey]]:
    """The operations of a job whose clients are known."""
    identity = ClientIdentityEntry
    query = (
        select(OperationEntry.name, identity.instance, identity.workflow, identity.actor, identity.subject)
        .join(identity, identity.id == OperationEntry.client_identity_id)
        .where(OperationEntry.job_name == job)
        .order_by(OperationEntry.name)
    )
    return [(name, (i, w, a, s)) for name, i, w, a, s in session.execute(query)]
