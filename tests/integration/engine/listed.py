"""Operations to be listed: rows of a database, and a model of what a list of them must hold."""

import functools
import operator
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from buildgrid_scheduler.core.job_state import Stage
from buildgrid_scheduler.core.lease_transition import LeaseState
from buildgrid_scheduler.core.operation_filter import OperationFilter, Property, SortKey
from buildgrid_scheduler.core.operation_order import split_order
from buildgrid_scheduler.store.provider import SqlProvider
from buildgrid_scheduler.store.schema import (
    ClientIdentityEntry,
    JobEntry,
    LeaseEntry,
    OperationEntry,
    QueueEntry,
    RequestMetadataEntry,
)

DAWN = datetime(2030, 1, 31, 6, tzinfo=UTC)
METADATA = (
    "tool_name",
    "tool_version",
    "invocation_id",
    "correlated_invocations_id",
    "action_mnemonic",
    "target_id",
    "configuration_id",
)
WORDS = ("", "a", "B", "b", "b-1", "b1", "é", "ß", "\N{DROMEDARY CAMEL}", "a & b", "100%", 'q"')
Metadata = tuple[str, ...]
Identity = tuple[str, str, str, str]
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class Job:
    """A job; `told`: its bot knows of it, None: it has none. `lingers`: its bot has yet to stop it."""

    name: str
    instance: str = "main"
    digest: str = "a/1"
    command: str = ""
    platform: dict[str, list[str]] = field(default_factory=dict)
    queued: datetime = DAWN
    told: bool | None = None
    started: datetime | None = None
    completed: datetime | None = None
    response: bytes = b"response"
    lingers: bool = False

    @property
    def stage(self) -> Stage:
        if self.completed is not None:
            return Stage.COMPLETED
        return Stage.EXECUTING if self.told else Stage.QUEUED


@dataclass(frozen=True)
class Listed:
    """An operation on a job."""

    name: str
    job: Job
    cancelled: bool = False
    metadata: Metadata | None = None
    """in the order of METADATA"""
    identity: Identity | None = None

    @property
    def stage(self) -> Stage:
        return Stage.COMPLETED if self.cancelled else self.job.stage

    def value(self, key: str) -> Any:
        """What the operation has for a key; None for nothing."""
        if key in METADATA:
            return None if self.metadata is None else self.metadata[METADATA.index(key)]
        if key.startswith("client_"):
            parts = ("client_instance", "client_workflow", "client_actor", "client_subject")
            return None if self.identity is None else self.identity[parts.index(key)]
        return {
            "stage": self.stage,
            "name": self.name,
            "command": self.job.command,
            "action_digest": self.job.digest,
            "queued_time": self.job.queued,
            "start_time": self.job.started,
            "completed_time": self.job.completed,
        }[key]

    def meets(self, condition: OperationFilter) -> bool:
        """Whether a condition holds. Without a value only `!=` does."""
        wanted = condition.value
        if isinstance(wanted, Property):
            has = wanted.value in self.job.platform.get(wanted.key, [])
            return has if condition.operator == "=" else not has
        value = self.value(condition.parameter)
        if value is None:
            return condition.operator == "!="
        return _COMPARE[condition.operator](value, wanted)


def expected(operations: Sequence[Listed], filters: Sequence[OperationFilter], instance: str) -> list[str]:
    """The names that a list must have, in order."""
    conditions, order = split_order(filters)
    chosen = [
        o
        for o in operations
        if o.job.instance == instance
        and all(o.meets(condition) for condition in conditions)
        and (conditions or o.stage is not Stage.COMPLETED)
    ]
    chosen.sort(key=functools.cmp_to_key(functools.partial(_compare, order)))
    return [o.name for o in chosen]


def _compare(order: Sequence[SortKey], one: Listed, two: Listed) -> int:
    for key in order:
        a, b = one.value(key.key), two.value(key.key)
        if a == b:
            continue
        if a is None or b is None:  # last in either direction
            return 1 if a is None else -1
        return (1 if a > b else -1) * (-1 if key.descending else 1)
    return 0


