"""What the replicas of a Scheduler tell, and are told: the client of their Fleet service. Synchronous."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol, cast

import grpc
from buildgrid_protos.buildgrid.fleet.v1.fleet_pb2 import (
    DrainRequest,
    GetStateRequest,
    UndrainRequest,
    WatchRequest,
)
from buildgrid_protos.buildgrid.fleet.v1.fleet_pb2_grpc import FleetStub

from buildgrid_operator.cluster.authorities import Authorities, NoAuthority
from buildgrid_operator.cluster.errors import ClusterError
from buildgrid_operator.cluster.fleet_state import FleetState, state_of
from buildgrid_operator.cluster.plain_text import PlainTextWarnings
from buildgrid_operator.desired.endpoints import FleetAddress

Metadata = tuple[tuple[str, str | bytes], ...]
Options = tuple[tuple[str, int | str], ...]
Names = tuple[str, ...]
DEADLINE = timedelta(seconds=5)
_PREFIXES = {"grpc://": False, "grpcs://": True}
# One connection for one question: nothing is left over of a replica, or a certificate, that is gone.
_OPTIONS: Options = (
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_receive_message_length", 64 * 2**20),  # of a farm with 100,000 bots and more
)
# Of a stream: a replica that went without a word is found out (the server takes a ping every 10 s).
_WATCH_OPTIONS: Options = (
    *_OPTIONS,
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
)


class FleetError(Exception):
    """The replicas gave no answer that can be used. The text is for the person who reads the condition."""


class FleetUnreachable(FleetError):
    """Nobody answered in time, or the database is away: it may go well later."""


class FleetRefused(FleetError):
    """They answered that they will not: without a change it stays so."""


FleetSource = Callable[[FleetAddress], FleetState]
"""The address of a Scheduler -> its state. Raises FleetError."""


class Cancellable(Protocol):
    """A call that may be ended early."""

    def cancel(self) -> bool:
        """End it."""


class Tokens(Protocol):
    """The operator's own tokens."""

    def __call__(self, audience: str) -> str:
        """One for an audience. Raises ClusterError."""

    def forget(self, audience: str) -> None:
        """It was not accepted: the next one must be new."""


