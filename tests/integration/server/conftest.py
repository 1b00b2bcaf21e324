"""Server processes on a real PostgreSQL."""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.farm.database import Databases, drop_database
from tests.integration.server.server_process import Server

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
