"""The connection to another REAPI server: one channel, with credentials that may change under it."""

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import grpc
from buildgrid_client.channel import CHANNEL_OPTIONS, parse_endpoint
from buildgrid_client.credentials import BearerToken, FileState, TlsFiles
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2_grpc import (
    ActionCacheStub,
    CapabilitiesStub,
    ContentAddressableStorageStub,
)
from buildgrid_protos.google.bytestream.bytestream_pb2_grpc import ByteStreamStub

from buildgrid_scheduler.core.errors import FailedPrecondition, Unavailable
from buildgrid_scheduler.storage.outages import CallFailed, Outages

# Seconds that a call with one answer may take: 4 MiB through a slow network, and a server that is busy.
UNARY_DEADLINE = 60.0
# How often, in seconds, the files of the credentials are looked at.
_CREDENTIALS_CHECK = 10.0

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RemoteEndpoint:
    """A REAPI server: `grpc://HOST:PORT`, or `grpcs://HOST:PORT` for TLS.

    `token` is a file with a bearer token; it is sent without TLS too, for meshes that encrypt on their own.
    """

    endpoint: str
    tls: TlsFiles = field(default_factory=TlsFiles)
    token: Path | None = None


class Stubs(NamedTuple):
    """The services of one channel."""

    cas: ContentAddressableStorageStub
    bytestream: ByteStreamStub
    action_cache: ActionCacheStub
    capabilities: CapabilitiesStub


class RemoteConnection:
    """Thread-safe. `deadline` bounds a call with one answer, in seconds.

    Connects on first use, and again whenever that is needed (gRPC sees to it).
    """

    def __init__(self, remote: RemoteEndpoint, outages: Outages, *, deadline: float = UNARY_DEADLINE) -> None:
        self.outages = outages
        self._deadline = deadline
        self._remote = remote
        self._target, self._secure = parse_endpoint(remote.endpoint)
        self._token = None if remote.token is None else BearerToken(remote.token)
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._stubs: Stubs | None = None
        self._credentials: tuple[FileState, ...] = ()
        self._check_at = 0.0
        self._retired: grpc.Channel | None = None
        self._stopped = False

    def start(self) -> None:
        """FailedPrecondition when a file of the credentials cannot be read."""
        self._stopped = False
        self.outages.start()
        try:
            self._metadata()
            self._current()
        except (OSError, ValueError) as error:
            raise FailedPrecondition(f"{self.outages.name}: credentials cannot be used: {error}") from error

    def stop(self) -> None:
        """Ends waiting and running calls: they raise Unavailable."""
        self._stopped = True
        self.outages.stop()
        with self._lock:
            channels = (self._channel, self._retired)
            self._channel = self._retired = self._stubs = None
        for channel in channels:
            if channel is not None:
                channel.close()

    def call(
        self,
        what: str,
        method: Callable[[Stubs], "grpc.UnaryUnaryMultiCallable[RequestT, ResponseT]"],
        request: RequestT,
    ) -> ResponseT:
        """The answer, waiting out outages. Raises SchedulerErrors as `Outages` says."""
        return self.outages.retrying(what, lambda: self.try_call(method, request))

    def try_call(
        self,
        method: Callable[[Stubs], "grpc.UnaryUnaryMultiCallable[RequestT, ResponseT]"],
        request: RequestT,
        deadline: float | None = None,
    ) -> ResponseT:
        """One try, of at most `deadline` seconds. Raises CallFailed."""
        timeout = self._deadline if deadline is None else deadline
        return self.guarded(
            lambda stubs, metadata: method(stubs)(request, timeout=timeout, metadata=metadata)
        )

    def try_together(
        self,
        method: Callable[[Stubs], "grpc.UnaryUnaryMultiCallable[RequestT, ResponseT]"],
        requests: Iterable[RequestT],
        deadline: float | None = None,
    ) -> list[ResponseT | CallFailed]:
        """One try of several calls at once: an outcome each, in order."""
        self.outages.check_running()
        timeout = self._deadline if deadline is None else deadline

        def begin(request: RequestT) -> "grpc.Future[ResponseT]":
            return self.guarded(
                lambda stubs, metadata: method(stubs).future(request, timeout=timeout, metadata=metadata)
            )

        futures = [begin(request) for request in requests]
        outcomes: list[ResponseT | CallFailed] = []
        for future in futures:
            try:
                outcomes.append(future.result())
            except grpc.FutureCancelledError:
                outcomes.append(CallFailed(grpc.StatusCode.CANCELLED, "the channel was closed"))
            except grpc.RpcError as error:
                outcomes.append(failure_of(error))
        return outcomes

    def guarded(self, call: Callable[[Stubs, tuple[tuple[str, str], ...]], ResponseT]) -> ResponseT:
        """Makes a call with the stubs and the metadata of the moment. Raises CallFailed, or Unavailable."""
        stubs = self._current()
        try:
            return call(stubs, self._metadata())
        except grpc.RpcError as error:
            raise failure_of(error) from error
        except ValueError as error:
            # What gRPC raises for a channel that was closed since.
            if self._stopped:
                raise Unavailable(f"{self.outages.name} is not used any more: stopping") from error
            raise

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return () if self._token is None else self._token.metadata()

    def _current(self) -> Stubs:
        with self._lock:
            if self._stopped:
                raise Unavailable(f"{self.outages.name} is not used any more: stopping")
            now = self.outages.clock()
            if self._stubs is None or (self._secure and now >= self._check_at):
                self._check_at = now + _CREDENTIALS_CHECK
                state = self._remote.tls.state() if self._secure else ()
                if self._stubs is None or state != self._credentials:
                    self._stubs = self._open(state)
            return self._stubs

    def _open(self, state: tuple[FileState, ...]) -> Stubs:
        """A new channel. The old one goes on for the calls that it carries, until it is replaced, too."""
        try:
            channel = self._new_channel()
        except OSError as error:
            if self._stubs is None:
                raise
            _log.warning("%s: new credentials cannot be read: %s", self.outages.name, error)
            return self._stubs
        if self._channel is not None:
            _log.info("%s: the credentials have changed, connecting anew", self.outages.name)
        if self._retired is not None:
            self._retired.close()
        self._retired, self._channel = self._channel, channel
        self._credentials = state
        return Stubs(
            ContentAddressableStorageStub(channel),
            ByteStreamStub(channel),
            ActionCacheStub(channel),
            CapabilitiesStub(channel),
        )

    def _new_channel(self) -> grpc.Channel:
        if self._secure:
            return grpc.secure_channel(self._target, self._remote.tls.read(), options=CHANNEL_OPTIONS)
        return grpc.insecure_channel(self._target, options=CHANNEL_OPTIONS)


def failure_of(error: grpc.RpcError) -> CallFailed:
    """How a call ended."""
    call: Any = error  # every error of a call is a grpc.Call as well, which its type does not say
    return CallFailed(call.code() or grpc.StatusCode.UNKNOWN, call.details() or "")
