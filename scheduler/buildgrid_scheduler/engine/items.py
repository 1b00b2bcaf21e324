"""What can be asked of the engine, and what it answers."""

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from google.protobuf.any_pb2 import Any as AnyMessage

from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.core.completed_job import CompletedJob
from buildgrid_scheduler.core.job_state import JobState
from buildgrid_scheduler.core.lease_transition import LeaseState
from buildgrid_scheduler.core.requirements import Offer
from buildgrid_scheduler.notifier.delivery import Ticket
from buildgrid_scheduler.notifier.watches import Watch
from buildgrid_scheduler.store.hot_connection import Statements

if TYPE_CHECKING:
    from buildgrid_scheduler.engine.lease_ends import LeaseChanges

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class EndedSession:
    """A bot session that was deleted by a transaction of its own."""

    session: str
    bot_id: str
    reason: str


@dataclass(slots=True)
class Effects:
    """What a transaction changed that others wait for. Told after it is committed, to everyone."""

    states: dict[str, JobState | None] = field(default_factory=dict)
    """by job; None: changed, load it"""
    arrivals: list[tuple[str, str]] = field(default_factory=list)
    """(instance, requirement hash) of each job that began to wait"""
    sessions: set[str] = field(default_factory=set)
    """sessions that have something to be told"""
    completed: list[CompletedJob] = field(default_factory=list)
    """jobs that it brought to their ends, for who takes note of that: see engine.completions"""
    lease_changes: "list[LeaseChanges]" = field(default_factory=list)
    """what became of leases, for who counts it"""
    ended_sessions: list[EndedSession] = field(default_factory=list)
    fleet: bool = False
    """sessions or marks of bots changed, which nothing else here need tell"""


@dataclass(slots=True)
class NewJob:
    """A job as it is asked for."""

    name: str
    instance: str
    action_digest: str
    action: bytes
    do_not_cache: bool
    priority: int
    requirement_hash: str
    requirements: Mapping[str, list[str]]
    property_label: str
    command: str
    response: bytes | None = None
    """a serialized ExecuteResponse: the job is born complete"""
    share: bool = True
    """whether a running job of the same action may be taken instead"""
    look_up: bool = False
    """whether to ask the action cache first, where that is in the same database"""


@dataclass(slots=True)
class Enqueue:
    """Make an operation on a running job of the same action, or on a new one."""

    ticket: Ticket["Enqueued"]
    operation_name: str
    job: NewJob
    request_metadata: tuple[str, ...] | None = None
    """(hash, tool name, tool version, action id, invocation, correlated, mnemonic, target, configuration)"""
    client_identity_id: int | None = None
    watch: Watch | None = None
    """is told of every change of the job from the moment that the operation exists"""
    tried: bool = False
    """a transaction with it failed, or seemed to: the operation may be there"""
    submitted: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class Enqueued:
    """`shared`: the job was there before. `state` None: it is to be loaded."""

    operation_name: str
    job_name: str
    shared: bool
    state: JobState | None
    cached: bytes | None = None
    """a serialized ActionResult from the action cache: nothing was enqueued, see whether it can be used"""


@dataclass(frozen=True, slots=True)
class Report:
    """What a bot says of one lease."""

    state: LeaseState
    status_code: int = 0
    status_message: str = ""
    status_details: tuple[AnyMessage, ...] = ()
    """for example which blobs were missing, for the client to upload them again"""
    result: bytes | None = None
    """a serialized ActionResult"""
    partial_metadata: bytes | None = None


@dataclass(frozen=True, slots=True)
class Tell:
    """What to tell a bot of one lease. `action` is the payload of one that may be new to it."""

    job_name: str
    state: LeaseState
    action: bytes | None = None


@dataclass(slots=True)
class Synchronize:
    """Hold a session's report against its leases, extend it, fill its free slots."""

    ticket: Ticket["Synchronized"]
    instance: str
    session_name: str
    bot_id: str
    status: BotStatus
    reports: Mapping[str, Report]
    offer: Offer | None = None
    """what jobs are matched against; None: do not assign, only tell what is assigned"""
    hold: bool = False
    """when there is nothing to say: do not answer until there is"""
    woken: bool = False
    """a held call that is asked again; `reports` are those of its first time"""
    wakes_for: Offer | None = None
    """while it is held: what jobs it is woken for, if any"""
    capacity_class: str = ""
    """of its session, while it is held; see SessionOutcome.kind"""
    hold_full: bool = False
    """hold it, too, while the bot has no slot free or takes nothing new, as long as it has leases. A bot that
    asks for this calls again within seconds of each answer as long as it has leases"""
    patient_until: float = float("inf")
    """time.monotonic() when the caller stops waiting by itself"""
    broken_off: bool = False
    """the caller went away before that"""
    call_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    submitted: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class Synchronized:
    """`leases`: all that the bot is to hold from now on, and those to stop."""

    leases: tuple[Tell, ...]
    expires_at: datetime
    """aware UTC"""


@dataclass(slots=True)
class Call(Generic[R]):
    """A transaction of its own, for what is rare. `effects` are told once it is committed."""

    ticket: Ticket[R]
    transaction: Callable[[Statements, datetime, Effects], R]
    submitted: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class Nudge:
    """Nothing but a reason to look who can be given work."""

    ticket: Ticket[None]
    submitted: float = field(default_factory=time.monotonic)


WriteItem = Enqueue | Synchronize | Call[Any] | Nudge


@dataclass(slots=True)
class LoadOperation:
    """Read an operation and its job."""

    ticket: Ticket["LoadedOperation | None"]
    operation_name: str
    submitted: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, slots=True)
class LoadedOperation:
    """An operation as it is in the database."""

    name: str
    instance: str
    job_name: str
    cancelled: bool
    state: JobState
    owner: tuple[str, ...] | None = None
    """(instance, workflow, actor, subject) of whoever asked for it, where that is known"""


ReadItem = LoadOperation
