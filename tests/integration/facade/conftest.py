"""Databases, and schedulers on them."""

from collections.abc import Iterator

import pytest
from buildgrid_scheduler import Scheduler, SqlProvider, instance_context
from buildgrid_scheduler.storage.memory import MemoryStorage

from tests.integration.facade.calls import PROPERTIES, Start
from tests.integration.store.postgres import database as database
from tests.integration.store.postgres import empty_database as empty_database
from tests.integration.store.postgres import postgres as postgres
from tests.integration.store.postgres import provider as provider


@pytest.fixture
def start(provider: SqlProvider) -> Iterator[Start]:
    """Start schedulers on one database, without timers: tests do what those would."""
    started: list[Scheduler] = []

    def start(**options: object) -> Scheduler:
        settings: dict[str, object] = {"property_set": PROPERTIES, "session_expiry_timer_interval": 0}
        scheduler = Scheduler(provider, MemoryStorage(), **{**settings, **options})  # type: ignore[arg-type]
        scheduler.start()
        started.append(scheduler)
        return scheduler

    yield start
    for scheduler in started:
        scheduler.stop()


@pytest.fixture
def scheduler(start: Start) -> Iterator[Scheduler]:
    """One scheduler, and the instance `team` around the test."""
    scheduler = start()
    with instance_context("team"):
        yield scheduler
