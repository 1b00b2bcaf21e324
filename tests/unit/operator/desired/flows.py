"""What NetworkPolicies let through, evaluated as networking.k8s.io/v1 says."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Pod:
    """A pod. Namespaces have the label with their name, as the API server sees to, and those given here."""

    namespace: str
    labels: Json = field(default_factory=dict)
    address: str = "10.244.0.9"
    namespace_labels: Json = field(default_factory=dict)


@dataclass(frozen=True)
class Outside:
    """An address that is no pod's."""

    address: str


Caller = Pod | Outside


def is_allowed(policies: Iterable[Json], caller: Caller, target: Pod, port: int) -> bool:
    """Whether a connection over TCP comes through: if no policy selects the target, or one allows it."""
    selecting = [
        policy
        for policy in policies
        if policy["metadata"]["namespace"] == target.namespace
        and "Ingress" in policy["spec"]["policyTypes"]
        and _matches(policy["spec"]["podSelector"], target.labels)
    ]
    if not selecting:
        return True
    return any(
        _port_matches(rule, port) and _peer_matches(rule, caller, target.namespace)
        for policy in selecting
        for rule in policy["spec"].get("ingress", ())
    )


def _port_matches(rule: Json, port: int) -> bool:
    ports = rule.get("ports")
    return not ports or any(each.get("port") in (None, port) and each["protocol"] == "TCP" for each in ports)


def _peer_matches(rule: Json, caller: Caller, own: str) -> bool:
    peers = rule.get("from")
    return not peers or any(_is(peer, caller, own) for peer in peers)


def _is(peer: Json, caller: Caller, own: str) -> bool:
    if not peer:
        raise ValueError("an empty peer: the API server refuses it")
    if "ipBlock" in peer:
        block = peer["ipBlock"]
        address = ipaddress.ip_address(caller.address)
        return address in ipaddress.ip_network(block["cidr"]) and not any(
            address in ipaddress.ip_network(each) for each in block.get("except", ())
        )
    if isinstance(caller, Outside):
        return False
    labels = {"kubernetes.io/metadata.name": caller.namespace, **caller.namespace_labels}
    there = (
        _matches(peer["namespaceSelector"], labels)
        if "namespaceSelector" in peer
        else caller.namespace == own
    )
    return there and _matches(peer.get("podSelector", {}), caller.labels)


def _matches(selector: Json, labels: Json) -> bool:
    unknown = selector.keys() - {"matchLabels"}
    if unknown:
        raise ValueError(f"the evaluator does not know {unknown}")
    return all(labels.get(name) == value for name, value in selector.get("matchLabels", {}).items())
