"""A channel whose files change while calls go over it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from buildgrid_client.channel import open_channel
from buildgrid_client.credentials import BearerToken, Credentials, TlsFiles
from buildgrid_client.reloading_channel import ReloadingChannel

from tests.credentials.certificates import Authority

SERVERS, CLIENTS = Authority("CA of servers"), Authority("CA of clients")
Context = Any  # generic only in the stubs
KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


@dataclass
class Echo(grpc.GenericRpcHandler):
    """Methods of each kind, which answer once `go` is set, and who called them with what."""

    go: asyncio.Event = field(default_factory=asyncio.Event)
    tokens: list[object] = field(default_factory=list)
    callers: list[bytes] = field(default_factory=list)
    peers: list[str] = field(default_factory=list)
    _arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        kind = handler_call_details.method.rpartition("/")[2]
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(self._streamed if kind.endswith("stream") else self._one)

    async def _one(self, _request: object, context: Context) -> bytes:
        await self._note(context)
        return b"answer"

    async def _streamed(self, _request: object, context: Context) -> AsyncIterator[bytes]:
        await self._note(context)
        yield b"answer"

    async def _note(self, context: Context) -> None:
        self.tokens.append(dict(context.invocation_metadata()).get("authorization"))
        self.callers += context.auth_context().get("x509_common_name", [])
        self.peers.append(context.peer())
        async with self._arrived:
            self._arrived.notify_all()
        await self.go.wait()

    async def until(self, calls: int) -> None:
        """Return when so many have begun."""
        async with asyncio.timeout(30), self._arrived:
            await self._arrived.wait_for(lambda: len(self.peers) >= calls)


@pytest.fixture
def echo() -> Echo:
    echo = Echo()
    echo.go.set()
    return echo


@pytest.fixture
async def secure(echo: Echo) -> AsyncIterator[str]:
    """It shows a certificate, and asks for one."""
    pair = SERVERS.server()
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((echo,))
    port = server.add_secure_port(
        "127.0.0.1:0",
        grpc.ssl_server_credentials([(pair.key, pair.certificate)], CLIENTS.pem, require_client_auth=True),
    )
    await server.start()
    yield f"grpcs://localhost:{port}"
    await server.stop(None)


@pytest.fixture
async def plain(echo: Echo) -> AsyncIterator[str]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((echo,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"grpc://127.0.0.1:{port}"
    await server.stop(None)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    (tmp_path / "ca").write_bytes(SERVERS.pem)
    return TlsFiles(tmp_path / "ca", *CLIENTS.client("first").write(tmp_path))


async def call(channel: grpc.aio.Channel, kind: str, **options: Any) -> bytes:
    """The answer of a method of this kind."""
    method: Any = getattr(channel, kind)(f"/echo/{kind}")
    begun = method(iter([b"x"]) if kind.startswith("stream") else b"x", timeout=30, **options)
    if kind.endswith("stream"):
        return b"".join([part async for part in begun])
    answer: bytes = await begun
    return answer


@pytest.mark.parametrize("kind", KINDS)
async def test_calls_of_all_kinds_carry_the_token_of_the_moment(
    plain: str, echo: Echo, stack: AsyncExitStack, tmp_path: Path, kind: str
) -> None:
    token = tmp_path / "token"
    token.write_text("first")
    channel = await stack.enter_async_context(open_channel(plain, Credentials(token=BearerToken(token))))
    assert await call(channel, kind) == b"answer"
    token.write_text("second")
    assert await call(channel, kind, metadata=(("other", "header"),)) == b"answer"
    assert echo.tokens == ["Bearer first", "Bearer second"]
    assert len(set(echo.peers)) == 1, "it is one connection"


async def test_a_new_certificate_is_for_new_calls(
    secure: str, echo: Echo, stack: AsyncExitStack, files: TlsFiles, tmp_path: Path
) -> None:
    channel = await stack.enter_async_context(open_channel(secure, Credentials(files)))
    echo.go.clear()
    under_way = [asyncio.ensure_future(call(channel, kind)) for kind in ("unary_unary", "unary_stream")]
    await echo.until(2)
    CLIENTS.client("second").write(tmp_path)
    after = asyncio.ensure_future(call(channel, "unary_unary"))
    await echo.until(3)
    echo.go.set()
    assert await asyncio.gather(*under_way, after) == [b"answer"] * 3
    assert echo.callers == [b"first", b"first", b"second"]
    assert await call(channel, "unary_unary") == b"answer"
    assert echo.peers[-1] == echo.peers[2] != echo.peers[0]


async def test_a_former_connection_is_closed_after_its_last_call(
    secure: str, echo: Echo, stack: AsyncExitStack, files: TlsFiles, tmp_path: Path
) -> None:
    opened: list[grpc.aio.Channel] = []

    def connect(tls: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
        assert tls is not None
        opened.append(grpc.aio.secure_channel(secure.removeprefix("grpcs://"), tls))
        return opened[-1]

    channel = ReloadingChannel(connect, Credentials(files), who=secure, secure=True)
    await stack.enter_async_context(channel)
    echo.go.clear()
    running = asyncio.ensure_future(call(channel, "unary_unary"))
    await echo.until(1)
    CLIENTS.client("second").write(tmp_path)
    other = asyncio.ensure_future(call(channel, "unary_unary"))
    await echo.until(2)
    former, now = opened
    assert former.get_state() is now.get_state() is grpc.ChannelConnectivity.READY
    closed = asyncio.ensure_future(former.wait_for_state_change(grpc.ChannelConnectivity.READY))
    echo.go.set()
    assert [await running, await other] == [b"answer"] * 2
    await asyncio.wait([closed], timeout=30)
    assert closed.done()
    assert now.get_state() is grpc.ChannelConnectivity.READY
    print("EXC", closed.exception(), former.get_state())


async def test_a_ca_that_is_put_right_is_believed_without_a_restart(
    secure: str, echo: Echo, stack: AsyncExitStack, files: TlsFiles, tmp_path: Path
) -> None:
    (tmp_path / "ca").write_bytes(Authority("another CA").pem)
    channel = await stack.enter_async_context(open_channel(secure, Credentials(files)))
    with pytest.raises(grpc.aio.AioRpcError, match="CERTIFICATE_VERIFY_FAILED"):
        await call(channel, "unary_unary")
    (tmp_path / "ca").write_bytes(SERVERS.pem)
    assert await call(channel, "unary_unary") == b"answer"
    assert echo.callers == [b"first"]


async def test_closing_ends_the_calls_of_all_connections(
    secure: str, echo: Echo, files: TlsFiles, tmp_path: Path
) -> None:
    channel = open_channel(secure, Credentials(files))
    echo.go.clear()
    first = asyncio.ensure_future(call(channel, "unary_unary"))
    await echo.until(1)
    CLIENTS.client("second").write(tmp_path)
    second = asyncio.ensure_future(call(channel, "unary_stream"))
    await echo.until(2)
    await channel.close()
    ended = await asyncio.gather(first, second, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError | grpc.aio.AioRpcError) for end in ended)
