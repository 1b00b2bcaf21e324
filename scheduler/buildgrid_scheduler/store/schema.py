"""The tables. Migrations create them; tests hold that both agree.

The shape follows what a job costs (docs/design): one wide row that is written twice, at enqueue and at
completion, and narrow rows in `queue` and `leases` that come and go. Which of these a job has *is* its
stage: a row in `queue`, QUEUED; a lease that its bot was told, EXECUTING; a completed time, COMPLETED.
There are no foreign keys between the hot tables: each costs an index probe and a row lock per write, and
every write to them goes through the statements in this package, which tests hold to the invariants.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    DateTime,
    Double,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

_Time = DateTime(timezone=True)

# Rows of these tables live for milliseconds and are updated in place: leave room for HOT updates, and
# vacuum by number of rows rather than by share of a table that is mostly empty.
_CHURN = {
    "postgresql_with": {
        "fillfactor": "50",
        "autovacuum_vacuum_scale_factor": "0",
        "autovacuum_vacuum_threshold": "2000",
        "autovacuum_vacuum_insert_scale_factor": "0.2",
    }
}


class Base(DeclarativeBase):
    """All tables of the scheduler."""


class JobEntry(Base):
    """A queued, running or finished execution of an action."""

    __tablename__ = "jobs"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    instance_name: Mapped[str] = mapped_column(Text)
    action_digest: Mapped[str] = mapped_column(Text)
    """HASH/SIZE"""
    action: Mapped[bytes] = mapped_column(LargeBinary)
    """the serialized Action, which is the payload of leases"""
    do_not_cache: Mapped[bool] = mapped_column(Boolean)
    priority: Mapped[int] = mapped_column(Integer)
    """at enqueue; `queue` and `leases` hold the one in force"""
    requirement_hash: Mapped[str] = mapped_column(Text)
    platform_requirements: Mapped[dict[str, Any]] = mapped_column(JSONB)
    property_label: Mapped[str] = mapped_column(Text)
    command: Mapped[str] = mapped_column(Text)
    n_tries: Mapped[int] = mapped_column(Integer)
    n_infra_tries: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    queued_at: Mapped[datetime] = mapped_column(_Time)
    assigned_at: Mapped[datetime | None] = mapped_column(_Time)
    """when the bot was told of the attempt that completed the job"""
    worker_start_at: Mapped[datetime | None] = mapped_column(_Time)
    worker_completed_at: Mapped[datetime | None] = mapped_column(_Time)
    completed_at: Mapped[datetime | None] = mapped_column(_Time)
    worker_name: Mapped[str | None] = mapped_column(Text)
    """bot_id of the bot whose attempt completed the job"""
    status_code: Mapped[int | None] = mapped_column(Integer)
    """google.rpc code of the answer"""
    cancelled: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    response: Mapped[bytes | None] = mapped_column(LargeBinary)
    """the serialized ExecuteResponse: kept here, not in the CAS, which may evict it"""
    stdout_stream_name: Mapped[str] = mapped_column(Text, server_default=text("''"))
    stderr_stream_name: Mapped[str] = mapped_column(Text, server_default=text("''"))
    """of the log streams, as clients read them"""
    stdout_stream_write_name: Mapped[str] = mapped_column(Text, server_default=text("''"))
    stderr_stream_write_name: Mapped[str] = mapped_column(Text, server_default=text("''"))
    """as the bot writes them"""
    attempts: Mapped[list[dict[str, Any]] | None] = mapped_column(JSONB)
    """ended attempts after which the job waited again, oldest first; see core.history"""

    # No index on a column that completion writes, so that completion is a HOT update.
    __table_args__ = (
        Index("ix_jobs_queued_at", "instance_name", "queued_at", "name"),
        Index("ix_jobs_action", "action_digest", postgresql_using="hash"),
        {"postgresql_with": {"fillfactor": "60"}},
    )


class FlightEntry(Base):
    """The job that new clients of an action share. May be stale: then the job is complete."""

    __tablename__ = "in_flight"

    instance_name: Mapped[str] = mapped_column(Text, primary_key=True)
    action_digest: Mapped[str] = mapped_column(Text, primary_key=True)
    job_name: Mapped[str] = mapped_column(Text)

    __table_args__ = (_CHURN,)


class QueueEntry(Base):
    """A job that waits for a bot."""

    __tablename__ = "queue"

    job_name: Mapped[str] = mapped_column(Text, primary_key=True)
    instance_name: Mapped[str] = mapped_column(Text)
    requirement_hash: Mapped[str] = mapped_column(Text)
    property_label: Mapped[str] = mapped_column(Text)
    priority: Mapped[int] = mapped_column(Integer)
    queued_at: Mapped[datetime] = mapped_column(_Time)
    avoid_class: Mapped[str | None] = mapped_column(Text)
    """bots of this capacity class lost the job"""
    avoid_bots: Mapped[list[str] | None] = mapped_column(ARRAY(Text))
    """the bot_id of each bot that has had the job, where the last of them reported that it could not do it"""
    avoid_until: Mapped[datetime | None] = mapped_column(_Time)
    """and they get it again only from then on"""

    __table_args__ = (
        Index("ix_queue_priority", "instance_name", "requirement_hash", "priority", "queued_at", "job_name"),
        Index("ix_queue_age", "instance_name", "requirement_hash", "queued_at", "job_name"),
        Index("ix_queue_label", "instance_name", "property_label"),
        _CHURN,
    )


class RequirementEntry(Base):
    """What a requirement hash stands for. Written once per distinct set, never deleted by hot paths."""

    __tablename__ = "requirements"

    requirement_hash: Mapped[str] = mapped_column(Text, primary_key=True)
    requirements: Mapped[dict[str, Any]] = mapped_column(JSONB)


class LeaseEntry(Base):
    """A job in the hands of a bot session."""

    __tablename__ = "leases"

    job_name: Mapped[str] = mapped_column(Text, primary_key=True)
    instance_name: Mapped[str] = mapped_column(Text)
    session_name: Mapped[str] = mapped_column(Text)
    state: Mapped[int] = mapped_column(SmallInteger)
    """LeaseState: PENDING, ACTIVE or CANCELLED"""
    told_at: Mapped[datetime | None] = mapped_column(_Time)
    """when the lease was first part of an answer to the bot; the job is EXECUTING from then on"""
    started_at: Mapped[datetime | None] = mapped_column(_Time)
    requirement_hash: Mapped[str] = mapped_column(Text)
    property_label: Mapped[str] = mapped_column(Text)
    priority: Mapped[int] = mapped_column(Integer)
    queued_at: Mapped[datetime] = mapped_column(_Time)
    partial_metadata: Mapped[bytes | None] = mapped_column(LargeBinary)
    """a serialized ExecutedActionMetadata"""

    __table_args__ = (Index("ix_leases_session", "session_name"), _CHURN)


class BotEntry(Base):
    """A live bot session."""

    __tablename__ = "bots"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    """of the session, as in the Python API: without the instance"""
    instance_name: Mapped[str] = mapped_column(Text)
    bot_id: Mapped[str] = mapped_column(Text)
    status: Mapped[int] = mapped_column(SmallInteger)
    """BotStatus"""
    capacity: Mapped[int] = mapped_column(Integer, server_default=text("1"))
    offer: Mapped[list[list[str]]] = mapped_column(JSONB, server_default=text("'[]'::jsonb"))
    """sorted [key, value] pairs of the primary device"""
    version: Mapped[str] = mapped_column(Text, server_default=text("''"))
    capacity_class: Mapped[str] = mapped_column(Text, server_default=text("''"))
    """worker property `capacity-class`: bots that tend to vanish together"""
    drained: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    """a copy of the mark in `drains`, so that who locks the session need not look there"""
    connected_at: Mapped[datetime] = mapped_column(_Time)
    expires_at: Mapped[datetime] = mapped_column(_Time)
    completed_leases: Mapped[str] = mapped_column(Text, server_default=text("''"))
    """ids, blank-separated, that the session completed in its latest report: a repeat is no mismatch"""

    latest_call: Mapped[str] = mapped_column(Text, server_default=text("''"))
    """which of the session's calls was answered last: an older one that is still held has no say"""

    opened_from: Mapped[str] = mapped_column(Text, server_default=text("''"))
    """the network address of whoever opened the session, as the server saw it; empty if not known"""

    fleet_uid: Mapped[str] = mapped_column(Text, server_default=text("''"))
    """worker property `fleet-uid`: which fleet of bots it belongs to; empty for none"""

    cluster_uid: Mapped[str] = mapped_column(Text, server_default=text("''"))
    """worker property `cluster-uid`: which cluster it runs in; empty for none"""

    avoided_until: Mapped[datetime | None] = mapped_column(_Time)
    """no job avoids the bot for longer than that: until then it has to be looked at which do"""

    lease_count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    """leases that the session has been given so far"""

    __table_args__ = (Index("uq_bots_bot_id", "instance_name", "bot_id", unique=True), _CHURN)


