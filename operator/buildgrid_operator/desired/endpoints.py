"""Where a Scheduler is reached from within the cluster."""

from dataclasses import dataclass, replace

from buildgrid_operator.api import Scheduler
from buildgrid_operator.api.auth import CaConfigMapKeyRef
from buildgrid_operator.api.status import Endpoints
from buildgrid_operator.desired import names
from buildgrid_operator.desired.auth import checks_operator, has_fleet_port, operator_audience
from buildgrid_operator.desired.config import is_storage_direct
from buildgrid_operator.desired.inputs import Inputs


@dataclass(frozen=True, slots=True)
class FleetAddress:
    """Where the operator asks the replicas of a Scheduler, and how."""

    namespace: str
    name: str
    endpoint: str
    """grpc://HOST:PORT or grpcs://HOST:PORT"""
    audience: str | None = None
    """of the token that it shows; None: nobody asks for one"""
    server_name: str | None = None
    """the name that the certificate must have; None: HOST"""
    authority: CaConfigMapKeyRef | None = None
    """who signed the certificate, in a ConfigMap of the namespace; None: as the operator was told"""


def fleet_address(scheduler: Scheduler, cluster_domain: str) -> FleetAddress:
    """The Service of all replicas, or the operator's own port of them."""
    owner, spec = scheduler.metadata, scheduler.spec
    service, port = names.scheduler_name(owner), spec.service.port
    if has_fleet_port(spec):
        service, port = names.admin_name(owner), names.FLEET_PORT
    scheme = "grpc" if spec.tls is None else "grpcs"
    address = FleetAddress(
        owner.namespace,
        owner.name,
        f"{scheme}://{names.host(owner, service, cluster_domain)}:{port}",
        operator_audience(owner) if checks_operator(spec) else None,
    )
    if spec.tls is None:
        return address
    # Whichever Service it is reached by: one name in the certificate is enough.
    own = names.host(owner, names.scheduler_name(owner), cluster_domain)
    return replace(address, server_name=spec.tls.server_name or own, authority=spec.tls.ca_config_map_ref)


def endpoints(inputs: Inputs) -> Endpoints:
    """For `status.endpoints`.

    The CAS is the managed storage itself where bots may use it, and otherwise the replicas, which hold the
    credentials of the storage behind them.
    """
    owner, domain = inputs.metadata, inputs.settings.cluster_domain
    scheme = "grpc" if inputs.spec.tls is None else "grpcs"

    def at(service: str, port: int, scheme: str = scheme) -> str:
        return f"{scheme}://{names.host(owner, service, domain)}:{port}"

    bots = at(names.bots_name(owner), names.GRPC_PORT)
    direct = is_storage_direct(inputs)
    return Endpoints(
        scheduler=at(names.scheduler_name(owner), inputs.spec.service.port),
        bots=bots,
        cas=at(names.storage_name(owner), names.GRPC_PORT) if direct else bots,
        metrics=at(names.admin_name(owner), names.HTTP_PORT, "http"),
    )
