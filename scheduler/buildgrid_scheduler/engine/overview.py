"""Looks at jobs and bots for people: more than a client is told, and never on the hot path."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.core.completion import code_name
from buildgrid_scheduler.core.job_state import Stage

_OPERATIONS = """
SELECT o.name, o.instance_name, o.job_name, o.cancelled AS operation_cancelled, j.action_digest, j.command,
       j.property_label, j.platform_requirements, coalesce(q.priority, l.priority, j.priority) AS priority,
       j.queued_at, j.completed_at, j.cancelled, j.status_code, j.n_tries, j.n_infra_tries, l.told_at,
       coalesce(l.started_at, j.worker_start_at) AS started_at, coalesce(b.bot_id, j.worker_name) AS bot_id,
       m.tool_name, m.invocation_id, m.action_mnemonic, m.target_id, c.workflow, c.actor, c.subject
FROM operations o JOIN jobs j ON j.name = o.job_name
LEFT JOIN queue q ON q.job_name = j.name
LEFT JOIN leases l ON l.job_name = j.name
LEFT JOIN bots b ON b.name = l.session_name
LEFT JOIN request_metadata m ON m.hash = o.request_metadata_hash
LEFT JOIN client_identities c ON c.id = o.client_identity_id
"""
_BY_NAME = text(f"{_OPERATIONS} WHERE o.instance_name = :instance AND o.name = ANY(:names)")
_BY_JOB = text(
    f"{_OPERATIONS} WHERE o.instance_name = :instance AND o.job_name = :job ORDER BY o.created_at, o.name"
)
_BOTS = text("""
SELECT b.name, b.bot_id, b.status, b.capacity, b.capacity_class, b.drained, b.offer, b.version,
       b.connected_at, b.expires_at, array_remove(array_agg(l.job_name ORDER BY l.job_name), NULL) AS jobs
FROM bots b LEFT JOIN leases l ON l.session_name = b.name AND l.state <> 5
WHERE b.instance_name = :instance GROUP BY b.name ORDER BY b.bot_id COLLATE "C"
""")


@dataclass(frozen=True, slots=True)
class OperationView:
    """An operation with its job. Times are aware UTC."""

    name: str
    instance: str
    job: str
    stage: str
    """QUEUED, EXECUTING, COMPLETED, or CANCELLED"""
    status: str
    """of what is done: the name of the google.rpc code"""
    action_digest: str
    command: str
    property_label: str
    requirements: dict[str, list[str]]
    priority: int
    n_tries: int
    n_infra_tries: int
    queued_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    bot: str
    """the bot that has it, or that completed it"""
    tool: str
    invocation: str
    mnemonic: str
    target: str
    client: str
    """WORKFLOW/ACTOR/SUBJECT of an authenticated one"""

    @property
    def done(self) -> bool:
        """Nothing comes any more."""
        return self.stage in ("COMPLETED", "CANCELLED")


@dataclass(frozen=True, slots=True)
class BotView:
    """A live session."""

    bot_id: str
    session: str
    status: str
    capacity: int
    capacity_class: str
    drained: bool
    properties: list[tuple[str, str]]
    """those that matching looks at"""
    version: str
    connected_at: datetime
    expires_at: datetime
    jobs: list[str]
    """what it has, but not what it was told to stop"""


def operations_by_name(session: Session, instance: str, names: Sequence[str]) -> dict[str, OperationView]:
    """Those that there are, by name."""
    rows = session.execute(_BY_NAME, {"instance": instance, "names": list(names)})
    return {row.name: _operation(row) for row in rows}


def operations_of_job(session: Session, instance: str, job: str) -> list[OperationView]:
    """All handles on a job, oldest first."""
    return [_operation(row) for row in session.execute(_BY_JOB, {"instance": instance, "job": job})]


def list_bots(session: Session, instance: str) -> list[BotView]:
    """All live sessions, by bot_id."""
    return [
        BotView(
            row.bot_id,
            row.name,
            BotStatus(row.status).name,
            row.capacity,
            row.capacity_class,
            row.drained,
            [(key, value) for key, value in row.offer],
            row.version,
            row.connected_at,
            row.expires_at,
            list(row.jobs),
        )
        for row in session.execute(_BOTS, {"instance": instance})
    ]


def _operation(row: Any) -> OperationView:
    stage = Stage.EXECUTING.name if row.told_at is not None else Stage.QUEUED.name
    status = ""
    if row.operation_cancelled or row.cancelled:
        stage = status = "CANCELLED"
    elif row.completed_at is not None:
        stage, status = Stage.COMPLETED.name, code_name(row.status_code or 0)
    client = "" if row.subject is None else f"{row.workflow}/{row.actor}/{row.subject}"
    return OperationView(
        name=row.name,
        instance=row.instance_name,
        job=row.job_name,
        stage=stage,
        status=status,
        action_digest=row.action_digest,
        command=row.command,
        property_label=row.property_label,
        requirements=row.platform_requirements,
        priority=row.priority,
        n_tries=row.n_tries,
        n_infra_tries=row.n_infra_tries,
        queued_at=row.queued_at,
        started_at=row.started_at,
        completed_at=row.completed_at,
        bot=row.bot_id or "",
        tool=row.tool_name or "",
        invocation=row.invocation_id or "",
        mnemonic=row.action_mnemonic or "",
        target=row.target_id or "",
        client=client,
    )
