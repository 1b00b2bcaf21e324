"""Servers that ask who calls, on a real PostgreSQL."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from tests.credentials.certificates import Authority, Pair
from tests.farm.database import Databases, drop_database
from tests.integration.credentials.programs import BotProcess
from tests.integration.server.secured import POLICY, Credentials, Secured
from tests.integration.server.server_process import Server

StartBot = Callable[..., BotProcess]
_NO_LEEWAY = "0s"


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    databases = Databases()
    yield databases
    databases.close()


@pytest.fixture(scope="session")
def secured(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """TLS of an authority of its own, and tokens."""
    url = databases.create()
    folder = tmp_path_factory.mktemp("tokens")
    credentials = Credentials(folder / "credentials")
    (folder / "ca.pem").write_bytes(credentials.authority.pem)
    settings = credentials.settings(POLICY, leeway=_NO_LEEWAY)
    server = Server(folder / "server", url, instances=("main", "other"), **settings)
    try:
        server.start()
        yield Secured(server, credentials)
    finally:
        server.close()
        drop_database(url)


class MutualTls:
    """A server that takes certificates of `clients`, and shows one of `servers`."""

    def __init__(self, server: Server, servers: Authority, clients: Authority) -> None:
        self.server = server
        self.servers = servers
        self.clients = clients

    def client(self, subject: str, authority: Authority | None = None, **options: Any) -> Pair:
        """A certificate with this common name."""
        return (authority or self.clients).client(subject, **options)


@pytest.fixture(scope="session")
def mutual(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MutualTls]:
    """TLS with certificates of clients, and no tokens."""
    url = databases.create()
    folder = tmp_path_factory.mktemp("mutual")
    servers, clients = Authority("CA of servers"), Authority("CA of clients")
    certificate, key = servers.server().write(folder)
    (folder / "clients.crt").write_bytes(clients.pem)
    policy = [
        {"identities": [{"subject": "alice"}], "rights": ["execute"]},
        {"identities": [{"subject": "bot"}], "rights": ["run-bots"]},
    ]
    server = Server(
        folder / "server",
        url,
        tls={
            "certificate_file": str(certificate),
            "key_file": str(key),
            "client_ca_file": str(folder / "clients.crt"),
        },
        auth={"mtls": {}, "policy": policy},
    )
    try:
        server.start()
        yield MutualTls(server, servers, clients)
    finally:
        server.close()
        drop_database(url)


@pytest.fixture
def start_bot(tmp_path: Path) -> Iterator[StartBot]:
    """Starts bots that are gone after the test."""
    with ExitStack() as stack:

        def start(*flags: str | Path, **options: Any) -> BotProcess:
            return stack.enter_context(closing(BotProcess(tmp_path / "bot", *flags, **options)))

        yield start
