"""Server processes on a real PostgreSQL."""

import contextlib
import resource
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.farm.database import Databases, drop_database
from tests.integration.server.secured import POLICY, Credentials, Secured
from tests.integration.server.server_process import Server
from tests.integration.server.shared_farm import farm as farm
from tests.integration.server.shared_farm import replicas as replicas

StartServer = Callable[..., Server]
OpenChannel = Callable[[Server], grpc.aio.Channel]


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    databases = Databases()
    yield databases
    databases.close()


@pytest.fixture
def database(databases: Databases) -> Iterator[str]:
    url = databases.create()
    yield url
    drop_database(url)


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Makes servers that are not started; whatever becomes of them, they are gone after the test."""
    servers: list[Server] = []

    def make(database_url: str | None, **settings: Any) -> Server:
        server = Server(tmp_path / f"server-{len(servers)}", database_url, **settings)
        servers.append(server)
        return server

    yield make
    for server in servers:
        server.close()


@pytest.fixture
def start_server(make_server: Callable[..., Server], database: str) -> StartServer:
    """Starts servers on the test's own database."""

    def start(**settings: Any) -> Server:
        server = make_server(database, **settings)
        server.start()
        return server

    return start


@pytest.fixture
async def channels() -> AsyncIterator[OpenChannel]:
    """Opens connections that are closed after the test."""
    async with contextlib.AsyncExitStack() as stack:

        def open_channel(server: Server) -> grpc.aio.Channel:
            channel = server.open_channel()
            stack.push_async_callback(channel.close)
            return channel

        yield open_channel


@pytest.fixture(scope="session")
def secured(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """A server with TLS, tokens and a policy, for tests that do not harm it. No secret is ever in its log."""
    url = databases.create()
    folder = tmp_path_factory.mktemp("secured")
    credentials = Credentials(folder / "credentials")
    settings = credentials.settings(POLICY)
    server = Server(
        folder / "server", url, instances=("main", "other"), logging={"level": "debug"}, **settings
    )
    try:
        secured = Secured(server, credentials)
        server.start()
        yield secured
        assert secured.shown(server.log) == []
        assert "Traceback" not in server.log
    finally:
        server.close()
        drop_database(url)


@contextlib.contextmanager
def few_open_files(limit: int) -> Iterator[None]:
    """Programs that are started meanwhile may have this many open files, unless they ask for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(scope="session")
def sturdy(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server as it comes, for tests that are rude to it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4_096)), hard))  # for this side
    url = databases.create()
    server = Server(tmp_path_factory.mktemp("sturdy"), url)
    try:
        with few_open_files(512):
            server.launch()
        server.wait_ready()
        yield server
    finally:
        server.close()
        drop_database(url)


class Impatient:
    """A server with TLS that waits for nobody."""

    def __init__(self, server: Server, credentials: Credentials) -> None:
        self.server = server
        self._credentials = credentials

    def channel(self, address: str | None = None) -> grpc.aio.Channel:
        """A connection of its own; `address`: by way of another one."""
        return self._credentials.channel(address or self.server.endpoint)


@pytest.fixture(scope="session")
def impatient(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Impatient]:
    """Shared by tests of its patience."""
    url = databases.create()
    folder = tmp_path_factory.mktemp("impatient")
    credentials = Credentials(folder / "credentials")
    patience = {"handshake_timeout": "2s", "keepalive_time": "1s", "keepalive_timeout": "2s"}
    server = Server(folder / "server", url, tls=credentials.tls, grpc=patience)
    try:
        server.start()
        yield Impatient(server, credentials)
    finally:
        server.close()
        drop_database(url)
