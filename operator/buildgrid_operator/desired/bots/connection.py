"""How the bots of a fleet reach their Scheduler, and what they show there."""

from dataclasses import dataclass
from datetime import timedelta

from buildgrid_operator.desired import names as scheduler_names
from buildgrid_operator.desired.auth import auth_of
from buildgrid_operator.desired.bots.inputs import FleetInputs
from buildgrid_operator.desired.endpoints import endpoints
from buildgrid_operator.desired.images import Images
from buildgrid_operator.desired.inputs import Inputs

TWO_MINUTES = timedelta(minutes=2)
"""For what comes after an action: its outputs are uploaded, its result is reported."""


@dataclass(frozen=True, slots=True)
class Connection:
    """What of a Scheduler shapes the pods of a fleet. Another one is another template."""

    endpoint: str
    """all replicas, as grpc://HOST:PORT or grpcs://HOST:PORT"""
    cas_endpoint: str
    log_stream_endpoint: str | None
    """None: bots do not write to any"""
    instance: str
    audience: str | None
    """of the token that bots show; None: they show none"""
    authority: tuple[str, str] | None
    """the ConfigMap with who signed the certificate, and the key in it; None: whom the image believes"""
    server_name: str | None
    """the name that the certificate must have; None: there is no TLS"""
    longest_action: timedelta
    """until the Scheduler ends it"""


def connection(inputs: FleetInputs) -> Connection:
    """From the Scheduler's spec alone: nothing of it need be there yet."""
    scheduler = inputs.scheduler
    owner, spec = scheduler.metadata, scheduler.spec
    # Its images have no part in where it is reached.
    told = endpoints(Inputs(scheduler, Images(""), inputs.settings))
    auth, tls, jobs = auth_of(spec), spec.tls, spec.jobs
    audience = None if auth is None or auth.kubernetes is None else auth.kubernetes.audience
    authority = server_name = None
    if tls is not None:
        own = scheduler_names.host(
            owner, scheduler_names.scheduler_name(owner), inputs.settings.cluster_domain
        )
        server_name = tls.server_name or own
        if tls.ca_config_map_ref is not None:
            authority = (tls.ca_config_map_ref.name, tls.ca_config_map_ref.key)
    return Connection(
        endpoint=told.bots or "",
        cas_endpoint=told.cas or "",
        log_stream_endpoint=_log_streams(inputs, shows_token=audience is not None),
        instance=inputs.instance,
        audience=audience,
        authority=authority,
        server_name=server_name,
        longest_action=jobs.max_execution_timeout + jobs.execution_timeout_grace,
    )


def _log_streams(inputs: FleetInputs, *, shows_token: bool) -> str | None:
    """The service, where bots get into it as they are.

    A bot shows the same token everywhere, and believes the same authority: the Scheduler's token is not for
    another service, and the Secrets with what that one wants are not the fleet's to mount.
    """
    service = inputs.scheduler.spec.log_streams
    if service is None or shows_token or service.token_secret_ref is not None:
        return None
    return service.endpoint if service.endpoint.startswith("grpc://") else None
