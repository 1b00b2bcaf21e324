"""The pods: of the scheduler's replicas, and of the managed storage. They keep to restricted Pod Security."""

import math

from buildgrid_operator.api import SchedulerSpec
from buildgrid_operator.api.types import PodTemplate, ResourceRequirements
from buildgrid_operator.desired import names
from buildgrid_operator.desired.auth import has_fleet_port
from buildgrid_operator.desired.config import DATA, FILE_NAME, FOLDER, Written
from buildgrid_operator.desired.images import version_of
from buildgrid_operator.desired.inputs import Inputs
from buildgrid_operator.desired.names import Json
from buildgrid_operator.desired.overlay import overlaid

USER = 65532
"""of the images"""
PRE_STOP = 5
"""Seconds in which endpoints lose a pod that is about to end, before it is told."""
SHORTEST_GRACE = 30
_DRAIN = 10
"""Seconds after `shutdown.grace` for what was begun (the program takes 4)."""
_TMP_LIMIT = "1Gi"
RESTRICTED: Json = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def scheduler_pod(inputs: Inputs, written: Written, template_hash: str) -> Json:
    """The pod template of the replicas. Raises InvalidSpec for a spec.podTemplate that may not be."""
    spec, image = inputs.spec, inputs.images.scheduler
    mounts = [*_own_mounts(), *written.files.mounts()]
    migrate = {
        "name": names.MIGRATE,
        "image": image,
        "args": ["migrate", "--config", f"{FOLDER}/{FILE_NAME}"],
        **_container(spec, spec.resources),
        "volumeMounts": mounts,
    }
    volumes = [
        *_own_volumes(names.config_name(inputs.metadata)),
        {"name": "data", "emptyDir": {}},  # unbounded: a pod with more in it would be evicted
        *written.files.volumes(),
    ]
    serve = _serving(names.SCHEDULER, image, spec, spec.resources, mounts)
    if has_fleet_port(spec):
        serve["ports"].append({"name": names.FLEET, "containerPort": names.FLEET_PORT, "protocol": "TCP"})
    pod = _pod(inputs, names.scheduler_name(inputs.metadata), [serve], volumes) | {
        "initContainers": [migrate],
        "topologySpreadConstraints": _spread(inputs),
    }
    return _template(
        inputs, names.SCHEDULER, image, pod, template_hash, spec.pod_template, "spec.podTemplate"
    )


def storage_pod(inputs: Inputs, written: Written, template_hash: str) -> Json:
    """The pod template of the managed storage, which must be wanted. Raises InvalidSpec likewise."""
    spec, managed, image = inputs.spec, inputs.spec.storage.managed, inputs.images.storage
    if managed is None or image is None:
        raise ValueError("a managed storage needs spec.storage.managed and a resolved image")
    owner = inputs.metadata
    mounts = [*_own_mounts(), *written.files.mounts()]
    claim = {"claimName": names.volume_claim_name(owner)}
    volumes = [
        *_own_volumes(names.storage_config_name(owner)),
        {"name": "data", "persistentVolumeClaim": claim},
        *written.files.volumes(),
    ]
    serve = _serving(names.STORAGE, image, spec, managed.resources, mounts)
    pod = _pod(inputs, names.storage_name(owner), [serve], volumes)
    field = "spec.storage.managed.podTemplate"
    return _template(inputs, names.STORAGE, image, pod, template_hash, managed.pod_template, field)


def _template(
    inputs: Inputs,
    component: str,
    image: str,
    pod: Json,
    template_hash: str,
    overlay: PodTemplate | None,
    field: str,
) -> Json:
    template: Json = {
        "metadata": {
            "labels": names.labels(inputs.metadata, component, version_of(image)),
            "annotations": {names.TEMPLATE_HASH: template_hash},
        },
        "spec": pod,
    }
    if overlay is None:
        return template
    return overlaid(
        template, overlay, field, main=component, privileged=inputs.settings.allow_privileged_pods
    )


def _pod(inputs: Inputs, service_account: str, containers: list[Json], volumes: list[Json]) -> Json:
    spec, settings = inputs.spec, inputs.settings
    secrets = [*settings.image_pull_secrets, *(secret.name for secret in spec.image_pull_secrets)]
    pull = {"imagePullSecrets": [{"name": name} for name in dict.fromkeys(secrets)]} if secrets else {}
    return {
        "serviceAccountName": service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _grace(spec),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        **pull,
        "containers": containers,
        "volumes": volumes,
    }


def _serving(
    name: str, image: str, spec: SchedulerSpec, resources: ResourceRequirements, mounts: list[Json]
) -> Json:
    return {
        "name": name,
        "image": image,
        "args": ["serve", "--config", f"{FOLDER}/{FILE_NAME}"],
        "ports": [
            {"name": names.GRPC, "containerPort": names.GRPC_PORT, "protocol": "TCP"},
            {"name": names.HTTP, "containerPort": names.HTTP_PORT, "protocol": "TCP"},
        ],
        **_container(spec, resources),
        # Health is served from the first second on; importing may take a while on a busy node.
        "startupProbe": _probe("/healthz", period=1, failures=120),
        "livenessProbe": _probe("/healthz", period=10, failures=3),
        # An outage of the database under 30 s takes no replica out of service.
        "readinessProbe": _probe("/readyz", period=5, failures=6),
        "lifecycle": {"preStop": {"sleep": {"seconds": PRE_STOP}}},
        "volumeMounts": mounts,
    }


def _container(spec: SchedulerSpec, resources: ResourceRequirements) -> Json:
    wanted = {name: dict(value) for name, value in resources if value}
    return {
        "imagePullPolicy": spec.image_pull_policy,
        **({"resources": wanted} if wanted else {}),
        "securityContext": RESTRICTED,
    }


def _probe(path: str, *, period: int, failures: int) -> Json:
    get = {"path": path, "port": names.HTTP}
    return {"httpGet": get, "periodSeconds": period, "timeoutSeconds": 5, "failureThreshold": failures}


def _grace(spec: SchedulerSpec) -> int:
    grace = math.ceil(spec.shutdown.grace.total_seconds())
    return max(SHORTEST_GRACE, PRE_STOP + grace + _DRAIN)


def _own_volumes(config_map: str) -> list[Json]:
    return [
        {"name": "config", "configMap": {"name": config_map}},
        {"name": "tmp", "emptyDir": {"sizeLimit": _TMP_LIMIT}},
    ]


def _own_mounts() -> list[Json]:
    return [
        {"name": "config", "mountPath": FOLDER, "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - an emptyDir of the pod
        {"name": "data", "mountPath": DATA},
    ]


def _spread(inputs: Inputs) -> list[Json]:
    selector = {"matchLabels": names.selector(inputs.metadata, names.SCHEDULER)}
    return [
        {
            "topologyKey": key,
            "maxSkew": 1,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": selector,
            "matchLabelKeys": ["pod-template-hash"],
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]
