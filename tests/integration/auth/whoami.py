"""A server whose methods, of all four kinds, ask for a right and answer who called."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from buildgrid_scheduler.auth.access import Access, current_caller
from buildgrid_scheduler.auth.policy import Right
from buildgrid_scheduler.config.auth import AuthConfig, TlsConfig
from buildgrid_scheduler.core.errors import SchedulerError
from buildgrid_scheduler.server.auth import build_auth, server_credentials
from grpc_health.v1._async import HealthServicer
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server
from grpc_reflection.v1alpha import reflection

Context = grpc.aio.ServicerContext[Any, Any]
Metadata = tuple[tuple[str, str], ...]

SERVICE = "test.WhoAmI"
KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


@dataclass
class WhoAmI:
    """Requests are instance names, answers the caller's subject: two of them where answers are streamed."""

    access: Access
    port: int = 0
    right: Right = Right.EXECUTE
    handled: int = 0
    turn: asyncio.Event = field(default_factory=asyncio.Event)
    """set: streams go on after their first answer"""

    async def _subject(self, instance: bytes, context: Context) -> bytes:
        self.handled += 1
        try:
            self.access.authorize(self.right, instance.decode())
        except SchedulerError as error:
            await context.abort(error.code, str(error))
        await asyncio.sleep(0)  # other calls run in between
        caller = current_caller()
        return b"nobody" if caller is None else caller.subject.encode()

    async def unary_unary(self, request: bytes, context: Context) -> bytes:
        return await self._subject(request, context)

    async def unary_stream(self, request: bytes, context: Context) -> AsyncIterator[bytes]:
        yield await self._subject(request, context)
        await self.turn.wait()
        yield await self._subject(request, context)

    async def stream_unary(self, requests: AsyncIterator[bytes], context: Context) -> bytes:
        subject = b""
        async for request in requests:
            subject = await self._subject(request, context)
        return subject

    async def stream_stream(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        async for request in requests:
            yield await self._subject(request, context)

    async def read_and_write(self, _requests: object, context: Context) -> None:
        request = await context.read()
        await context.write(await self._subject(request, context))

    def handlers(self) -> grpc.GenericRpcHandler:
        methods: dict[str, Any] = {
            "unary_unary": grpc.unary_unary_rpc_method_handler(self.unary_unary),
            "unary_stream": grpc.unary_stream_rpc_method_handler(self.unary_stream),
            "stream_unary": grpc.stream_unary_rpc_method_handler(self.stream_unary),
            "stream_stream": grpc.stream_stream_rpc_method_handler(self.stream_stream),
            "read_and_write": grpc.stream_stream_rpc_method_handler(self.read_and_write),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)


@asynccontextmanager
async def serving(auth: AuthConfig, tls: TlsConfig | None = None) -> AsyncIterator[WhoAmI]:
    """The server, put together as a replica is, on a port of loopback."""
    authentication = build_auth(auth, tls)
    who = WhoAmI(authentication.access)
    server = grpc.aio.server(interceptors=authentication.interceptors)
    server.add_generic_rpc_handlers((who.handlers(),))
    add_HealthServicer_to_server(HealthServicer(), server)
    reflection.enable_server_reflection((SERVICE, reflection.SERVICE_NAME), server)
    credentials = server_credentials(tls)
    if credentials is None:
        who.port = server.add_insecure_port("127.0.0.1:0")
    else:
        who.port = server.add_secure_port("127.0.0.1:0", credentials)
    authentication.start()
    await server.start()
    try:
        yield who
    finally:
        await server.stop(None)
        authentication.stop()


def bearer(token: str) -> Metadata:
    """The header that carries a token."""
    return (("authorization", f"Bearer {token}"),)


async def ask(
    channel: grpc.aio.Channel, metadata: Metadata = (), *, kind: str = "unary_unary", instance: str = "main"
) -> list[bytes]:
    """All answers of a method. Raises grpc.aio.AioRpcError."""
    method: Any = getattr(channel, "stream_stream" if kind == "read_and_write" else kind)(
        f"/{SERVICE}/{kind}"
    )
    request: Any = instance.encode()
    if not kind.startswith("unary"):
        request = iter([request])
    call = method(request, metadata=metadata, timeout=60)
    if kind.endswith("unary"):
        return [await call]
    return [answer async for answer in call]


def open_stream(channel: grpc.aio.Channel, metadata: Metadata = ()) -> Any:
    """A stream that goes on when the server's `turn` is set."""
    method: Any = channel.unary_stream(f"/{SERVICE}/unary_stream")
    return method(b"main", metadata=metadata)


async def subject(channel: grpc.aio.Channel, metadata: Metadata = ()) -> str:
    """As whom the server knows the caller."""
    return (await ask(channel, metadata))[0].decode()


async def denial(
    channel: grpc.aio.Channel, metadata: Metadata = (), *, kind: str = "unary_unary", instance: str = "main"
) -> tuple[grpc.StatusCode, str]:
    """Code and message of a call that is denied."""
    try:
        answers = await ask(channel, metadata, kind=kind, instance=instance)
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    raise AssertionError(f"answered: {answers}")
