"""buildgrid.fleet.v1.Fleet: for whoever looks after the farm."""

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, cast

from buildgrid_protos.buildgrid.fleet.v1 import fleet_pb2
from buildgrid_protos.buildgrid.fleet.v1.fleet_pb2_grpc import FleetServicer
from psycopg.errors import QueryCanceled
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from buildgrid_scheduler.auth.policy import Right
from buildgrid_scheduler.core.clock import to_timestamp
from buildgrid_scheduler.core.errors import DeadlineExceeded, Unavailable
from buildgrid_scheduler.fleet.bots import BotCount, count_bots
from buildgrid_scheduler.fleet.replicas import ReplicaRecord, live_replicas
from buildgrid_scheduler.fleet.requirements import STATEMENT_TIMEOUT, RequirementCount, count_requirements
from buildgrid_scheduler.services.blocking import Blocking
from buildgrid_scheduler.services.errors import Context, rpc
from buildgrid_scheduler.services.instances import Instances
from buildgrid_scheduler.store.provider import SqlProvider

if TYPE_CHECKING:
    from buildgrid_protos.google.devtools.remoteworkers.v1test2 import bots_pb2


@dataclass(frozen=True, slots=True)
class _Found:
    """What the database tells, at one moment."""

    now: datetime
    replicas: Sequence[ReplicaRecord]
    requirements: Sequence[RequirementCount]
    bots: Sequence[BotCount]


class FleetService(FleetServicer):
    """Answers from the database: every replica tells of all."""

    def __init__(self, provider: SqlProvider, instances: Instances, executor: Executor) -> None:
        self._provider = provider
        self._instances = instances
        self._blocking = Blocking(executor)

    @rpc
    async def GetState(self, request: fleet_pb2.GetStateRequest, context: Context) -> fleet_pb2.FleetState:
        """Live replicas, unfinished jobs by requirement, and bots by status. See fleet.proto."""
        asked = request.instance_names or sorted(self._instances.names)
        instances = [self._instances.check(name, Right.ADMINISTER) for name in asked]
        found = await self._blocking(self._read, instances)
        return fleet_pb2.FleetState(
            time=to_timestamp(found.now),
            replicas=[_replica(record) for record in found.replicas],
            requirements=[_requirement(count) for count in found.requirements],
            bots=[_bots(count) for count in found.bots],
        )

    def _read(self, instances: Sequence[str]) -> _Found:
        try:
            with self._provider.session() as session:
                now: datetime = session.execute(text("SELECT now()")).scalar_one()
                return _Found(
                    now,
                    live_replicas(session),
                    count_requirements(session, instances),
                    count_bots(session, instances),
                )
        except DBAPIError as error:
            if isinstance(error.orig, QueryCanceled):
                raise DeadlineExceeded(
                    f"counting jobs and bots takes longer than {STATEMENT_TIMEOUT}"
                ) from error
            raise Unavailable("the database cannot be reached; try again") from error


def _replica(record: ReplicaRecord) -> fleet_pb2.Replica:
    return fleet_pb2.Replica(
        id=record.id,
        host=record.host,
        version=record.version,
        start_time=to_timestamp(record.started_at),
        config_hash=record.config_hash,
        refused_config_hash=record.refused_hash,
        refused_config_error=record.refused_error,
        config_fields_at_restart=record.fields_at_restart,
    )


def _requirement(count: RequirementCount) -> fleet_pb2.Requirement:
    message = fleet_pb2.Requirement(
        instance_name=count.instance,
        requirement_hash=count.requirement_hash,
        properties=[
            fleet_pb2.Property(key=key, value=value)
            for key, values in sorted(count.requirements.items())
            for value in values
        ],
        property_label=count.property_label,
        queued=count.queued,
        executing=count.executing,
    )
    if count.oldest_queued_at is not None:
        message.oldest_queued_time.CopyFrom(to_timestamp(count.oldest_queued_at))
    return message


def _bots(count: BotCount) -> fleet_pb2.BotCount:
    status = cast("bots_pb2.BotStatus.ValueType", int(count.status))
    return fleet_pb2.BotCount(instance_name=count.instance, status=status, count=count.bots)
