"""An engine with short words for what tests ask of it, and the invariants of the database behind it."""

import hashlib
import itertools
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb2
from buildgrid_scheduler.core.attempts import AttemptLimits
from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.core.completion import CompletionPolicy
from buildgrid_scheduler.core.job_state import Stage, operation_message
from buildgrid_scheduler.core.lease_transition import LeaseState
from buildgrid_scheduler.core.requirements import Offer, requirement_hash
from buildgrid_scheduler.engine.draining import Drained, drained
from buildgrid_scheduler.engine.engine import Engine, new_job_name
from buildgrid_scheduler.engine.items import (
    Call,
    Effects,
    Enqueue,
    Enqueued,
    LoadedOperation,
    LoadOperation,
    NewJob,
    Synchronize,
    Synchronized,
    WriteItem,
)
from buildgrid_scheduler.engine.items import Report as Report
from buildgrid_scheduler.engine.observer import EngineObserver
from buildgrid_scheduler.engine.operations import cancel
from buildgrid_scheduler.engine.round import RoundSettings
from buildgrid_scheduler.engine.sessions import NewSession
from buildgrid_scheduler.notifier.delivery import Ticket
from buildgrid_scheduler.store.hot_connection import Statements
from buildgrid_scheduler.store.provider import SqlProvider
from buildgrid_scheduler.store.schema import Base
from sqlalchemy import text

R = TypeVar("R")
Transaction = Callable[[Statements, datetime, Effects], R]
KEEPALIVE = timedelta(seconds=600)
LONGEST_PAUSE = timedelta(seconds=61)
"""after it a bot that could not do a job may have it again"""
PATIENCE = 30  # seconds until a test that waits for an answer fails

PENDING, ACTIVE, COMPLETED, CANCELLED = (
    LeaseState.PENDING,
    LeaseState.ACTIVE,
    LeaseState.COMPLETED,
    LeaseState.CANCELLED,
)


class SteppingClock:
    """A clock that tests move; every look at it is a microsecond later."""

    def __init__(self) -> None:
        self._now = datetime(2030, 1, 1, tzinfo=UTC)
        self._ticks = itertools.count()

    def __call__(self) -> datetime:
        return self._now + timedelta(microseconds=next(self._ticks))

    def advance(self, by: timedelta) -> None:
        """Let time pass."""
        self._now += by


def digest_of(word: str) -> str:
    """The digest, HASH/SIZE, of the action that goes by this word."""
    return f"{hashlib.sha256(word.encode()).hexdigest()}/{len(word)}"


def success(exit_code: int = 0) -> Report:
    """The report of an attempt that came to its end."""
    return Report(COMPLETED, result=re_pb2.ActionResult(exit_code=exit_code).SerializeToString())


def failure(code: int = 14, message: str = "the network was away") -> Report:
    """The report of an attempt that is worth another one."""
    return Report(COMPLETED, status_code=code, status_message=message)


