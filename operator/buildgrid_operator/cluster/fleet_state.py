"""What the replicas of a Scheduler tell of it, and of its bots, at one moment."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from buildgrid_protos.buildgrid.fleet.v1 import fleet_pb2
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2 import BotStatus
from buildgrid_scheduler.core.clock import from_timestamp
from google.protobuf.timestamp_pb2 import Timestamp


@dataclass(frozen=True, slots=True)
class Replica:
    """A scheduler process that lives."""

    id: str
    host: str
    """in Kubernetes its pod's name"""
    version: str
    config_hash: str
    """SHA-256, in hex, of the configuration in force"""
    refused_hash: str = ""
    """of a newer one that it could not take up"""
    refused_error: str = ""
    """why not"""
    fields_at_restart: tuple[str, ...] = ()
    """fields of the configuration in force that wait for the next start"""


@dataclass(frozen=True, slots=True)
class Requirement:
    """Unfinished jobs of one instance that require the same of a bot."""

    instance: str
    hash: str
    properties: Mapping[str, tuple[str, ...]]
    """what a bot must offer: key -> values"""
    queued: int = 0
    executing: int = 0
    oldest_queued: datetime | None = None
    duration: timedelta | None = None
    """how long a bot has such a job, lately; None: nobody knows"""
    duration_spread: timedelta | None = None
    """its standard deviation"""
    arrival_rate: float = 0.0
    """jobs a second, lately"""
    avoidances: Mapping[str, int] = field(default_factory=dict)
    """queued jobs that avoid a capacity class now, by class"""


@dataclass(frozen=True, slots=True)
class Session:
    """A bot that has a session."""

    instance: str
    bot_id: str
    status: str
    """as RWAPI names it"""
    slots: int
    leases: int
    connected: datetime
    busy_since: datetime | None = None
    """of its oldest lease; None: it has none"""
    capacity_class: str = ""
    fleet_uid: str = ""
    cluster_uid: str = ""
    lease_count: int = 0
    """that this session was given so far"""


@dataclass(frozen=True, slots=True)
class Mark:
    """A bot, with or without a session, that gets no lease any more."""

    instance: str
    bot_id: str
    since: datetime
    owner: str = ""
    """who set it"""
    disrupted: bool = False
    connected: bool = False
    leases: int = 0


@dataclass(frozen=True, slots=True)
class FleetState:
    """All replicas, and all unfinished jobs by what they require."""

    replicas: tuple[Replica, ...] = ()
    requirements: tuple[Requirement, ...] = ()
    bots: Mapping[str, int] = field(default_factory=dict)
    """bots with a session, by the status that they report, as RWAPI names it; of all instances"""
    sessions: tuple[Session, ...] = ()
    marks: tuple[Mark, ...] = ()
    revision: int = 0
    """of the database: a greater one is newer"""
    time: datetime | None = None
    """by the database's clock"""

    @property
    def queued(self) -> int:
        """Jobs that wait."""
        return sum(requirement.queued for requirement in self.requirements)

    @property
    def executing(self) -> int:
        """Jobs that bots have."""
        return sum(requirement.executing for requirement in self.requirements)

    @property
    def oldest_queued(self) -> datetime | None:
        """Since when the oldest waiting job waits; None if none does."""
        moments = [each.oldest_queued for each in self.requirements if each.oldest_queued is not None]
        return min(moments, default=None)

    @property
    def connected_bots(self) -> int:
        """Bots with a session, whatever they report."""
        return sum(self.bots.values())


def state_of(message: fleet_pb2.FleetState) -> FleetState:
    """From an answer."""
    return FleetState(
        replicas=tuple(
            Replica(
                id=each.id,
                host=each.host,
                version=each.version,
                config_hash=each.config_hash,
                refused_hash=each.refused_config_hash,
                refused_error=each.refused_config_error,
                fields_at_restart=tuple(each.config_fields_at_restart),
            )
            for each in message.replicas
        ),
        requirements=tuple(
            Requirement(
                instance=each.instance_name,
                hash=each.requirement_hash,
                properties=_properties(each.properties),
                queued=each.queued,
                executing=each.executing,
                oldest_queued=from_timestamp(each.oldest_queued_time),
                duration=each.duration.ToTimedelta() if each.HasField("duration") else None,
                duration_spread=(
                    each.duration_spread.ToTimedelta() if each.HasField("duration_spread") else None
                ),
                arrival_rate=each.arrival_rate,
                avoidances={avoided.capacity_class: avoided.queued for avoided in each.avoidances},
            )
            for each in message.requirements
        ),
        bots=_by_status(message.bots),
        sessions=tuple(_session(each) for each in message.bot_sessions),
        marks=tuple(_mark(each) for each in message.marks),
        revision=message.revision,
        time=from_timestamp(message.time),
    )


def _session(each: fleet_pb2.Bot) -> Session:
    return Session(
        instance=each.instance_name,
        bot_id=each.bot_id,
        status=_status(each.status),
        slots=each.slots,
        leases=each.leases,
        connected=_time(each.connect_time),
        busy_since=from_timestamp(each.busy_time),
        capacity_class=each.capacity_class,
        fleet_uid=each.fleet_uid,
        cluster_uid=each.cluster_uid,
        lease_count=each.lease_count,
    )


def _mark(each: fleet_pb2.Mark) -> Mark:
    return Mark(
        instance=each.instance_name,
        bot_id=each.bot_id,
        since=_time(each.time),
        owner=each.owner,
        disrupted=each.disrupted,
        connected=each.connected,
        leases=each.leases,
    )


def _time(message: Timestamp) -> datetime:
    return message.ToDatetime(tzinfo=UTC)


def _status(number: BotStatus.ValueType) -> str:
    """Its name. A newer scheduler may tell of one that has no name here."""
    return BotStatus.Name(number) if number in BotStatus.values() else str(number)


def _by_status(found: Iterable[fleet_pb2.BotCount]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for each in found:
        status = _status(each.status)
        counts[status] = counts.get(status, 0) + each.count
    return counts


def _properties(found: Any) -> dict[str, tuple[str, ...]]:
    values: dict[str, list[str]] = {}
    for each in found:
        values.setdefault(each.key, []).append(each.value)
    return {key: tuple(sorted(those)) for key, those in sorted(values.items())}
