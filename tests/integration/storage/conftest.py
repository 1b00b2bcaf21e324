"""What storages elsewhere need to be elsewhere: a REAPI server and an S3 server, both on loopback."""

from collections.abc import Iterator

import pytest

from tests.integration.storage.remote_server import RemoteServer
from tests.integration.storage.s3_server import Proxy, S3Server


@pytest.fixture
def remote() -> Iterator[RemoteServer]:
    server = RemoteServer()
    server.start()
    yield server
    server.close()


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.close()


@pytest.fixture
def proxy(s3: S3Server) -> Iterator[Proxy]:
    proxy = Proxy(s3.address)
    yield proxy
    proxy.stop()