def random_operations(seed: int, jobs: int) -> list[Listed]:
    """Operations of all sorts, many of which are equal in many keys."""
    dice = random.Random(seed)
    identities = [("main", dice.choice(WORDS), dice.choice(WORDS), dice.choice(WORDS)) for _ in range(6)]
    operations: list[Listed] = []

    def moment() -> datetime:
        return DAWN + dice.randrange(8) * timedelta(microseconds=1)

    for number in range(jobs):
        job = Job(
            name=f"job-{number}",
            instance=dice.choice(("main", "main", "main", "other")),
            digest=f"{dice.randrange(16):x}/{dice.randrange(3)}",
            command=dice.choice(WORDS),
            platform={
                key: sorted(dice.sample(("x", "y:z", "&"), dice.randrange(1, 3)))
                for key in dice.sample(("Pool", "ISA"), dice.randrange(3))
            },
            queued=moment(),
        )
        match dice.randrange(5):
            case 0 | 1:
                started = moment() if dice.random() < 0.7 else None
                job = replace(job, completed=moment(), started=started, lingers=dice.random() < 0.2)
            case 2:
                job = replace(job, told=True, started=moment() if dice.random() < 0.7 else None)
            case 3:
                job = replace(job, told=False)
        for handle in range(dice.choice((1, 1, 2, 3))):
            named = dice.random() < 0.7
            operations.append(
                Listed(
                    name=f"{dice.choice('aBé')}{number}-{handle}",
                    job=job,
                    cancelled=handle > 0 and dice.random() < 0.4,
                    metadata=tuple(dice.choice(WORDS) for _ in METADATA) if named else None,
                    identity=dice.choice((None, *identities)),
                )
            )
    return operations


def store(provider: SqlProvider, operations: Sequence[Listed]) -> None:
    """Write the rows of these operations, and of their jobs where they are not there yet."""
    with provider.session() as session:
        for name, job in {o.job.name: o.job for o in operations}.items():
            if session.get(JobEntry, name) is None:
                session.add_all(_job_rows(job))
        identities: dict[Identity, int] = {}
        for entry in session.query(ClientIdentityEntry):
            identities[(entry.instance, entry.workflow, entry.actor, entry.subject)] = entry.id
        for operation in operations:
            identity = operation.identity
            if identity is not None and identity not in identities:
                instance, workflow, actor, subject = identity
                row = ClientIdentityEntry(instance=instance, workflow=workflow, actor=actor, subject=subject)
                session.add(row)
                session.flush()
                identities[identity] = row.id
            metadata = operation.metadata
            if metadata is not None:
                named = dict(zip(METADATA, metadata, strict=True))
                session.merge(RequestMetadataEntry(hash=repr(metadata), action_id="", **named))
            session.add(
                OperationEntry(
                    name=operation.name,
                    instance_name=operation.job.instance,
                    job_name=operation.job.name,
                    created_at=operation.job.queued,
                    cancelled=operation.cancelled,
                    request_metadata_hash=None if metadata is None else repr(metadata),
                    client_identity_id=None if identity is None else identities[identity],
                )
            )


def _job_rows(job: Job) -> list[JobEntry | QueueEntry | LeaseEntry]:
    done = job.completed is not None
    rows: list[JobEntry | QueueEntry | LeaseEntry] = [
        JobEntry(
            name=job.name,
            instance_name=job.instance,
            action_digest=job.digest,
            action=b"",
            do_not_cache=True,
            priority=0,
            requirement_hash="",
            platform_requirements=job.platform,
            property_label="unknown",
            command=job.command,
            n_tries=1,
            queued_at=job.queued,
            worker_start_at=job.started if done else None,
            completed_at=job.completed,
            response=job.response if done else None,
            status_code=0 if done else None,
        )
    ]
    shared = {
        "job_name": job.name,
        "instance_name": job.instance,
        "requirement_hash": "",
        "property_label": "unknown",
        "priority": 0,
        "queued_at": job.queued,
    }
    if not done and job.told is None:
        rows.append(QueueEntry(**shared))
    if job.lingers or (not done and job.told is not None):
        told_at = DAWN if job.told or job.lingers else None
        state = int(LeaseState.PENDING if told_at is None else LeaseState.ACTIVE)
        if job.lingers:
            state = int(LeaseState.CANCELLED)
        rows.append(
            LeaseEntry(session_name="bot", state=state, told_at=told_at, started_at=job.started, **shared)
        )
    return rows
