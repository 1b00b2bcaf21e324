"""An Ingress, where spec.ingress asks for one."""

from buildgrid_operator.desired import names
from buildgrid_operator.desired.inputs import Inputs
from buildgrid_operator.desired.names import Json


def ingress(inputs: Inputs) -> Json | None:
    """All paths of the host lead to the gRPC Service."""
    wanted = inputs.spec.ingress
    if wanted is None:
        return None
    owner = inputs.metadata
    name = names.scheduler_name(owner)
    backend = {"service": {"name": name, "port": {"name": names.GRPC}}}
    spec: Json = {
        "rules": [
            {
                "host": wanted.host,
                "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]},
            }
        ]
    }
    if wanted.class_name is not None:
        spec["ingressClassName"] = wanted.class_name
    if wanted.tls_secret_name is not None:
        spec["tls"] = [{"hosts": [wanted.host], "secretName": wanted.tls_secret_name}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": names.metadata(owner, name, names.SCHEDULER, annotations=wanted.annotations),
        "spec": spec,
    }
