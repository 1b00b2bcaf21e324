"""NetworkPolicies: who may open connections to the replicas and to the managed storage.

Only incoming connections are limited. Where pods go out to (database, bucket, issuers of tokens, ...) is in
Secrets that the operator does not read.
"""

from typing import Any

from buildgrid_operator.api.network import NetworkPeer
from buildgrid_operator.desired import names
from buildgrid_operator.desired.auth import has_fleet_port
from buildgrid_operator.desired.bots import names as bots
from buildgrid_operator.desired.config import is_storage_direct
from buildgrid_operator.desired.inputs import Inputs
from buildgrid_operator.desired.names import Json

_NAMESPACE_NAME = "kubernetes.io/metadata.name"
_ALL_PODS: list[Json] = [{"namespaceSelector": {}}]
_EVERYBODY: list[Json] = []


def scheduler_policy(inputs: Inputs) -> Json:
    """gRPC for clients, bots of fleets and the operator, metrics and health for the cluster's pods."""
    clients = _clients(inputs)
    callers = clients and [*clients, *_bots(inputs), _operator(inputs)]
    policy = _policy(inputs, names.scheduler_name(inputs.metadata), names.SCHEDULER, callers)
    if has_fleet_port(inputs.spec):
        policy["spec"]["ingress"].append(_rule(names.FLEET_PORT, [_operator(inputs)]))
    return policy


def storage_policy(inputs: Inputs) -> Json:
    """gRPC for the replicas, and for clients and bots where they may go past those; metrics for all pods."""
    replicas: Json = {"podSelector": {"matchLabels": names.selector(inputs.metadata, names.SCHEDULER)}}
    clients = _clients(inputs)
    callers = clients and [replicas, *clients, *_bots(inputs)] if is_storage_direct(inputs) else [replicas]
    return _policy(inputs, names.storage_name(inputs.metadata), names.STORAGE, callers)


def _clients(inputs: Inputs) -> list[Json]:
    return [_peer(client) for client in inputs.spec.network_policy.clients] or _EVERYBODY


def _peer(peer: NetworkPeer) -> Json:
    if peer.cidr is not None:
        return {"ipBlock": {"cidr": peer.cidr}}
    told: Json = {}
    if peer.namespace is not None:
        told["namespaceSelector"] = {"matchLabels": {_NAMESPACE_NAME: peer.namespace}}
    if peer.pod_labels is not None:
        told["podSelector"] = {"matchLabels": dict(peer.pod_labels)}
    return told


def _bots(inputs: Inputs) -> list[Json]:
    """Pods of fleets, in each namespace that may have one for this Scheduler."""
    pods: Json = {"podSelector": {"matchLabels": bots.selector_of_all()}}
    allowed = inputs.spec.allowed_fleet_namespaces
    if "*" in allowed:
        return [{"namespaceSelector": {}, **pods}]
    others = [name for name in allowed if name != inputs.metadata.namespace]
    return [
        pods,
        *({"namespaceSelector": {"matchLabels": {_NAMESPACE_NAME: name}}, **pods} for name in others),
    ]


def _operator(inputs: Inputs) -> Json:
    operator = inputs.settings.operator
    return {
        "namespaceSelector": {"matchLabels": {_NAMESPACE_NAME: operator.namespace}},
        "podSelector": {"matchLabels": dict(operator.labels)},
    }


def _policy(inputs: Inputs, name: str, component: str, callers: list[Json]) -> Json:
    owner = inputs.metadata
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": names.metadata(owner, name, component),
        "spec": {
            "podSelector": {"matchLabels": names.selector(owner, component)},
            "policyTypes": ["Ingress"],
            "ingress": [_rule(names.GRPC_PORT, callers), _rule(names.HTTP_PORT, _ALL_PODS)],
        },
    }


def _rule(port: int, callers: list[Any]) -> Json:
    told = {"from": callers} if callers else {}
    return {**told, "ports": [{"port": port, "protocol": "TCP"}]}
