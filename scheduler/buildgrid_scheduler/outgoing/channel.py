"""Channels to services whose credentials are in files that may change."""

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import grpc
from buildgrid_client.channel import CHANNEL_OPTIONS, parse_endpoint
from buildgrid_client.credentials import BearerToken, FileState, TlsFiles
from google.protobuf.message import Message

log = logging.getLogger(__name__)

if TYPE_CHECKING:  # a class is generic for the type checker alone
    _MultiCallable = grpc.UnaryUnaryMultiCallable[Message, Message]
else:
    _MultiCallable = grpc.UnaryUnaryMultiCallable

CREDENTIALS_CHECK = 10.0
"""How often, in seconds, the files for TLS are looked at."""


class ReloadingChannel(grpc.Channel):
    """A channel to `grpc://HOST:PORT`, or `grpcs://HOST:PORT` for TLS, that follows its files.

    New calls go over a new connection once a file for TLS has changed, and carry the token as it is then. The
    token is sent without TLS, too, for meshes that encrypt on their own. Only calls with one request and one
    answer are offered: those are what assets and log streams need.
    """

    def __init__(
        self,
        endpoint: str,
        tls: TlsFiles | None = None,
        token: BearerToken | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises ValueError for a bad endpoint, OSError or ValueError for a file that cannot be used."""
        self._target, self._secure = parse_endpoint(endpoint)
        self._tls = tls or TlsFiles()
        self._token = token
        self._clock = clock
        self._lock = threading.Lock()
        self._state: tuple[FileState, ...] = self._tls.state()
        self._check_at = clock() + CREDENTIALS_CHECK
        self._retired: grpc.Channel | None = None
        self.metadata()
        self._channel = self._open()

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What each call carries."""
        return () if self._token is None else self._token.metadata()

    def current(self) -> grpc.Channel:
        """The channel for a new call."""
        with self._lock:
            if self._secure and self._clock() >= self._check_at:
                self._check_at = self._clock() + CREDENTIALS_CHECK
                state = self._tls.state()
                if state != self._state:
                    self._replace(state)
            return self._channel

    def _replace(self, state: tuple[FileState, ...]) -> None:
        """Calls under way keep the old channel, until it is replaced, too."""
        try:
            channel = self._open()
        except OSError as error:
            log.warning(
                "%s: changed files for TLS cannot be read, the connection stays: %s", self._target, error
            )
            return
        log.info("%s: files for TLS have changed, connecting anew", self._target)
        if self._retired is not None:
            self._retired.close()
        self._retired, self._channel, self._state = self._channel, channel, state

    def _open(self) -> grpc.Channel:
        if self._secure:
            return grpc.secure_channel(self._target, self._tls.read(), options=CHANNEL_OPTIONS)
        return grpc.insecure_channel(self._target, options=CHANNEL_OPTIONS)

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """See grpc.Channel."""
        return _UnaryUnary(self, method, args, kwargs)

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Not offered."""
        raise NotImplementedError(f"{method}: this channel is for calls with one request and one answer")

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Not offered."""
        raise NotImplementedError(f"{method}: this channel is for calls with one request and one answer")

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Not offered."""
        raise NotImplementedError(f"{method}: this channel is for calls with one request and one answer")

    def subscribe(
        self, callback: Callable[[grpc.ChannelConnectivity], None], try_to_connect: bool = False
    ) -> None:
        """See grpc.Channel; of the connection as it is now."""
        self.current().subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        """See grpc.Channel."""
        self.current().unsubscribe(callback)

    def close(self) -> None:
        """Ends all calls."""
        with self._lock:
            for channel in (self._channel, self._retired):
                if channel is not None:
                    channel.close()

    def __enter__(self) -> "ReloadingChannel":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _UnaryUnary(_MultiCallable):
    """A method, on whatever channel is current when it is called."""

    def __init__(
        self, channel: ReloadingChannel, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self._channel = channel
        self._method = method
        self._args = args
        self._kwargs = kwargs

    def _now(self) -> "grpc.UnaryUnaryMultiCallable[Message, Message]":
        return self._channel.current().unary_unary(self._method, *self._args, **self._kwargs)

    def _with_token(self, options: dict[str, Any]) -> dict[str, Any]:
        return {**options, "metadata": (*(options.get("metadata") or ()), *self._channel.metadata())}

    def __call__(self, request: Message, **options: Any) -> Message:  # type: ignore[override]
        return self._now()(request, **self._with_token(options))

    def with_call(self, request: Message, **options: Any) -> tuple[Message, grpc.Call]:  # type: ignore[override]
        return self._now().with_call(request, **self._with_token(options))

    def future(self, request: Message, **options: Any) -> Any:  # type: ignore[override]
        return self._now().future(request, **self._with_token(options))
