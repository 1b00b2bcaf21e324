"""Jobs in the states that timers are about, and transactions that somebody holds open."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

from buildgrid_scheduler.core.completion import CompletionPolicy
from buildgrid_scheduler.engine.items import Effects, Enqueued
from buildgrid_scheduler.notifier.watches import Watch
from buildgrid_scheduler.store.hot_connection import Statements
from buildgrid_scheduler.store.provider import SqlProvider
from buildgrid_scheduler.store.statements import HOT_SETTINGS

from tests.farm.waiting import eventually_sync
from tests.integration.engine.faults import Interrupted
from tests.integration.engine.replica import ACTIVE, Replica, Report, enqueue, result

R = TypeVar("R")
Transaction = Callable[[Statements, datetime, Effects], R]
POLICY = CompletionPolicy(action_browser_url="http://browser")


def running(replica: Replica, word: str, bot_id: str = "bot", **options: Any) -> tuple[Enqueued, str]:
    """A job that a bot of its own has begun; and the session."""
    enqueued = replica.enqueue(word, **options)
    session = replica.open(bot_id)
    job = replica.take(session, bot_id)
    assert job == enqueued.job_name
    replica.sync(session, bot_id, reports={job: Report(ACTIVE)})
    return enqueued, session


def followed(replica: Replica, word: str, **options: Any) -> tuple[Enqueued, Watch]:
    """An operation of the Execution service, and the stream that follows it. For coroutines."""
    item = enqueue(word, **options)
    item.watch = Watch(item.operation_name)
    replica.submit(item)
    enqueued: Enqueued = result(item)
    return enqueued, item.watch


def left_alone(replica: Replica, word: str, **options: Any) -> Enqueued:
    """An operation of the Execution service that nobody follows any more. For coroutines."""
    enqueued, watch = followed(replica, word, **options)
    replica.engine.watches.drop(watch)
    return enqueued


def interrupted(transaction: Transaction[R], acts: Mapping[str, Callable[[], object]]) -> Transaction[R]:
    """The transaction; before the first statement that holds these words, somebody else acts."""

    def body(db: Statements, now: datetime, effects: Effects) -> R:
        watched = Interrupted(db, acts)
        outcome = transaction(watched, now, effects)
        assert not watched.left, f"never came to {list(watched.left)}"
        return outcome

    return body


@contextmanager
def held_open(provider: SqlProvider, transaction: Transaction[R], now: datetime) -> Iterator[R]:
    """A transaction of another replica that has run and is not committed until the block ends."""
    with provider.connect(prepare_threshold=0) as connection:
        for setting in HOT_SETTINGS:
            connection.execute(setting)
        connection.commit()
        yield transaction(Statements(connection), now, Effects())
        connection.commit()


@contextmanager
def held(provider: SqlProvider, statement: str, values: Sequence[object]) -> Iterator[None]:
    """Rows that somebody else has locked until the block ends."""
    with provider.connect() as connection:
        rows = connection.execute(statement.encode(), values).fetchall()
        assert rows, "there is nothing to hold"
        yield


def one(provider: SqlProvider, statement: str, *values: object) -> Any:
    """The first value of a query."""
    with provider.connect() as connection:
        row = connection.execute(statement.encode(), values).fetchone()
    assert row is not None
    return row[0]


def change(provider: SqlProvider, statement: str, *values: object) -> None:
    """Change what only time would."""
    with provider.connect(autocommit=True) as connection:
        assert connection.execute(statement.encode(), values).rowcount, "nothing was changed"


def wait_for_a_lock(provider: SqlProvider) -> None:
    """Wait until somebody waits for a lock that somebody else holds."""
    waiting = """
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"""
    eventually_sync(lambda: one(provider, waiting) > 0, 30, lambda: "nobody waits for a lock")
