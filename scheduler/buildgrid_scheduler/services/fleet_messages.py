"""The state of a farm as the Fleet service tells it."""

from typing import TYPE_CHECKING, cast

from buildgrid_protos.buildgrid.fleet.v1 import fleet_pb2

from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.core.clock import to_timestamp
from buildgrid_scheduler.core.requirement_figures import Estimate
from buildgrid_scheduler.fleet.bots import BotCount, ConnectedBot
from buildgrid_scheduler.fleet.marks import Mark
from buildgrid_scheduler.fleet.replicas import ReplicaRecord
from buildgrid_scheduler.fleet.requirements import RequirementCount
from buildgrid_scheduler.fleet.state import FarmSnapshot

if TYPE_CHECKING:
    from buildgrid_protos.google.devtools.remoteworkers.v1test2 import bots_pb2

_NOTHING_KNOWN = Estimate(0.0, None, None)


def state_message(snapshot: FarmSnapshot) -> fleet_pb2.FleetState:
    """See fleet.proto."""
    state = snapshot.state
    message = fleet_pb2.FleetState(
        time=to_timestamp(snapshot.taken_at),
        replicas=[_replica(record) for record in state.replicas],
        requirements=[_requirement(count) for count in state.requirements],
        bots=[_count(count) for count in state.bot_counts],
        revision=snapshot.revision,
        bot_sessions=[_bot(bot) for bot in state.bots],
        marks=[_mark(mark) for mark in state.marks],
    )
    _add_estimates(snapshot, message)
    return message


def at_moment_of(snapshot: FarmSnapshot, unchanged: fleet_pb2.FleetState) -> fleet_pb2.FleetState:
    """The message of an earlier snapshot whose state is the same, with what drifts as it is in this one."""
    message = fleet_pb2.FleetState()
    message.CopyFrom(unchanged)
    message.time.CopyFrom(to_timestamp(snapshot.taken_at))
    message.revision = snapshot.revision
    _add_estimates(snapshot, message)
    return message


def _add_estimates(snapshot: FarmSnapshot, message: fleet_pb2.FleetState) -> None:
    for requirement in message.requirements:
        estimate = snapshot.estimates.get((requirement.instance_name, requirement.requirement_hash))
        _set_estimate(requirement, estimate or _NOTHING_KNOWN)


def _set_estimate(requirement: fleet_pb2.Requirement, estimate: Estimate) -> None:
    requirement.arrival_rate = estimate.arrival_rate
    requirement.ClearField("duration")
    requirement.ClearField("duration_spread")
    if estimate.duration is not None and estimate.duration_spread is not None:
        requirement.duration.FromTimedelta(estimate.duration)
        requirement.duration_spread.FromTimedelta(estimate.duration_spread)


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
        avoidances=[
            fleet_pb2.Avoidance(capacity_class=name, queued=queued)
            for name, queued in sorted(count.avoidances.items())
        ],
    )
    if count.oldest_queued_at is not None:
        message.oldest_queued_time.CopyFrom(to_timestamp(count.oldest_queued_at))
    return message


def _bot(bot: ConnectedBot) -> fleet_pb2.Bot:
    message = fleet_pb2.Bot(
        instance_name=bot.instance,
        bot_id=bot.bot_id,
        status=_status(bot.status),
        slots=bot.slots,
        leases=bot.leases,
        connect_time=to_timestamp(bot.connected_at),
        capacity_class=bot.capacity_class,
        fleet_uid=bot.fleet_uid,
        cluster_uid=bot.cluster_uid,
        lease_count=bot.lease_count,
    )
    if bot.busy_since is not None:
        message.busy_time.CopyFrom(to_timestamp(bot.busy_since))
    return message


def _mark(mark: Mark) -> fleet_pb2.Mark:
    return fleet_pb2.Mark(
        instance_name=mark.instance,
        bot_id=mark.bot_id,
        time=to_timestamp(mark.marked_at),
        disrupted=mark.disrupted,
        owner=mark.owner,
        connected=mark.connected,
        leases=mark.leases,
    )


def _count(count: BotCount) -> fleet_pb2.BotCount:
    return fleet_pb2.BotCount(instance_name=count.instance, status=_status(count.status), count=count.bots)


def _status(status: BotStatus) -> "bots_pb2.BotStatus.ValueType":
    return cast("bots_pb2.BotStatus.ValueType", int(status))
