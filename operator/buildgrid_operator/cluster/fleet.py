"""What the replicas of a Scheduler tell: the client of their Fleet service. Synchronous."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import grpc
from buildgrid_protos.buildgrid.fleet.v1.fleet_pb2 import FleetState as FleetMessage
from buildgrid_protos.buildgrid.fleet.v1.fleet_pb2 import GetStateRequest
from buildgrid_protos.buildgrid.fleet.v1.fleet_pb2_grpc import FleetStub
from buildgrid_scheduler.core.clock import from_timestamp

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


FleetSource = Callable[[str, str, str], FleetState]
"""(namespace, name, endpoint) of a Scheduler -> its state. Raises FleetError."""


class FleetClient:
    """Asks the Fleet service of Schedulers."""

    def __init__(
        self,
        *,
        token_file: Path | None = None,
        ca_file: Path | None = None,
        endpoint: str | None = None,
        deadline: timedelta = DEADLINE,
    ) -> None:
        """`token_file`: shown to every Scheduler if it exists, read anew each time, as the kubelet renews it.

        `ca_file`: PEM of the authorities that sign the certificates of Schedulers with TLS; unset: those of
        the system. `endpoint`: where Schedulers are reached in place of their Service's address, for an
        operator outside of the cluster, as grpc://HOST:PORT with {namespace} and {name} in it.
        """
        self._token_file = token_file
        self._ca_file = ca_file
        self._endpoint = endpoint
        self._deadline = deadline

    def __call__(self, namespace: str, name: str, endpoint: str) -> FleetState:
        """The state now. `endpoint` is grpc://HOST:PORT or grpcs://HOST:PORT. Raises FleetError."""
        if self._endpoint is not None:
            endpoint = self._endpoint.format(namespace=namespace, name=name)
        try:
            metadata = self._metadata()
            with self._channel(endpoint) as channel:
                answer = FleetStub(channel).GetState(
                    GetStateRequest(), timeout=self._deadline.total_seconds(), metadata=metadata
                )
        except grpc.RpcError as error:
            raise _error_of(error, endpoint) from error
        except OSError as error:
            raise FleetRefused(f"{endpoint}: a file of the operator cannot be read: {error}") from error
        return state_of(answer)

    def _metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        if self._token_file is None or not self._token_file.exists():
            return ()
        return (("authorization", f"Bearer {self._token_file.read_text(encoding='ascii').strip()}"),)

    def _channel(self, endpoint: str) -> grpc.Channel:
        for prefix, encrypted in _PREFIXES.items():
            if endpoint.startswith(prefix):
                address = endpoint.removeprefix(prefix)
                if not encrypted:
                    return grpc.insecure_channel(address, _OPTIONS)
                roots = None if self._ca_file is None else self._ca_file.read_bytes()
                return grpc.secure_channel(address, grpc.ssl_channel_credentials(roots), _OPTIONS)
        raise FleetRefused(f"{endpoint}: must begin with grpc:// or grpcs://")


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
    )


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


def _error_of(error: grpc.RpcError, endpoint: str) -> FleetError:
    # What a call raises is a call, too, which the types do not say.
    call = cast(grpc.Call, error)
    code, details = call.code(), call.details() or "no details"
    words = f"{endpoint}: {_REMEDIES.get(code, details)} ({code.name})"
    if endpoint.startswith("grpcs://") and "CERTIFICATE" in details.upper():
        words += "; give the operator the authority of its certificate: --scheduler-ca-file"
    return FleetUnreachable(words) if code in _LATER else FleetRefused(words)
