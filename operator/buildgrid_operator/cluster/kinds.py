"""The kinds of objects that the operator reads or writes, and where the API server has them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

Manifest = dict[str, Any]
"""An object of the API, as JSON: its shape is the API server's to check."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind. `plural` is its name in paths, and in RBAC rules."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    @property
    def group(self) -> str:
        """The API group; empty for the core group."""
        group, slash, _ = self.api_version.partition("/")
        return group if slash else ""

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str = "") -> str:
        """Path of an object, or of the collection without `name`; of all namespaces without `namespace`."""
        parts = ["apis" if self.group else "api", self.api_version]
        if self.namespaced and namespace:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        if name is not None:
            if self.namespaced and not namespace:
                raise ValueError(f"{self.kind} {name} needs a namespace")
            parts.append(quote(name, safe=""))
            if subresource:
                parts.append(subresource)
        return "/" + "/".join(parts)

    def __str__(self) -> str:
        return self.kind


CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
NAMESPACE = Kind("v1", "Namespace", "namespaces", namespaced=False)
NODE = Kind("v1", "Node", "nodes", namespaced=False)
PERSISTENT_VOLUME_CLAIM = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")
POD = Kind("v1", "Pod", "pods")
POD_TEMPLATE = Kind("v1", "PodTemplate", "podtemplates")
SERVICE = Kind("v1", "Service", "services")
SERVICE_ACCOUNT = Kind("v1", "ServiceAccount", "serviceaccounts")
DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
REPLICA_SET = Kind("apps/v1", "ReplicaSet", "replicasets")
STATEFUL_SET = Kind("apps/v1", "StatefulSet", "statefulsets")
JOB = Kind("batch/v1", "Job", "jobs")
HORIZONTAL_POD_AUTOSCALER = Kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
POD_DISRUPTION_BUDGET = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
NETWORK_POLICY = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
INGRESS = Kind("networking.k8s.io/v1", "Ingress", "ingresses")
ROLE = Kind("rbac.authorization.k8s.io/v1", "Role", "roles")
ROLE_BINDING = Kind("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings")
LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")
EVENT = Kind("events.k8s.io/v1", "Event", "events")
CUSTOM_RESOURCE_DEFINITION = Kind(
    "apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False
)
GRPC_ROUTE = Kind("gateway.networking.k8s.io/v1", "GRPCRoute", "grpcroutes")
SERVICE_MONITOR = Kind("monitoring.coreos.com/v1", "ServiceMonitor", "servicemonitors")
SCHEDULER = Kind("buildgrid.build/v1alpha1", "Scheduler", "schedulers")
PROPERTY_SET = Kind("buildgrid.build/v1alpha1", "PropertySet", "propertysets")
BOT_FLEET = Kind("buildgrid.build/v1alpha1", "BotFleet", "botfleets")

KINDS = (
    CONFIG_MAP, NAMESPACE, NODE, PERSISTENT_VOLUME_CLAIM, POD, POD_TEMPLATE, SERVICE, SERVICE_ACCOUNT,
    DEPLOYMENT, REPLICA_SET, STATEFUL_SET, JOB, HORIZONTAL_POD_AUTOSCALER, POD_DISRUPTION_BUDGET,
    NETWORK_POLICY, INGRESS, ROLE, ROLE_BINDING, LEASE, EVENT, CUSTOM_RESOURCE_DEFINITION, GRPC_ROUTE,
    SERVICE_MONITOR, SCHEDULER, PROPERTY_SET, BOT_FLEET,
)  # fmt: skip
_BY_NAME = {(kind.api_version, kind.kind): kind for kind in KINDS}


def kind_named(api_version: str, kind: str) -> Kind:
    """The kind with this name. KeyError for one that the operator does not know."""
    return _BY_NAME[api_version, kind]


def kind_of(obj: Mapping[str, Any]) -> Kind:
    """The kind of an object. KeyError for one that the operator does not know."""
    return kind_named(obj["apiVersion"], obj["kind"])


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """Which object. `namespace` is empty for those of the cluster."""

    kind: Kind
    namespace: str
    name: str

    @classmethod
    def of(cls, obj: Mapping[str, Any]) -> "ObjectRef":
        """The object's own name."""
        metadata = obj["metadata"]
        return cls(kind_of(obj), metadata.get("namespace") or "", metadata["name"])

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"
