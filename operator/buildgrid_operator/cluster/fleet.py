"""What the replicas of a Scheduler tell: the client of their Fleet service. Synchronous."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, cast

import grpc
from buildgrid_protos.buildgrid.fleet.v1.fleet_pb2 import BotCount, GetStateRequest
from buildgrid_protos.buildgrid.fleet.v1.fleet_pb2 import FleetState as FleetMessage
from buildgrid_protos.buildgrid.fleet.v1.fleet_pb2_grpc import FleetStub
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2 import BotStatus
from buildgrid_scheduler.core.clock import from_timestamp

from buildgrid_operator.cluster.authorities import Authorities, NoAuthority
from buildgrid_operator.cluster.errors import ClusterError
from buildgrid_operator.desired.endpoints import FleetAddress

DEADLINE = timedelta(seconds=5)
_PREFIXES = {"grpc://": False, "grpcs://": True}
# One connection for one question: nothing is left over of a replica, or a certificate, that is gone.
_OPTIONS = (("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1))


class FleetError(Exception):
    """The replicas gave no answer that can be used. The text is for the person who reads the condition."""


class FleetUnreachable(FleetError):
    """Nobody answered in time, or the database is away: it may go well later."""


class FleetRefused(FleetError):
    """They answered that they will not: without a change it stays so."""


@dataclass(frozen=True, slots=True)
class Replica:
    """A scheduler process that lives."""

    id: str
    host: str
    """in Kubernetes its pod's name"""
    version: str
    config_hash: str
    """SHA-256, in hex, of the configuration in force"""
    refused_hash: str = ""
    """of a newer one that it could not take up"""
    refused_error: str = ""
    """why not"""
    fields_at_restart: tuple[str, ...] = ()
    """fields of the configuration in force that wait for the next start"""


@dataclass(frozen=True, slots=True)
class Requirement:
    """Unfinished jobs of one instance that require the same of a bot."""

    instance: str
    hash: str
    properties: Mapping[str, tuple[str, ...]]
    """what a bot must offer: key -> values"""
    queued: int = 0
    executing: int = 0
    oldest_queued: datetime | None = None


@dataclass(frozen=True, slots=True)
class FleetState:
    """All replicas, and all unfinished jobs by what they require."""

    replicas: tuple[Replica, ...] = ()
    requirements: tuple[Requirement, ...] = ()
    bots: Mapping[str, int] = field(default_factory=dict)
    """bots with a session, by the status that they report, as RWAPI names it; of all instances"""

    @property
    def queued(self) -> int:
        """Jobs that wait."""
        return sum(requirement.queued for requirement in self.requirements)

    @property
    def executing(self) -> int:
        """Jobs that bots have."""
        return sum(requirement.executing for requirement in self.requirements)

    @property
    def oldest_queued(self) -> datetime | None:
        """Since when the oldest waiting job waits; None if none does."""
        moments = [each.oldest_queued for each in self.requirements if each.oldest_queued is not None]
        return min(moments, default=None)

    @property
    def connected_bots(self) -> int:
        """Bots with a session, whatever they report."""
        return sum(self.bots.values())


FleetSource = Callable[[FleetAddress], FleetState]
"""The address of a Scheduler -> its state. Raises FleetError."""


class Tokens(Protocol):
    """The operator's own tokens."""

    def __call__(self, audience: str) -> str:
        """One for an audience. Raises ClusterError."""

    def forget(self, audience: str) -> None:
        """It was not accepted: the next one must be new."""


class FleetClient:
    """Asks the Fleet service of Schedulers."""

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

        `authorities`: who signs the certificates of Schedulers that say so. `ca_file`: PEM of who signs those
        of all others, read anew each time; unset: whom the system believes. `endpoint`: where Schedulers are
        reached in place of their Service's address, for an operator outside of the cluster, as
        grpc://HOST:PORT with {namespace} and {name} in it.
        """
        self._tokens = tokens
        self._authorities = authorities
        self._ca_file = ca_file
        self._endpoint = endpoint
        self._deadline = deadline

    def __call__(self, address: FleetAddress) -> FleetState:
        """The state now. Raises FleetError."""
        if self._endpoint is not None:
            elsewhere = self._endpoint.format(namespace=address.namespace, name=address.name)
            address = replace(address, endpoint=elsewhere)
        try:
            with self._channel(address) as channel:
                answer = FleetStub(channel).GetState(
                    GetStateRequest(),
                    timeout=self._deadline.total_seconds(),
                    metadata=self._metadata(address),
                )
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
        return state_of(answer)

    def _metadata(self, address: FleetAddress) -> tuple[tuple[str, str | bytes], ...]:
        if self._tokens is None or address.audience is None:
            return ()
        return (("authorization", f"Bearer {self._tokens(address.audience)}"),)

    def _channel(self, address: FleetAddress) -> grpc.Channel:
        for prefix, encrypted in _PREFIXES.items():
            if address.endpoint.startswith(prefix):
                place = address.endpoint.removeprefix(prefix)
                if not encrypted:
                    return grpc.insecure_channel(place, _OPTIONS)
                named = (("grpc.ssl_target_name_override", address.server_name),)
                options = _OPTIONS if address.server_name is None else (*_OPTIONS, *named)
                credentials = grpc.ssl_channel_credentials(self._roots(address))
                return grpc.secure_channel(place, credentials, options)
        raise FleetRefused(f"{address.endpoint}: must begin with grpc:// or grpcs://")

    def _roots(self, address: FleetAddress) -> bytes | None:
        named = address.authority
        if named is not None and self._authorities is not None:
            return self._authorities(address.namespace, named.name, named.key)
        return None if self._ca_file is None else self._ca_file.read_bytes()

    def _forget(self, address: FleetAddress, error: Any) -> None:
        """What is remembered and may be the reason. Not the token, when nobody was there to see it."""
        refused = error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
        if refused and address.audience is not None and self._tokens is not None:
            self._tokens.forget(address.audience)
        if address.authority is not None and self._authorities is not None:
            self._authorities.forget(address.namespace, address.authority.name, address.authority.key)


def state_of(message: FleetMessage) -> FleetState:
    """From an answer."""
    return FleetState(
        replicas=tuple(
            Replica(
                id=each.id,
                host=each.host,
                version=each.version,
                config_hash=each.config_hash,
                refused_hash=each.refused_config_hash,
                refused_error=each.refused_config_error,
                fields_at_restart=tuple(each.config_fields_at_restart),
            )
            for each in message.replicas
        ),
        requirements=tuple(
            Requirement(
                instance=each.instance_name,
                hash=each.requirement_hash,
                properties=_properties(each.properties),
                queued=each.queued,
                executing=each.executing,
                oldest_queued=from_timestamp(each.oldest_queued_time),
            )
            for each in message.requirements
        ),
        bots=_by_status(message.bots),
    )


def _by_status(found: Iterable[BotCount]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for each in found:
        # A newer scheduler may tell of one that has no name here.
        status = BotStatus.Name(each.status) if each.status in BotStatus.values() else str(each.status)
        counts[status] = counts.get(status, 0) + each.count
    return counts


def _properties(found: Any) -> dict[str, tuple[str, ...]]:
    values: dict[str, list[str]] = {}
    for each in found:
        values.setdefault(each.key, []).append(each.value)
    return {key: tuple(sorted(those)) for key, those in sorted(values.items())}


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