class FleetClient:
    """Asks the Fleet service of Schedulers. Called from threads."""

    def __init__(
        self,
        *,
        tokens: Tokens | None = None,
        authorities: Authorities | None = None,
        ca_file: Path | None = None,
        endpoint: str | None = None,
        deadline: timedelta = DEADLINE,
    ) -> None:
        """`tokens`: shown to Schedulers that ask for one.

        `authorities`: who signs the certificates of Schedulers that say so; unset: those are refused.
        `ca_file`: PEM of who signs those of all others, read anew each time; unset: whom the system believes.
        `endpoint`: where Schedulers are reached in place of their Service's address, for an operator outside
        of the cluster, as grpc://HOST:PORT with {namespace} and {name} in it.
        """
        self._tokens = tokens
        self._authorities = authorities
        self._ca_file = ca_file
        self._endpoint = endpoint
        self._timeout = deadline.total_seconds()
        self._plain_text = PlainTextWarnings()

    def __call__(self, address: FleetAddress) -> FleetState:
        """The state now. Raises FleetError."""
        with self._calling(address) as (stub, metadata):
            return state_of(stub.GetState(GetStateRequest(), timeout=self._timeout, metadata=metadata))

    def watch(self, address: FleetAddress, begun: Callable[[Cancellable], None]) -> Iterator[FleetState]:
        """The state now, and whenever it has changed, until the replica ends it. Raises FleetError.

        `begun` is told of what ends it from another thread.
        """
        with self._calling(address, _WATCH_OPTIONS) as (stub, metadata):
            call = stub.Watch(WatchRequest(), metadata=metadata)
            begun(call)
            for message in call:
                yield state_of(message)

    def drain_if_idle(self, address: FleetAddress, instance: str, bots: Sequence[str], owner: str) -> Names:
        """Mark those that have no lease, and return them. Raises FleetError: then they may be marked."""
        request = DrainRequest(instance_name=instance, mode=DrainRequest.IF_IDLE, bot_ids=bots, owner=owner)
        with self._calling(address) as (stub, metadata):
            return tuple(stub.Drain(request, timeout=self._timeout, metadata=metadata).bot_ids)

    def drain_when_idle(
        self, address: FleetAddress, instance: str, bots: Sequence[str], owner: str, *, disrupted: bool
    ) -> None:
        """Mark them all. `disrupted`: somebody else ends their pods. Raises FleetError likewise."""
        request = DrainRequest(
            instance_name=instance,
            mode=DrainRequest.WHEN_IDLE,
            bot_ids=bots,
            owner=owner,
            disrupted=disrupted,
        )
        with self._calling(address) as (stub, metadata):
            stub.Drain(request, timeout=self._timeout, metadata=metadata)

    def undrain(
        self,
        address: FleetAddress,
        instance: str,
        bots: Sequence[str],
        owner: str,
        *,
        busy_only: bool = False,
    ) -> None:
        """Take the owner's marks away; `busy_only`: of bots that have a lease. Raises FleetError likewise."""
        if not bots:
            return
        request = UndrainRequest(instance_name=instance, bot_ids=bots, owner=owner, busy_only=busy_only)
        with self._calling(address) as (stub, metadata):
            stub.Undrain(request, timeout=self._timeout, metadata=metadata)

    @contextmanager
    def _calling(
        self, address: FleetAddress, options: Options = _OPTIONS
    ) -> Iterator[tuple[FleetStub, Metadata]]:
        """A stub and what goes with each call. What goes wrong inside is raised as FleetError."""
        if self._endpoint is not None:
            elsewhere = self._endpoint.format(namespace=address.namespace, name=address.name)
            address = replace(address, endpoint=elsewhere)
        try:
            with self._channel(address, options) as channel:
                yield FleetStub(channel), self._metadata(address)
        except grpc.RpcError as error:
            self._forget(address, error)
            raise _error_of(error, address) from error
        except NoAuthority as error:
            raise FleetRefused(str(error)) from error
        except ClusterError as error:
            kind = FleetUnreachable if error.transient else FleetRefused
            raise kind(f"{address.endpoint}: {error}") from error
        except OSError as error:
            raise FleetRefused(
                f"{address.endpoint}: a file of the operator cannot be read: {error}"
            ) from error

    def _metadata(self, address: FleetAddress) -> Metadata:
        if self._tokens is None or address.audience is None:
            return ()
        token = self._tokens(address.audience)
        remedy = f"set spec.tls of the Scheduler {address.namespace}/{address.name}"
        if self._endpoint is not None:
            remedy += ", and grpcs:// in --scheduler-endpoint"
        self._plain_text.token_goes_to(address.endpoint, remedy)
        return (("authorization", f"Bearer {token}"),)

    def _channel(self, address: FleetAddress, options: Options) -> grpc.Channel:
        for prefix, encrypted in _PREFIXES.items():
            if address.endpoint.startswith(prefix):
                place = address.endpoint.removeprefix(prefix)
                if not encrypted:
                    return grpc.insecure_channel(place, options)
                if address.server_name is not None:
                    options = (*options, ("grpc.ssl_target_name_override", address.server_name))
                credentials = grpc.ssl_channel_credentials(self._roots(address))
                return grpc.secure_channel(place, credentials, options)
        raise FleetRefused(f"{address.endpoint}: must begin with grpc:// or grpcs://")

    def _roots(self, address: FleetAddress) -> bytes | None:
        named = address.authority
        if named is None:
            return None if self._ca_file is None else self._ca_file.read_bytes()
        if self._authorities is None:
            raise FleetRefused(
                f"{address.endpoint}: spec.tls.caConfigMapRef names the ConfigMap {named.name}, and this "
                "client was not told how to read it: give it `authorities`"
            )
        return self._authorities(address.namespace, named.name, named.key)

    def _forget(self, address: FleetAddress, error: Any) -> None:
        """What is remembered and may be the reason. Not the token, when nobody was there to see it."""
        refused = error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
        if refused and address.audience is not None and self._tokens is not None:
            self._tokens.forget(address.audience)
        if address.authority is not None and self._authorities is not None:
            self._authorities.forget(address.namespace, address.authority.name, address.authority.key)


_REMEDIES = {
    grpc.StatusCode.UNAUTHENTICATED: "the operator's token is not accepted there",
    grpc.StatusCode.PERMISSION_DENIED: "the operator has no right to administer there",
    grpc.StatusCode.UNIMPLEMENTED: "its version has no Fleet service: use a newer spec.image",
}
_LATER = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
)


def _error_of(error: grpc.RpcError, address: FleetAddress) -> FleetError:
    # What a call raises is a call, too, which the types do not say.
    call = cast(grpc.Call, error)
    code, details = call.code(), call.details() or "no details"
    words = f"{address.endpoint}: {_REMEDIES.get(code, details)} ({code.name})"
    if address.endpoint.startswith("grpcs://") and _is_about_certificates(details):
        name = address.server_name or "the host there"
        words += (
            f"; its certificate must be for {name} (spec.tls.serverName), and signed by an authority that "
            "the operator believes (spec.tls.caConfigMapRef, or --scheduler-ca-file)"
        )
    return FleetUnreachable(words) if code in _LATER else FleetRefused(words)


def _is_about_certificates(details: str) -> bool:
    return any(word in details.upper() for word in ("CERTIFICATE", "PEER NAME", "HOSTNAME"))
