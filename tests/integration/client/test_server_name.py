"""A server that is called by another name than its certificate has."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from buildgrid_client.channel import open_channel
from buildgrid_client.credentials import Credentials, TlsFiles

from tests.credentials.certificates import SERVER_NAME, Authority

AUTHORITY = Authority()


class _Answer(grpc.GenericRpcHandler):
    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        async def answer(_request: bytes, _context: object) -> bytes:
            return b"answer"

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture
async def endpoint() -> AsyncIterator[str]:
    """At an address that is not in the certificate."""
    pair = AUTHORITY.server()
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_Answer(),))
    port = server.add_secure_port("127.0.0.2:0", grpc.ssl_server_credentials([(pair.key, pair.certificate)]))
    await server.start()
    yield f"grpcs://127.0.0.2:{port}"
    await server.stop(None)


@pytest.fixture
def credentials(tmp_path: Path) -> Credentials:
    (tmp_path / "ca").write_bytes(AUTHORITY.pem)
    return Credentials(TlsFiles(tmp_path / "ca"))


async def call(channel: grpc.aio.Channel) -> bytes:
    method: Any = channel.unary_unary("/any/method")
    answer: bytes = await method(b"", timeout=30)
    return answer


async def test_it_is_believed_by_the_name_that_the_caller_expects(
    endpoint: str, credentials: Credentials
) -> None:
    async with open_channel(endpoint, credentials, SERVER_NAME) as channel:
        assert await call(channel) == b"answer"


@pytest.mark.parametrize("name", [None, "other.example.org"])
async def test_it_is_not_believed_by_another(
    endpoint: str, credentials: Credentials, name: str | None
) -> None:
    async with open_channel(endpoint, credentials, name) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(channel)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
