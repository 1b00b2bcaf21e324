"""A GRPCRoute of the Gateway API, where spec.grpcRoute asks for one."""

from buildgrid_operator.api.network import ParentReference
from buildgrid_operator.desired import names
from buildgrid_operator.desired.inputs import Inputs
from buildgrid_operator.desired.names import Json

API_VERSION = "gateway.networking.k8s.io/v1"


def grpc_route(inputs: Inputs) -> Json | None:
    """All calls for the hosts go to the gRPC Service."""
    route = inputs.spec.grpc_route
    if route is None:
        return None
    owner = inputs.metadata
    name = names.scheduler_name(owner)
    hosts = {"hostnames": list(route.hostnames)} if route.hostnames else {}
    return {
        "apiVersion": API_VERSION,
        "kind": "GRPCRoute",
        "metadata": names.metadata(owner, name, names.SCHEDULER, annotations=route.annotations),
        "spec": {
            "parentRefs": [_parent(parent) for parent in route.parent_refs],
            **hosts,
            "rules": [{"backendRefs": [{"name": name, "port": inputs.spec.service.port}]}],
        },
    }


def _parent(parent: ParentReference) -> Json:
    return {"group": "gateway.networking.k8s.io", "kind": "Gateway", **parent.to_dict()}
