"""Real small servers of the services around a scheduler, and a database."""

from collections.abc import Callable, Iterator

import pytest
from buildgrid_scheduler.assets import AssetClient
from buildgrid_scheduler.engine.log_streams import store_streams
from buildgrid_scheduler.integrations import Integrations, build_integrations
from buildgrid_scheduler.metering.package import service_client
from buildgrid_scheduler.storage.memory import MemoryStorage
from buildgrid_scheduler.store.provider import SqlProvider

from tests.integration.engine.conftest import replica as replica
from tests.integration.engine.conftest import start_replica as start_replica
from tests.integration.engine.replica import Replica
from tests.integration.integrations.executions import NOW, WITHIN
from tests.integration.integrations.grpc_servers import AssetServer, LogStreamServer
from tests.integration.integrations.metering_server import MeteringServer
from tests.integration.store.postgres import database as database
from tests.integration.store.postgres import postgres as postgres
from tests.integration.store.postgres import provider as provider

Build = Callable[..., Integrations]


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


@pytest.fixture
def build(
    storage: MemoryStorage,
    provider: SqlProvider,
    replica: Replica,
    asset_server: AssetServer,
    log_stream_server: LogStreamServer,
    metering_server: MeteringServer,
) -> Iterator[Build]:
    """Integrations with every service."""
    built: list[Integrations] = []

    def build() -> Integrations:
        integrations = build_integrations(
            storage,
            provider,
            lambda i, s, j, streams: replica.call(store_streams(i, s, j, streams)),
            metering_client=service_client(metering_server.url, None, WITHIN),
            throttle_wait=WITHIN,
            logstream_channel=log_stream_server.channel(),
            logstream_wait=WITHIN,
            asset_client=AssetClient(asset_server.channel(), timeout=WITHIN),
            queued_action_retention_hours=1,
            completed_action_retention_hours=2,
            action_result_retention_hours=3,
            clock=lambda: NOW,
        )
        integrations.start()
        built.append(integrations)
        return integrations

    yield build
    for integrations in built:
        integrations.stop(0)
