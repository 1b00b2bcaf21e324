"""What objects are called, and how they are found: names, labels, owner.

A Scheduler's name has 40 characters at most, so that every name here fits a label (63).
"""

from typing import Any

from buildgrid_operator.api.resource import API_VERSION, GROUP, Metadata

Json = dict[str, Any]

SCHEDULER_LABEL = f"{GROUP}/scheduler"
"""The Scheduler's name, on everything that is made for it."""
OWNER_UID_LABEL = f"{GROUP}/owner-uid"
"""The owner's UID, on everything that goes with it: what has it and is not wanted any more is removed."""
TEMPLATE_HASH = f"{GROUP}/template-hash"
"""Annotation, on pods and on what makes them: the hash of what rolls them."""
TEMPLATE = f"{GROUP}/template"
"""Annotation on what makes pods: the pod template as it was made first for its hash."""
CONFIG_HASH = f"{GROUP}/config-hash"
"""Annotation of a ConfigMap with a configuration: the hash that replicas report when they have it."""

SCHEDULER = "scheduler"
"""component, and name of the container"""
STORAGE = "storage"
"""component, and name of the container"""
MIGRATE = "migrate"
"""name of the init container"""
GRPC_PORT, GRPC = 50051, "grpc"
FLEET_PORT, FLEET = 50052, "fleet"
"""the operator's port, where all others need a client certificate"""
HTTP_PORT, HTTP = 9090, "http"
"""metrics and health"""


def scheduler_name(owner: Metadata) -> str:
    """The Deployment, its ServiceAccount, PodDisruptionBudget and NetworkPolicy, and the gRPC Service."""
    return f"{owner.name}-scheduler"


def bots_name(owner: Metadata) -> str:
    """The headless Service, for clients that spread over the replicas by themselves."""
    return f"{owner.name}-bots"


def admin_name(owner: Metadata) -> str:
    """The Service of metrics and health, and of the operator's port."""
    return f"{owner.name}-admin"


def storage_name(owner: Metadata) -> str:
    """The StatefulSet of the managed storage, its Service, ServiceAccount and NetworkPolicy."""
    return f"{owner.name}-storage"


def config_name(owner: Metadata) -> str:
    """The ConfigMap with the scheduler's configuration."""
    return f"{owner.name}-config"


def storage_config_name(owner: Metadata) -> str:
    """The ConfigMap with the storage's configuration."""
    return f"{owner.name}-storage-config"


def jwks_name(owner: Metadata) -> str:
    """The ConfigMap with the cluster's public keys."""
    return f"{owner.name}-jwks"


def volume_claim_name(owner: Metadata) -> str:
    """The PersistentVolumeClaim of the managed storage."""
    return f"{owner.name}-storage-data"


def selector(owner: Metadata, component: str) -> dict[str, str]:
    """Labels that only the pods of a component have. They never change: selectors are immutable."""
    return {
        "app.kubernetes.io/name": "buildgrid",
        "app.kubernetes.io/instance": owner.name,
        "app.kubernetes.io/component": component,
    }


def labels(owner: Metadata, component: str, version: str | None = None) -> dict[str, str]:
    """The labels that Kubernetes recommends, and ours."""
    recommended = recommended_labels(owner, component, version)
    return {**recommended, SCHEDULER_LABEL: owner.name, OWNER_UID_LABEL: owner.uid}


def recommended_labels(owner: Metadata, component: str, version: str | None) -> dict[str, str]:
    """The labels that Kubernetes recommends for what belongs to a Scheduler, or to a BotFleet."""
    told = {} if version is None else {"app.kubernetes.io/version": version}
    return {
        **selector(owner, component),
        **told,
        "app.kubernetes.io/part-of": "buildgrid",
        "app.kubernetes.io/managed-by": "buildgrid-operator",
    }


def owner_reference(owner: Metadata, kind: str = "Scheduler") -> Json:
    """Goes with its owner, a Scheduler or a BotFleet, which need not wait for it."""
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def metadata(
    owner: Metadata,
    name: str,
    component: str,
    *,
    version: str | None = None,
    annotations: dict[str, str] | None = None,
) -> Json:
    """The metadata of an object that goes with its Scheduler."""
    told = {"annotations": dict(annotations)} if annotations else {}
    return {
        "name": name,
        "namespace": owner.namespace,
        "labels": labels(owner, component, version),
        **told,
        "ownerReferences": [owner_reference(owner)],
    }


def host(owner: Metadata, service: str, cluster_domain: str) -> str:
    """The DNS name of a Service."""
    return f"{service}.{owner.namespace}.svc.{cluster_domain}"