class DrainEntry(Base):
    """A mark on a bot: none of its sessions gets a lease. May be there before the bot is."""

    __tablename__ = "drains"

    instance_name: Mapped[str] = mapped_column(Text, primary_key=True)
    bot_id: Mapped[str] = mapped_column(Text, primary_key=True)
    marked_at: Mapped[datetime] = mapped_column(_Time)
    disrupted: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    """its pod was evicted or preempted: what it loses is not the jobs' doing"""
    owner: Mapped[str] = mapped_column(Text, server_default=text("''"))
    """who made the mark, for example a cluster's UID; empty for a person"""


class OperationEntry(Base):
    """One client's handle on a job."""

    __tablename__ = "operations"

    name: Mapped[str] = mapped_column(Text, primary_key=True)
    instance_name: Mapped[str] = mapped_column(Text)
    job_name: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(_Time)
    cancelled: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    request_metadata_hash: Mapped[str | None] = mapped_column(Text)
    client_identity_id: Mapped[int | None] = mapped_column(BigInteger)
    watched_at: Mapped[datetime | None] = mapped_column(_Time)
    """when somebody was last seen to follow it; none for one that need not be followed (see timers)"""

    __table_args__ = (
        Index("ix_operations_job", "job_name"),
        Index("ix_operations_metadata", "request_metadata_hash", postgresql_using="hash"),
        Index(
            "ix_operations_identity",
            "client_identity_id",
            postgresql_where=text("client_identity_id IS NOT NULL"),
        ),
    )