@dataclass
class Replica:
    """An engine on a database."""

    provider: SqlProvider
    limits: AttemptLimits = field(default_factory=AttemptLimits)
    priority_percentage: int = 100
    max_queue_size: int | None = None
    accept_new_jobs: bool = True
    patience: float = 10.0
    clock: SteppingClock = field(default_factory=SteppingClock)
    observer: EngineObserver | None = None

    def __post_init__(self) -> None:
        self.engine = Engine(
            self.provider,
            policy=CompletionPolicy(self.limits),
            settings=RoundSettings(
                KEEPALIVE,
                priority_percentage=self.priority_percentage,
                max_queue_size=self.max_queue_size,
                accept_new_jobs=self.accept_new_jobs,
            ),
            clock=self.clock,
            patience=self.patience,
        )
        if self.observer is not None:
            self.engine.observe(self.observer)
        self.engine.start()

    def stop(self) -> None:
        """Stop the engine; the second time is a no-op."""
        self.engine.stop()

    # --- without waiting

    def submit(self, item: WriteItem) -> None:
        """Hand an item to the engine."""
        self.engine.submit(item)

    def thread_of(self, item: WriteItem) -> int:
        """The thread of the engine that runs such an item."""
        batcher = self.engine._errands if isinstance(item, Call) else self.engine._writer
        return batcher._thread.ident or 0

    def holds(self, item: WriteItem) -> bool:
        """Whether it is a call of a bot that is held just now."""
        held, _ = self.engine.waiting._held.get(getattr(item, "session_name", ""), (None, None))
        return held is item

    def settle(self) -> None:
        """Wait until everything that was submitted so far is done, and what that led to."""
        for _ in range(2):
            self.call(lambda db, now, effects: None)
            result(self.submitted_sync("nobody", "nobody"), quiet=True)

    def look(self) -> None:
        """Let the replica find what waits, as its listener would."""
        self.engine.news.look_for_work()
        self.call(lambda db, now, effects: None)

    def submitted_call(self, transaction: Transaction[R]) -> Call[R]:
        """A rare transaction that is on its way."""
        item: Call[R] = Call(Ticket(), transaction)
        self.submit(item)
        return item

    def submitted_sync(self, session: str, bot_id: str = "bot", **options: Any) -> Synchronize:
        """A report that is on its way."""
        item = synchronize(session, bot_id, **options)
        self.submit(item)
        return item

    # --- waiting for the answer

    def call(self, transaction: Transaction[R]) -> R:
        """Run a rare transaction."""
        outcome: R = result(self.submitted_call(transaction))
        return outcome

    def enqueue(self, word: str, **options: Any) -> Enqueued:
        """Ask for the action that goes by this word."""
        item = enqueue(word, **options)
        self.submit(item)
        enqueued: Enqueued = result(item)
        return enqueued

    def load(self, operation: str) -> LoadedOperation:
        """An operation, which must be there."""
        item = LoadOperation(Ticket(), operation)
        self.engine.submit(item)
        loaded: LoadedOperation | None = item.ticket.future.result(PATIENCE)  # type: ignore[call-arg]
        assert loaded is not None, f"{operation} is lost"
        return loaded

    def stage(self, operation: str) -> Stage:
        """The stage that the client of an operation sees."""
        loaded = self.load(operation)
        return Stage.COMPLETED if loaded.cancelled else loaded.state.stage

    def response(self, operation: str) -> re_pb2.ExecuteResponse | None:
        """The answer to an operation, once there is one."""
        loaded = self.load(operation)
        message = operation_message(loaded.instance, loaded.name, loaded.state, cancelled=loaded.cancelled)
        return re_pb2.ExecuteResponse.FromString(message.response.value) if message.done else None

    def cancel(self, operation: str, instance: str = "") -> None:
        """Cancel an operation."""
        self.call(cancel(instance, operation))

    def opening(
        self, bot_id: str = "bot", *, capacity: int = 1, instance: str = "", capacity_class: str = ""
    ) -> tuple[str, Transaction[datetime]]:
        """The name of a session for a bot, and the transaction that opens it."""
        name = str(uuid.uuid4())
        session = NewSession(name, instance, bot_id, BotStatus.OK, capacity, capacity_class=capacity_class)
        return name, self.engine.sessions.open(session)

    def open(
        self, bot_id: str = "bot", *, capacity: int = 1, instance: str = "", capacity_class: str = ""
    ) -> str:
        """A session for a bot."""
        name, transaction = self.opening(
            bot_id, capacity=capacity, instance=instance, capacity_class=capacity_class
        )
        self.call(transaction)
        return name

    def close(self, session: str, instance: str = "") -> None:
        """A session ends without its bot having said so."""
        self.call(self.engine.sessions.close(instance, session, "the node is gone"))

    def drained(self, instance: str = "") -> dict[str, Drained]:
        """The marked bots, by bot_id."""
        return {bot.bot_id: bot for bot in self.call(drained(instance))}

    def reap(self) -> int:
        """Close expired sessions; returns how many."""
        return self.call(self.engine.sessions.reap())

    def sync(self, session: str, bot_id: str = "bot", **options: Any) -> Synchronized:
        """Report for a bot; see `synchronize`."""
        answer: Synchronized = result(self.submitted_sync(session, bot_id, **options))
        return answer

    def take(self, session: str, bot_id: str = "bot") -> str:
        """Let an idle bot ask for work, which it must get; returns the job."""
        self.look()
        (tell,) = self.sync(session, bot_id).leases
        assert tell.state is PENDING
        assert tell.action is not None
        return tell.job_name


