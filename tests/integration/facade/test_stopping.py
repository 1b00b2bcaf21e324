"""The end of a scheduler: nothing is lost where the database is there, and nobody waits where it is not."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from buildgrid_scheduler import Scheduler, SqlProvider, instance_context
from buildgrid_scheduler.core.errors import Unavailable
from buildgrid_scheduler.engine import batcher
from buildgrid_scheduler.storage.memory import MemoryStorage
from buildgrid_scheduler.store.hot_connection import HotConnection
from sqlalchemy import text

from tests.farm.waiting import eventually_sync
from tests.integration.engine.replica import PATIENCE, counts, enqueue, result
from tests.integration.facade.calls import PROPERTIES

NOWHERE = "postgresql://nobody@/none?host=/nonexistent"
FOR_EVER = 3600.0
_LOCK_WAITS = """
SELECT 1 FROM pg_locks l JOIN pg_stat_activity a USING (pid)
WHERE NOT granted AND datname = current_database()
"""


def in_thread(call: Callable[[], object]) -> Callable[[], object]:
    """Begin a call; returns how to wait for what comes of it."""
    outcome: list[object] = []

    def run() -> None:
        try:
            with instance_context(""):
                outcome.append(call())
        except Unavailable as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def wait() -> object:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "it does not end"
        return outcome[0]

    return wait


def patient(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its callers wait for a database that is away as if there were no end."""
    for thread in scheduler.engine._batchers:
        monkeypatch.setattr(thread, "_patience", FOR_EVER)


@pytest.fixture
def nowhere() -> Iterator[SqlProvider]:
    provider = SqlProvider(NOWHERE)
    yield provider
    provider.close()


def test_it_stops_soon_while_the_database_is_away(
    nowhere: SqlProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Timers are at work, and callers wait."""
    scheduler = Scheduler(
        nowhere,
        MemoryStorage(),
        property_set=PROPERTIES,
        execution_timer_interval=0.01,
        session_expiry_timer_interval=0.01,
    )
    patient(scheduler, monkeypatch)
    scheduler.start()
    waiting = [in_thread(lambda: scheduler.load_operation("operation"))]
    waiting += [in_thread(lambda: scheduler.close_bot_sessions("session")) for _ in range(20)]
    in_thread(scheduler.stop)()
    for wait in waiting:
        assert isinstance(wait(), Unavailable)
    assert not scheduler.engine.alive


def test_it_stops_although_the_database_does_not_even_refuse(
    nowhere: SqlProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()

    def hang(**options: Any) -> Any:
        assert released.wait(PATIENCE * 10)
        raise psycopg.OperationalError("timeout expired")

    monkeypatch.setattr(nowhere, "connect", hang)
    scheduler = Scheduler(nowhere, MemoryStorage(), property_set=PROPERTIES)
    patient(scheduler, monkeypatch)
    scheduler.start()
    wait = in_thread(lambda: scheduler.close_bot_sessions("session"))
    in_thread(scheduler.stop)()
    released.set()
    assert isinstance(wait(), Unavailable)


def test_a_first_batch_that_is_slow_is_not_given_up(
    provider: SqlProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database is there, but others hold what the batch needs, for longer than one waits for one away."""
    monkeypatch.setattr(batcher, "HURRIED_PATIENCE", -60.0)
    looks = threading.Semaphore(0)
    connecting: dict[HotConnection, bool] = {}

    def look(connection: HotConnection) -> bool:
        looks.release()
        return connecting.get(connection, False)

    monkeypatch.setattr(HotConnection, "connecting", property(look, connecting.__setitem__), raising=False)
    scheduler = Scheduler(provider, MemoryStorage(), property_set=PROPERTIES, session_expiry_timer_interval=0)
    scheduler.start()
    item = enqueue("action")
    with provider.connect() as other:
        other.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
        scheduler.engine.submit(item)
        eventually_sync(lambda: _waits_for_lock(provider), PATIENCE, lambda: "it waits for nothing")
        stopped = in_thread(scheduler.stop)
        for _ in range(3):
            assert looks.acquire(timeout=PATIENCE)
        assert not item.ticket.future.done()
        other.rollback()
    stopped()
    assert not scheduler.engine.alive
    result(item)
    assert counts(provider, "queue") == 1


def _waits_for_lock(provider: SqlProvider) -> bool:
    with provider.session() as session:
        return session.execute(text(_LOCK_WAITS)).first() is not None


def test_what_was_submitted_before_is_done(provider: SqlProvider) -> None:
    scheduler = Scheduler(provider, MemoryStorage(), property_set=PROPERTIES)
    scheduler.start()
    items = [enqueue(f"action {n}") for n in range(1000)]
    for item in items:
        scheduler.engine.submit(item)
    scheduler.stop()
    for item in items:
        result(item)
    assert counts(provider, "queue") == 1000