class RequestMetadataEntry(Base):
    """A distinct RequestMetadata header; the key is the SHA-1 of its serialization."""

    __tablename__ = "request_metadata"

    hash: Mapped[str] = mapped_column(Text, primary_key=True)
    tool_name: Mapped[str] = mapped_column(Text)
    tool_version: Mapped[str] = mapped_column(Text)
    action_id: Mapped[str] = mapped_column(Text)
    invocation_id: Mapped[str] = mapped_column(Text)
    correlated_invocations_id: Mapped[str] = mapped_column(Text)
    action_mnemonic: Mapped[str] = mapped_column(Text)
    target_id: Mapped[str] = mapped_column(Text)
    configuration_id: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(_Time, server_default=text("now()"))

    __table_args__ = (
        Index("ix_metadata_invocation", "invocation_id"),
        Index("ix_metadata_correlated", "correlated_invocations_id"),
    )


class ClientIdentityEntry(Base):
    """Who asked for operations."""

    __tablename__ = "client_identities"

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=True)
    instance: Mapped[str] = mapped_column(Text)
    workflow: Mapped[str] = mapped_column(Text)
    actor: Mapped[str] = mapped_column(Text)
    subject: Mapped[str] = mapped_column(Text)

    __table_args__ = (Index("uq_client_identities", "instance", "workflow", "actor", "subject", unique=True),)


class ActionResultEntry(Base):
    """The action cache."""

    __tablename__ = "action_results"

    instance_name: Mapped[str] = mapped_column(Text, primary_key=True)
    action_digest: Mapped[str] = mapped_column(Text, primary_key=True)
    result: Mapped[bytes] = mapped_column(LargeBinary)
    """a serialized ActionResult"""
    stored_at: Mapped[datetime] = mapped_column(_Time)


class ReplicaEntry(Base):
    """A server process that lives, or did a moment ago. See fleet.replicas."""

    __tablename__ = "replicas"

    id: Mapped[str] = mapped_column(Text, primary_key=True)
    host: Mapped[str] = mapped_column(Text)
    version: Mapped[str] = mapped_column(Text)
    started_at: Mapped[datetime] = mapped_column(_Time)
    config_hash: Mapped[str] = mapped_column(Text)
    refused_hash: Mapped[str] = mapped_column(Text)
    refused_error: Mapped[str] = mapped_column(Text)
    fields_at_restart: Mapped[list[str]] = mapped_column(ARRAY(Text))
    seen_at: Mapped[datetime] = mapped_column(_Time)


class RequirementFiguresEntry(Base):
    """How often jobs come that require the same, and how long a bot has one. See core.requirement_figures."""

    __tablename__ = "requirement_figures"

    instance_name: Mapped[str] = mapped_column(Text, primary_key=True)
    requirement_hash: Mapped[str] = mapped_column(Text, primary_key=True)
    arrived: Mapped[float] = mapped_column(Double)
    """jobs, each halved every RATE_HALF_LIFE, as of `decayed_at`"""
    finished: Mapped[float] = mapped_column(Double)
    """jobs, the last JOBS_MEMORY of them weighing most"""
    seconds: Mapped[float] = mapped_column(Double)
    """that bots had those, added up"""
    seconds_squared: Mapped[float] = mapped_column(Double)
    """likewise, of their squares"""
    decayed_at: Mapped[datetime] = mapped_column(_Time)
    """when a replica last added to the row"""

    __table_args__ = (_CHURN,)


class CompatibilityEntry(Base):
    """The oldest revision whose code runs on this schema. One row."""

    __tablename__ = "schema_compatibility"

    oldest_revision: Mapped[str] = mapped_column(Text, primary_key=True)
