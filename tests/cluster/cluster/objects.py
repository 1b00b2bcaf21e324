"""Objects to apply."""

from typing import Any

from buildgrid_operator.desired.names import OWNER_UID_LABEL

Json = dict[str, Any]


def config_map(namespace: str, name: str, **data: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": data,
    }


def owned(obj: Json, owner: Json) -> Json:
    """The object with the label and the owner reference of an owner."""
    metadata = {
        **obj["metadata"],
        "labels": {
            **obj["metadata"].get("labels", {}),
            OWNER_UID_LABEL: owner["metadata"]["uid"],
            "app.kubernetes.io/managed-by": "buildgrid-operator",
        },
        "ownerReferences": [
            {
                "apiVersion": owner["apiVersion"],
                "kind": owner["kind"],
                "name": owner["metadata"]["name"],
                "uid": owner["metadata"]["uid"],
                "controller": True,
                "blockOwnerDeletion": False,
            }
        ],
    }
    return {**obj, "metadata": metadata}


def deployment(namespace: str, name: str) -> Json:
    """With all kinds of lists that there are: by name, by several keys, of values, atomic."""
    labels = {"app.kubernetes.io/instance": name}
    container = {
        "name": "scheduler",
        "image": "example.org/scheduler:1",
        "args": ["serve", "--config=/config/scheduler.yaml"],
        "env": [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        "ports": [{"name": "grpc", "containerPort": 50051}, {"containerPort": 9090, "protocol": "TCP"}],
        "resources": {"requests": {"cpu": "0.5", "memory": "1024Mi"}},
        "securityContext": {"capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": {"example.org/hash": "1"}},
                "spec": {
                    "containers": [container],
                    "volumes": [{"name": "tmp", "emptyDir": {}}],
                    "topologySpreadConstraints": [
                        {
                            "maxSkew": 1,
                            "topologyKey": "kubernetes.io/hostname",
                            "whenUnsatisfiable": "ScheduleAnyway",
                            "labelSelector": {"matchLabels": labels},
                        }
                    ],
                },
            },
        },
    }


def service(namespace: str, name: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "selector": {"app.kubernetes.io/instance": name},
            "ports": [
                {"name": "grpc", "port": 50051, "targetPort": "grpc", "appProtocol": "kubernetes.io/h2c"}
            ],
        },
    }


def network_policy(namespace: str, name: str) -> Json:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"ports": [{"port": 50051}]}]},
    }


def disruption_budget(namespace: str, name: str) -> Json:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": {"app.kubernetes.io/instance": name}},
        },
    }


def grpc_route(namespace: str, name: str) -> Json:
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GRPCRoute",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {},
    }


def pod(namespace: str, name: str, **container: Any) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"containers": [{"name": "main", "image": "example.org/x:1", **container}]},
    }
