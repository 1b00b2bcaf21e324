"""Services: gRPC for clients, a headless one for bots, one for metrics and health, and the storage's."""

from typing import Any

from buildgrid_operator.desired import names
from buildgrid_operator.desired.auth import has_fleet_port
from buildgrid_operator.desired.inputs import Inputs
from buildgrid_operator.desired.names import Json

_CLEARTEXT, _TLS, _HTTP = "kubernetes.io/h2c", "https", "http"
"""appProtocol: HTTP/2 without TLS, which Kubernetes names so, and IANA's names for the others."""


def grpc_service(inputs: Inputs) -> Json:
    """For clients, in the cluster or from outside, as spec.service says."""
    service = inputs.spec.service
    port = _grpc_port(inputs, service.port)
    if service.node_port is not None:
        port["nodePort"] = service.node_port
    more: Json = {
        "type": service.type,
        "loadBalancerClass": service.load_balancer_class,
        "loadBalancerSourceRanges": list(service.load_balancer_source_ranges) or None,
        "externalTrafficPolicy": service.external_traffic_policy,
    }
    name = names.scheduler_name(inputs.metadata)
    return _service(inputs, name, names.SCHEDULER, [port], more, service.annotations)


def bots_service(inputs: Inputs) -> Json:
    """Its name is the addresses of all replicas: who resolves it spreads over them by itself."""
    ports = [_grpc_port(inputs, names.GRPC_PORT)]
    name = names.bots_name(inputs.metadata)
    return _service(inputs, name, names.SCHEDULER, ports, {"type": "ClusterIP", "clusterIP": "None"})


def admin_service(inputs: Inputs) -> Json:
    """Metrics and health, and the operator's port where it has one."""
    ports = [_http_port()]
    if has_fleet_port(inputs.spec):
        # By number: pods that an older operator made do not name it.
        ports.append(
            {**_grpc_port(inputs, names.FLEET_PORT), "name": names.FLEET, "targetPort": names.FLEET_PORT}
        )
    return _service(inputs, names.admin_name(inputs.metadata), names.SCHEDULER, ports, {"type": "ClusterIP"})


def storage_service(inputs: Inputs) -> Json:
    """The managed storage, for the replicas and for bots, and its metrics."""
    grpc = {**_grpc_port(inputs, names.GRPC_PORT), "appProtocol": _CLEARTEXT}
    name = names.storage_name(inputs.metadata)
    return _service(inputs, name, names.STORAGE, [grpc, _http_port()], {"type": "ClusterIP"})


def _grpc_port(inputs: Inputs, port: int) -> Json:
    protocol = _CLEARTEXT if inputs.spec.tls is None else _TLS
    return {
        "name": names.GRPC,
        "port": port,
        "targetPort": names.GRPC,
        "protocol": "TCP",
        "appProtocol": protocol,
    }


def _http_port() -> Json:
    return {
        "name": names.HTTP,
        "port": names.HTTP_PORT,
        "targetPort": names.HTTP,
        "protocol": "TCP",
        "appProtocol": _HTTP,
    }


def _service(
    inputs: Inputs,
    name: str,
    component: str,
    ports: list[Json],
    more: dict[str, Any],
    annotations: dict[str, str] | None = None,
) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": names.metadata(inputs.metadata, name, component, annotations=annotations),
        "spec": {
            **{field: value for field, value in more.items() if value is not None},
            "ipFamilyPolicy": "PreferDualStack",
            "selector": names.selector(inputs.metadata, component),
            "ports": ports,
        },
    }
