"""What could not be applied, in words for a condition."""

from buildgrid_operator.cluster.errors import Forbidden, Invalid, KindMissing, PermissionMissing
from buildgrid_operator.cluster.kinds import GRPC_ROUTE, INGRESS, SERVICE_MONITOR, Kind
from buildgrid_operator.reconcile.apply_set import Failure, NameTaken
from buildgrid_operator.status.messages import listed
from buildgrid_operator.status.scheduler_conditions import Refusal

_FIELDS: dict[Kind, str] = {
    GRPC_ROUTE: "spec.grpcRoute",
    SERVICE_MONITOR: "spec.monitoring.serviceMonitor",
    INGRESS: "spec.ingress",
}


def refusal_of(failure: Failure) -> Refusal:
    """Reason and message for the conditions Ready, Degraded and Stalled."""
    ref, error = failure.ref, failure.error
    if isinstance(error, PermissionMissing):
        reason, words = "PermissionMissing", f"{ref}: {error}"
    elif isinstance(error, KindMissing):
        remedy = f", or remove {_FIELDS[ref.kind]}" if ref.kind in _FIELDS else ""
        kind = f"{ref.kind} ({ref.kind.api_version})"
        reason, words = "KindMissing", f"the cluster does not serve {kind}: install its CRD{remedy}"
    elif isinstance(error, NameTaken):
        reason, words = "NameTaken", str(error)
    elif isinstance(error, Invalid) and error.causes:
        causes = listed([str(cause) for cause in error.causes])
        reason, words = "ObjectRefused", f"the API server refuses {ref}: {causes}"
    elif isinstance(error, Invalid | Forbidden):
        reason, words = "ObjectRefused", f"the API server refuses {ref}: {error}"
    else:
        reason, words = "ApplyFailed", str(error)
    return Refusal(reason, words, failure.blocking)