def enqueue(
    word: str,
    *,
    priority: int = 0,
    needs: Mapping[str, list[str]] | None = None,
    instance: str = "",
    do_not_cache: bool = False,
    label: str = "unknown",
    response: bytes | None = None,
    look_up: bool = False,
) -> Enqueue:
    """Ask for the action that goes by this word."""
    requirements = dict(needs or {})
    job = NewJob(
        name=new_job_name(),
        instance=instance,
        action_digest=digest_of(word),
        action=word.encode(),
        do_not_cache=do_not_cache,
        priority=priority,
        requirement_hash=requirement_hash(requirements),
        requirements=requirements,
        property_label=label,
        command=word,
        response=response,
        look_up=look_up,
    )
    return Enqueue(Ticket(), str(uuid.uuid4()), job)


def synchronize(
    session: str,
    bot_id: str = "bot",
    *,
    reports: Mapping[str, Report] | None = None,
    status: BotStatus = BotStatus.OK,
    offer: Offer | None = frozenset(),
    hold: bool = False,
    hold_full: bool = False,
    instance: str = "",
) -> Synchronize:
    """A report of a bot's; with an `offer` of None it is told what it has, and given nothing new."""
    return Synchronize(
        Ticket(), instance, session, bot_id, status, reports or {}, offer, hold, hold_full=hold_full
    )


def result(item: Any, *, quiet: bool = False) -> Any:
    """What came of an item that a thread waits for; `quiet`: an error is fine."""
    try:
        return item.ticket.future.result(PATIENCE)
    except Exception:
        if not quiet:
            raise
        return None


