"""Who watches the farm and does not read is told the newest state alone when it does."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, cast

import grpc
import pytest
from buildgrid_protos.buildgrid.fleet.v1.fleet_pb2 import FleetState, WatchRequest
from buildgrid_protos.buildgrid.fleet.v1.fleet_pb2_grpc import FleetStub, add_FleetServicer_to_server
from buildgrid_scheduler.engine.farm_changes import FarmChanges
from buildgrid_scheduler.fleet.replicas import ReplicaRecord
from buildgrid_scheduler.fleet.state import FarmSnapshot, FarmState
from buildgrid_scheduler.services.fleet import FleetService
from buildgrid_scheduler.services.fleet_watch import FarmWatches, Pace
from buildgrid_scheduler.services.instances import Instances

from tests.farm.clients import WITHIN
from tests.farm.waiting import eventually

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MUCH = "x" * 1_000_000
"""of this gRPC itself keeps a few, for a reader that does not read"""
CHANGES = 40


class Database:
    """Of a farm with much to tell."""

    def __init__(self) -> None:
        self.changes = 0
        self.reads = 0

    def read(self, _: tuple[str, ...]) -> FarmSnapshot:
        """On a thread."""
        self.reads += 1
        replica = ReplicaRecord("id", "host", str(self.changes), NOW, "", "", MUCH)
        return FarmSnapshot(NOW, self.reads, FarmState([replica], [], [], []))


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
async def stub(database: Database) -> AsyncIterator[Any]:
    """Of a service that tells as fast as it can."""
    pace = Pace(least=0.001, poll=0.001, rest=0, heartbeat=3600)
    watches = FarmWatches(database.read, FarmChanges(), pace)
    with ThreadPoolExecutor(1) as executor:
        nobody = cast(Any, None)  # the engine and the database of the other methods
        service = FleetService(nobody, nobody, watches, Instances([""]), executor)
        server = grpc.aio.server()
        add_FleetServicer_to_server(service, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield FleetStub(channel)
        await server.stop(None)
    await asyncio.to_thread(watches.stop)


async def test_what_is_not_read_is_not_kept(database: Database, stub: Any) -> None:
    call = stub.Watch(WatchRequest(), timeout=60)
    assert version(await call.read()) == 0
    for n in range(1, CHANGES + 1):
        database.changes = n
        seen = database.reads
        await eventually(lambda seen=seen: database.reads >= seen + 3, WITHIN)  # type: ignore[misc]
    told = []
    while CHANGES not in told:
        told.append(version(await call.read()))
    assert told == sorted(told)
    assert len(told) <= CHANGES / 2, "what was on its way, and the newest"
    call.cancel()


def version(state: FleetState) -> int:
    """How many changes there had been."""
    return int(state.replicas[0].version)
