"""A channel whose credentials are in files that may change under it."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from buildgrid_client.credentials import Credentials, TlsWatch

# Opens a connection; None: without TLS.
Connect = Callable[[grpc.ChannelCredentials | None], grpc.aio.Channel]
_Metadata = tuple[tuple[str, str], ...]


class ReloadingChannel(grpc.aio.Channel):
    """A channel that follows its files. For one event loop.

    Each call carries the token as it is then. New calls go over a new connection once a file for TLS has
    changed; calls under way keep theirs, which is closed after the last of them.
    """

    def __init__(
        self,
        connect: Connect,
        credentials: Credentials,
        *,
        who: str,
        secure: bool,
    ) -> None:
        """`who` is called, for the log. Raises OSError or ValueError for a file that cannot be used."""
        self._connect = connect
        self._token = credentials.token
        self._loop = asyncio.get_running_loop()
        self._closing: set[asyncio.Task[None]] = set()
        self._metadata()
        self._watch = TlsWatch(credentials.tls, who) if secure else None
        self._now = _Connection(connect(self._watch.first if self._watch is not None else None))
        self._former: set[_Connection] = set()

    def begin(self, call_with: Callable[[grpc.aio.Channel, _Metadata], Any]) -> Any:
        """A call, over the connection of the moment and with the token of the moment."""
        connection = self._current()
        call = call_with(connection.channel, self._metadata())
        connection.calls += 1
        call.add_done_callback(lambda _: self._ended(connection))
        return call

    def _metadata(self) -> _Metadata:
        return () if self._token is None else self._token.metadata()

    def _current(self) -> "_Connection":
        renewed = None if self._watch is None else self._watch.renewed()
        if renewed is not None:
            former, self._now = self._now, _Connection(self._connect(renewed))
            self._former.add(former)
            self._let_go(former)
        return self._now

    def _ended(self, connection: "_Connection") -> None:
        connection.calls -= 1
        self._let_go(connection)

    def _let_go(self, connection: "_Connection") -> None:
        """Close it, unless it is needed. Calls may also end when nothing runs any more."""
        if connection.calls or connection not in self._former or self._loop.is_closed():
            return
        self._former.discard(connection)
        closing = self._loop.create_task(connection.channel.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """See grpc.aio.Channel."""
        return _Method(self, lambda channel: channel.unary_unary(method, *args, **kwargs))

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """See grpc.aio.Channel."""
        return _Method(self, lambda channel: channel.unary_stream(method, *args, **kwargs))

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """See grpc.aio.Channel."""
        return _Method(self, lambda channel: channel.stream_unary(method, *args, **kwargs))

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """See grpc.aio.Channel."""
        return _Method(self, lambda channel: channel.stream_stream(method, *args, **kwargs))

    async def close(self, grace: float | None = None) -> None:
        """Ends all calls."""
        former, self._former = self._former, set()
        await asyncio.gather(
            *(connection.channel.close(grace) for connection in (self._now, *former)), *self._closing
        )

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Of the connection that new calls take."""
        return self._now.channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """See `get_state`."""
        await self._now.channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """See `get_state`."""
        await self._now.channel.channel_ready()

    async def __aenter__(self) -> "ReloadingChannel":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class _Connection:
    """A channel with the credentials of a moment, and how many calls it carries."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.calls = 0


class _Method:
    """What stubs call: a method, on whatever connection is the one of the moment."""

    def __init__(self, channel: ReloadingChannel, on: Callable[[grpc.aio.Channel], Any]) -> None:
        self._channel = channel
        self._on = on

    def __call__(self, *request: Any, **options: Any) -> Any:
        given = tuple(options.pop("metadata", None) or ())
        return self._channel.begin(
            lambda channel, more: self._on(channel)(*request, metadata=(*given, *more), **options)
        )