# What must hold between any two transactions, each as a query for what violates it.
_INVARIANTS = {
    "an unfinished job neither waits nor is leased": """
        SELECT j.name FROM jobs j WHERE j.completed_at IS NULL
        AND NOT EXISTS (SELECT 1 FROM queue q WHERE q.job_name = j.name)
        AND NOT EXISTS (SELECT 1 FROM leases l WHERE l.job_name = j.name)""",
    "a job waits and is leased": "SELECT job_name FROM queue JOIN leases USING (job_name)",
    "what waits has no unfinished job": """
        SELECT q.job_name FROM queue q LEFT JOIN jobs j ON j.name = q.job_name
        WHERE j.name IS NULL OR j.completed_at IS NOT NULL""",
    "a lease has no unfinished job": """
        SELECT l.job_name FROM leases l LEFT JOIN jobs j ON j.name = l.job_name
        WHERE l.state <> 5 AND (j.name IS NULL OR j.completed_at IS NOT NULL)""",
    "a cancelled lease has an unfinished job": """
        SELECT l.job_name FROM leases l JOIN jobs j ON j.name = l.job_name
        WHERE l.state = 5 AND j.completed_at IS NULL""",
    "a lease has no session": """
        SELECT l.job_name FROM leases l WHERE l.session_name NOT IN (SELECT name FROM bots)""",
    "a session holds more than it can": """
        SELECT b.name FROM bots b JOIN leases l ON l.session_name = b.name
        GROUP BY b.name, b.capacity HAVING count(*) > b.capacity""",
    "a finished job has no answer": """
        SELECT name FROM jobs WHERE completed_at IS NOT NULL AND (response IS NULL OR status_code IS NULL)""",
    "an operation has no job": """
        SELECT o.name FROM operations o LEFT JOIN jobs j ON j.name = o.job_name WHERE j.name IS NULL""",
    "an unfinished job has no operation that wants it": """
        SELECT j.name FROM jobs j WHERE j.completed_at IS NULL
        AND NOT EXISTS (SELECT 1 FROM operations o WHERE o.job_name = j.name AND NOT o.cancelled)""",
    "an operation that nobody cancelled is on a cancelled job": """
        SELECT o.name FROM operations o JOIN jobs j ON j.name = o.job_name
        WHERE j.cancelled AND NOT o.cancelled""",
    "two unfinished jobs could be shared by the same clients": """
        SELECT min(name) FROM jobs WHERE completed_at IS NULL AND NOT do_not_cache
        GROUP BY instance_name, action_digest HAVING count(*) > 1""",
    "a job that may be shared is not found by those who would": """
        SELECT j.name FROM jobs j WHERE j.completed_at IS NULL AND NOT j.do_not_cache AND NOT EXISTS (
          SELECT 1 FROM in_flight f WHERE f.job_name = j.name AND f.instance_name = j.instance_name
          AND f.action_digest = j.action_digest)""",
    "a session and the mark on its bot differ": """
        SELECT b.name FROM bots b WHERE b.drained <> EXISTS (
          SELECT 1 FROM drains d WHERE d.instance_name = b.instance_name AND d.bot_id = b.bot_id)""",
    "a suspect that its bot knows of is not alone there": """
        SELECT l.job_name FROM leases l JOIN bots b ON b.name = l.session_name
        WHERE b.capacity > 1 AND starts_with(l.requirement_hash, 'alone:') AND l.told_at IS NOT NULL
        AND EXISTS (SELECT 1 FROM leases o WHERE o.session_name = l.session_name
                    AND o.job_name <> l.job_name AND o.told_at IS NOT NULL)""",
    "a job knows of a suspicion": "SELECT name FROM jobs WHERE starts_with(requirement_hash, 'alone:')",
    "a class or a bot is avoided for ever, or none for a while": """
        SELECT job_name FROM queue WHERE (avoid_class IS NULL AND avoid_bots IS NULL) <> (avoid_until IS NULL)
          OR avoid_bots = '{}'""",
    "the attempts that are kept are not those that count": """
        SELECT name FROM jobs
        WHERE coalesce(jsonb_array_length(attempts), 0) <> n_tries - 1 + n_infra_tries""",
    "a job was tried too often": """
        SELECT name FROM jobs WHERE n_tries > :tries OR n_infra_tries >= :infra""",
}


def check_invariants(provider: SqlProvider, limits: AttemptLimits | None = None) -> None:
    """Fails with what is wrong, and with which rows."""
    limits = limits or AttemptLimits()
    bounds = {"tries": limits.max_job_attempts, "infra": limits.max_infra_attempts}
    # One statement, so that all are looked at in one snapshot.
    union = " UNION ALL ".join(
        f"SELECT {number} AS n, t.* FROM ({query}) AS t(row)"  # noqa: S608 - constants
        for number, query in enumerate(_INVARIANTS.values())
    )
    with provider.session() as session:
        rows = session.execute(text(union), bounds).all()
    names = list(_INVARIANTS)
    assert not rows, "; ".join(f"{names[n]}: {row}" for n, row in rows)


def forget_everything(provider: SqlProvider) -> None:
    """Empty the tables; but requirements stay, of which a replica writes each once."""
    stay = ("requirements", "schema_compatibility")
    tables = [t.name for t in Base.metadata.sorted_tables if t.name not in stay]
    with provider.session() as session:
        session.execute(text(f"TRUNCATE {', '.join(tables)}"))


def counts(provider: SqlProvider, table: str) -> int:
    """How many rows a table has."""
    with provider.session() as session:
        number: int = session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()  # noqa: S608
        return number
