"""Real small servers of the services around a scheduler, and a database."""

from collections.abc import Iterator

import pytest
from buildgrid_scheduler.storage.memory import MemoryStorage

from tests.integration.engine.conftest import replica as replica
from tests.integration.engine.conftest import start_replica as start_replica
from tests.integration.integrations.grpc_servers import AssetServer, LogStreamServer
from tests.integration.integrations.metering_server import MeteringServer
from tests.integration.store.postgres import database as database
from tests.integration.store.postgres import postgres as postgres
from tests.integration.store.postgres import provider as provider


@pytest.fixture
def storage() -> MemoryStorage:
    """A CAS."""
    return MemoryStorage()


@pytest.fixture
def asset_server() -> Iterator[AssetServer]:
    """An asset service."""
    server = AssetServer()
    yield server
    server.stop()


@pytest.fixture
def log_stream_server() -> Iterator[LogStreamServer]:
    """A log stream service."""
    server = LogStreamServer()
    yield server
    server.stop()


@pytest.fixture
def metering_server() -> Iterator[MeteringServer]:
    """A metering service."""
    server = MeteringServer()
    yield server
    server.stop()
