"""Ready is whoever can serve; alive, whoever is worth keeping."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from buildgrid_scheduler.server import health
from buildgrid_scheduler.server.health import Check, Health
from grpc_health.v1 import health_pb2
from grpc_health.v1._async import HealthServicer
from prometheus_client import CollectorRegistry

from tests.farm.waiting import eventually


class Watched:
    """Health over checks whose answers the test gives."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.health = Health(self.registry)
        self.servicer = HealthServicer()
        self.database: str | None = None
        self.storage: str | None = None
        self.stuck: str | None = None

    @asynccontextmanager
    async def running(self, *checks: Check) -> AsyncIterator["Watched"]:
        every = checks or (
            Check("the database", lambda: self.database),
            Check("the storage", lambda: self.storage),
        )
        tasks = [
            asyncio.create_task(self.health.turn()),
            asyncio.create_task(self.health.watch(every, self.servicer, ["Bots"], stuck=lambda: self.stuck)),
        ]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()

    async def until(self, reason: str | None) -> None:
        await eventually(lambda: self.health.ready() == reason, 20, lambda: f"it is {self.health.ready()}")

    async def grpc(self, service: str) -> int:
        request = health_pb2.HealthCheckRequest(service=service)
        context: Any = None
        status: int = (await self.servicer.Check(request, context)).status
        return status


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "READY_INTERVAL", 0.05)
    monkeypatch.setattr(health, "NOT_READY_INTERVAL", 0.05)


@pytest.fixture
def watched() -> Watched:
    return Watched()


async def test_it_is_ready_when_all_checks_are_well(watched: Watched) -> None:
    assert watched.health.ready() == "starting"
    watched.database = "away"
    async with watched.running():
        await watched.until("away")
        watched.database, watched.storage = None, "full"
        await watched.until("full")
        assert await watched.grpc("") == health_pb2.HealthCheckResponse.NOT_SERVING
        watched.storage = None
        await watched.until(None)
        assert await watched.grpc("") == health_pb2.HealthCheckResponse.SERVING
        assert await watched.grpc("Bots") == health_pb2.HealthCheckResponse.SERVING
        assert watched.registry.get_sample_value("buildgrid_ready") == 1
        watched.database = "away"
        await watched.until("away")
        assert await watched.grpc("Bots") == health_pb2.HealthCheckResponse.NOT_SERVING
        assert watched.health.alive() is None


async def test_what_hangs_is_not_ready_and_is_not_asked_again_before_it_answers(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "ANSWER_WITHIN", 0.05)
    let_go, asked = threading.Event(), []

    def hangs() -> None:
        asked.append(1)
        let_go.wait(20)

    async with watched.running(Check("the storage", hangs)):
        await eventually(lambda: "the storage does not answer" in (watched.health.ready() or ""), 20)
        assert len(asked) == 1
        let_go.set()
        await watched.until(None)


async def test_a_check_that_raises_is_a_reason(watched: Watched) -> None:
    def fails() -> None:
        raise OSError("disk on fire")

    async with watched.running(Check("the storage", fails)):
        await watched.until("the storage: disk on fire")


async def test_once_it_stops_it_is_not_ready_for_good_and_still_alive(watched: Watched) -> None:
    async with watched.running():
        await watched.until(None)
        watched.health.stopping()
        watched.stuck = "a thread has ended"
        watched.health.waits("something else")
        assert watched.health.ready() == "stopping"
        assert watched.health.alive() is None


async def test_a_process_that_cannot_recover_is_not_alive(watched: Watched) -> None:
    async with watched.running():
        await watched.until(None)
        watched.stuck = "a thread of the engine has ended"
        await watched.until("a thread of the engine has ended")
        assert watched.health.alive() == "a thread of the engine has ended"


def test_an_event_loop_that_does_not_turn_is_not_alive(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert watched.health.alive() is None
    monkeypatch.setattr(health, "STUCK_AFTER", -1)
    assert "the event loop has not turned" in (watched.health.alive() or "")
