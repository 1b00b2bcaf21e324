"""The charts as `helm template` renders them, under several values."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

Json = dict[str, Any]

ROOT = Path(__file__).parents[3]
CHART = ROOT / "charts" / "buildgrid"
CRDS_CHART = ROOT / "charts" / "buildgrid-crds"
EXAMPLES = ROOT / "examples" / "kubernetes"
NAMESPACE = "farm"
RELEASE = "demo"
DIGEST = "sha256:" + "1" * 64

needs_helm = pytest.mark.skipif(
    shutil.which("helm") is None,
    reason="helm is not on PATH; install it: https://helm.sh/docs/intro/install/",
)


def _example(name: str) -> Json:
    values: Json = yaml.safe_load((EXAMPLES / f"values-{name}.yaml").read_text(encoding="utf-8"))
    return values


VALUES: dict[str, Json] = {
    "defaults": {},
    "production example": _example("production"),
    "air gap example": _example("air-gap"),
    "namespaced": {"operator": {"scope": "Namespaced"}},
    "two namespaces": {
        "operator": {"scope": "Namespaced", "namespaces": ["builds", NAMESPACE], "watchNodes": True}
    },
    "everything": {
        "global": {"imageRegistry": "registry.example.org/mirror", "imagePullSecrets": ["one", "two"]},
        "images": {"pullPolicy": "Always", "operator": {"tag": "1.2.3"}, "bot": {"digest": DIGEST}},
        "pods": {
            "labels": {"team": "builds", "app.kubernetes.io/component": "stolen"},
            "annotations": {"note": "seen"},
            "nodeSelector": {"pool": "system"},
            "tolerations": [{"key": "system", "operator": "Exists"}],
            "affinity": {"podAntiAffinity": {}},
            "priorityClassName": "system-cluster-critical",
        },
        "hooks": {"podAnnotations": {"sidecar.istio.io/inject": "false"}},
        "operator": {
            "replicas": 3,
            "allowUnsafePodTemplates": True,
            "serviceAccountAnnotations": {"role": "operator"},
            "schedulerCa": {"configMapName": "internal-ca", "key": "root.pem"},
            "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
            "externalScaler": {"enabled": True, "namespaces": ["keda", "autoscaling"]},
        },
        "uninstall": {"timeoutSeconds": 600, "whenBusy": "Proceed"},
        "postgresql": {"password": "changeme", "persistence": {"storageClassName": "fast"}},
        "scheduler": {
            "name": "main",
            "annotations": {"note": "seen"},
            "spec": {"instances": ["main"], "replicas": 2, "service": {"port": 80}},
        },
        "propertySet": {"name": "linux", "spec": {"static": {"labels": [{"label": "all"}]}}},
        "botFleet": {
            "name": "linux",
            "annotations": {"note": "seen"},
            "spec": {
                "instance": "main",
                "slotsPerBot": 2,
                "properties": [{"key": "Pool", "value": "big ones"}],
                "scaling": {"minBots": 1},
            },
        },
        "test": {"properties": {"Pool": "big ones"}, "waitSeconds": 7},
    },
    "its own database": {
        "postgresql": {"enabled": False},
        "scheduler": {"spec": {"database": {"urlSecretRef": {"name": "database", "key": "url"}}}},
    },
    "auth and TLS": {
        "scheduler": {
            "spec": {
                "auth": {
                    "kubernetes": {"audience": "builds"},
                    "policy": [{"identities": [{"serviceAccount": "ci/runner"}], "rights": ["Execute"]}],
                },
                "tls": {"secretName": "tls"},
            }
        },
        "botFleet": {"enabled": True},
    },
    "an existing Secret, no volume": {
        "postgresql": {"existingSecret": "mine", "persistence": {"enabled": False}},
    },
    "only bots": {
        "postgresql": {"enabled": False},
        "scheduler": {"enabled": False},
        "propertySet": {"enabled": False},
        "operator": {"watchNodes": False},
        "botFleet": {
            "enabled": True,
            "spec": {
                "schedulerRef": {"name": "main", "namespace": "builds"},
                "image": "registry.example.org/bot:1",
            },
        },
    },
    "nothing but the operator": {
        "postgresql": {"enabled": False},
        "scheduler": {"enabled": False},
        "propertySet": {"enabled": False},
        "crds": {"install": False},
        "uninstall": {"enabled": False},
        "rbac": {"aggregate": False},
        "operator": {"networkPolicy": {"enabled": False}, "resources": None},
    },
}
"""Values by a name for the tests."""


def template(
    values: Json,
    *arguments: str,
    chart: Path = CHART,
    release: str = RELEASE,
    namespace: str = NAMESPACE,
) -> subprocess.CompletedProcess[str]:
    """What `helm template` says."""
    return subprocess.run(
        ["helm", "template", release, str(chart), "--namespace", namespace, "-f", "-", *arguments],
        input=json.dumps(values),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@cache
def text_of(name: str) -> str:
    """What is rendered under the values with this name."""
    ended = template(VALUES[name])
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@cache
def rendered(name: str) -> list[Json]:
    """The objects under the values with this name, hooks included. Not to be changed."""
    return objects(text_of(name))


def notes(values: Json) -> str:
    """What helm tells after an installation."""
    ended = subprocess.run(
        ["helm", "install", RELEASE, str(CHART), "--namespace", NAMESPACE, "--dry-run=client", "-f", "-"],
        input=json.dumps(values),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.partition("\nNOTES:\n")[2]


def objects(text: str) -> list[Json]:
    """The objects in a YAML stream."""
    return [document for document in yaml.safe_load_all(text) if document]


def refusal(values: Json, *arguments: str, release: str = RELEASE) -> str:
    """Why values are refused; they must be."""
    ended = template(values, *arguments, release=release)
    assert ended.returncode != 0, "it was rendered"
    return ended.stderr


def find(found: list[Json], kind: str, name: str, namespace: str | None = None) -> Json:
    """The one object of this kind and name; in any namespace unless one is given."""
    (one,) = (
        obj
        for obj in found
        if obj["kind"] == kind
        and obj["metadata"]["name"] == name
        and (namespace is None or obj["metadata"]["namespace"] == namespace)
    )
    return one


def pods(found: list[Json]) -> Iterator[tuple[str, Json]]:
    """A name for the tests, and metadata and spec, of all pods and pod templates."""
    for obj in found:
        name = f"{obj['kind']} {obj['metadata']['name']}"
        if obj["kind"] == "Pod":
            yield name, obj
        elif "template" in (obj.get("spec") or {}):
            yield name, obj["spec"]["template"]


def is_hook(obj: Json) -> bool:
    """Whether helm runs it at some moment, instead of keeping it."""
    return "helm.sh/hook" in (obj["metadata"].get("annotations") or {})


def arguments_of(deployment: Json) -> list[str]:
    """The arguments of a pod's only container."""
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    found: list[str] = container["args"]
    return found
