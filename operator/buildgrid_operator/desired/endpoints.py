"""Where a Scheduler is reached from within the cluster."""

from buildgrid_operator.api.status import Endpoints
from buildgrid_operator.desired import names
from buildgrid_operator.desired.config import is_storage_direct
from buildgrid_operator.desired.inputs import Inputs


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
