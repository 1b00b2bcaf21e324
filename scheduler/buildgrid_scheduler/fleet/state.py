"""The farm at one moment, as the database knows it: every replica tells of all."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from psycopg.errors import QueryCanceled
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from buildgrid_scheduler.core.errors import DeadlineExceeded, Unavailable
from buildgrid_scheduler.core.requirement_figures import Estimate
from buildgrid_scheduler.fleet.bots import BotCount, ConnectedBot, connected_bots, count_bots
from buildgrid_scheduler.fleet.estimates import Key, estimates_of
from buildgrid_scheduler.fleet.marks import Mark, list_marks
from buildgrid_scheduler.fleet.replicas import ReplicaRecord, live_replicas
from buildgrid_scheduler.fleet.requirements import RequirementCount, count_requirements
from buildgrid_scheduler.store.provider import SqlProvider

STATEMENT_TIMEOUT = "5s"

# First of all statements: what follows sees the snapshot that the first query takes, and no other.
_ONE_SNAPSHOT = text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
_TIMEOUT = text(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'")
# How many transactions had ended when the snapshot was taken: their numbers (pg_snapshot_xmax is above all
# that have ended) less those that still ran. One that ends counts at once, and never less again, so whoever
# sees one commit more has a greater number, on whatever replica. Nothing has to be written for that; a
# sequence would have to be by each transaction, and would not be in their order.
_MOMENT = text("""
SELECT now(), pg_snapshot_xmax(s)::text::bigint - (SELECT count(*) FROM pg_snapshot_xip(s))
FROM (SELECT pg_current_snapshot() AS s) t
""")


@dataclass(frozen=True, slots=True)
class FarmState:
    """What can change. Two that are equal look the same to who looks after the farm."""

    replicas: Sequence[ReplicaRecord]
    """that live, oldest first"""
    requirements: Sequence[RequirementCount]
    bots: Sequence[ConnectedBot]
    marks: Sequence[Mark]

    @property
    def bot_counts(self) -> Sequence[BotCount]:
        """By instance and status."""
        return count_bots(self.bots)


@dataclass(frozen=True, slots=True)
class FarmSnapshot:
    """The state, and of when it is."""

    taken_at: datetime
    """by the database's clock"""
    revision: int
    """of the database: a greater one is newer, whichever replica read it"""
    state: FarmState
    estimates: Mapping[Key, Estimate] = field(default_factory=dict)
    """of its jobs, by instance and requirement hash; they drift with the time, though nothing changes"""


def read_farm(provider: SqlProvider, instances: Collection[str]) -> FarmSnapshot:
    """All of it in one snapshot. Raises Unavailable while the database is away.

    Raises DeadlineExceeded when a statement takes longer than STATEMENT_TIMEOUT.
    """
    try:
        with provider.session() as session:
            session.execute(_ONE_SNAPSHOT)
            session.execute(_TIMEOUT)
            return _read(session, instances)
    except DBAPIError as error:
        if isinstance(error.orig, QueryCanceled):
            raise DeadlineExceeded(f"counting jobs and bots takes longer than {STATEMENT_TIMEOUT}") from error
        raise Unavailable("the database cannot be reached; try again") from error


def _read(session: Session, instances: Collection[str]) -> FarmSnapshot:
    taken_at, revision = session.execute(_MOMENT).one()
    bots = connected_bots(session, instances)
    requirements = count_requirements(session, instances)
    state = FarmState(live_replicas(session), requirements, bots, list_marks(session, instances, bots))
    keys = {(count.instance, count.requirement_hash) for count in requirements}
    return FarmSnapshot(taken_at, revision, state, estimates_of(session, keys))
