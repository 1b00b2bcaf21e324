"""The Secret with the database's URL is not there. The operator may not look: it is told by the kubelet.

The pods of the test bed mount nothing in this mode, so the kubelet is played: the pod does not start, an
event says why, and once the Secret is there the pod runs.
"""

from datetime import UTC, datetime

import pytest
import yaml
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.kinds import POD, ObjectRef

from tests.cluster.conftest import Kubectl
from tests.cluster.operator.conftest import Apply, Json
from tests.cluster.operator.processes import becomes, eventually

pytestmark = pytest.mark.usefixtures("operator")
SECRET = "buildgrid-database"
NEVER_STARTS = {"metadata": {"annotations": {"vkubelet/start-delay": "3600"}}}


def _pod(client: Client, namespace: str, scheduler: str) -> Json:
    """The only one of the scheduler itself, with a node."""
    labels = f"buildgrid.build/scheduler={scheduler},app.kubernetes.io/component=scheduler"

    def look() -> Json | None:
        items = client.list(POD, namespace, labels=labels).items
        return items[0] if items and items[0]["spec"].get("nodeName") else None

    return eventually(look, "a pod")


def _cannot_mount(kubectl: Kubectl, pod: Json, words: str) -> None:
    """The event that a kubelet writes."""
    metadata, now = pod["metadata"], datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{metadata['name']}.1", "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": "v1", "kind": "Pod",
            **{name: metadata[name] for name in ("namespace", "name", "uid")},
        },
        "type": "Warning",
        "reason": "FailedMount",
        "message": f'MountVolume.SetUp failed for volume "files" : {words}',
        "source": {"component": "kubelet", "host": pod["spec"]["nodeName"]},
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }  # fmt: skip
    kubectl("create", "-f", "-", stdin=yaml.safe_dump(event), check=True)


def _runs(client: Client, pod: Json) -> None:
    """As a kubelet tells it."""
    ready = [{"type": name, "status": "True"} for name in ("Initialized", "ContainersReady", "Ready")]
    running = {"running": {"startedAt": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}}
    container = pod["spec"]["containers"][0]
    status = {
        "phase": "Running",
        "conditions": [*pod["status"].get("conditions", []), *ready],
        "containerStatuses": [
            {"name": container["name"], "image": container["image"], "imageID": "", "ready": True}
            | {"restartCount": 0, "state": running}
        ],
    }
    client.patch_merge(ObjectRef.of(pod), {"status": status}, subresource="status")


def test_it_is_named_and_its_creation_heals(
    client: Client, kubectl: Kubectl, namespace: str, apply: Apply
) -> None:
    waits = apply("waits", podTemplate=NEVER_STARTS)
    pod = _pod(client, namespace, "waits")
    becomes(client, waits, "Ready", "False", "Progressing")
    _cannot_mount(kubectl, pod, f'secret "{SECRET}" not found')
    found = becomes(client, waits, "Ready", "False", "SecretMissing")
    assert f"the Secret {SECRET} does not exist in this namespace" in found["message"]
    assert "create it" in found["message"]
    assert becomes(client, waits, "Stalled", "False")
    url = "--from-literal=url=postgresql://buildgrid:hunter2@db/buildgrid"
    kubectl("-n", namespace, "create", "secret", "generic", SECRET, url, check=True)
    _runs(client, client.get(POD, namespace, pod["metadata"]["name"]))
    becomes(client, waits, "Ready", "True")
    becomes(client, waits, "ConfigApplied", "True")


def test_a_key_that_is_not_in_it_is_named(
    client: Client, kubectl: Kubectl, namespace: str, apply: Apply
) -> None:
    waits = apply("lacks-key", podTemplate=NEVER_STARTS)
    pod = _pod(client, namespace, "lacks-key")
    _cannot_mount(kubectl, pod, "references non-existent secret key: url")
    found = becomes(client, waits, "Ready", "False", "KeyMissing")
    assert "the key url is not in what the pod" in found["message"]
