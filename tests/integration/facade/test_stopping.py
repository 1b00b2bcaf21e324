"""The end of a scheduler: nothing is lost where the database is there, and nobody waits where it is not."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from buildgrid_scheduler import Scheduler, SqlProvider, instance_context
from buildgrid_scheduler.core.errors import Unavailable
from buildgrid_scheduler.storage.memory import MemoryStorage

from tests.integration.engine.replica import PATIENCE, counts, enqueue, result
from tests.integration.facade.calls import PROPERTIES

NOWHERE = "postgresql://nobody@/none?host=/nonexistent"
FOR_EVER = 3600.0


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
    for batcher in scheduler.engine._batchers:
        monkeypatch.setattr(batcher, "_patience", FOR_EVER)


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
