"""What the chart's Jobs run: crds, drain, create-password."""

import base64
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
import yaml
from buildgrid_operator.api.crd import KINDS, crd_of
from buildgrid_operator.cli.crds import apply_crds
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.kinds import CUSTOM_RESOURCE_DEFINITION, DEPLOYMENT, LEASE, ObjectRef

from tests.cluster.conftest import Kubectl
from tests.cluster.operator.conftest import Apply, Json, Start
from tests.cluster.operator.fleet import PlayedFleet
from tests.cluster.operator.processes import COMMAND, becomes, eventually

USELESS = 3
FINALIZER = "buildgrid.build/drain"
OURS = {"app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/instance": "rel"}


def _run(*arguments: str, timeout: float = 110) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, timeout=timeout, check=False)


def _renamed(crd: Json, plural: str) -> Json:
    """A CRD of a group of its own, which no other test looks at."""
    text = json.dumps(crd).replace("buildgrid.build", "test.buildgrid.build")
    renamed: Json = json.loads(text)
    renamed["metadata"]["name"] = f"{plural}.test.buildgrid.build"
    # Such groups need an approval only below k8s.io; this one is anybody's.
    renamed["spec"]["names"]["shortNames"] = []
    renamed["spec"]["names"]["categories"] = []
    return renamed


@contextmanager
def _installed(client: Client, crd: Json) -> Iterator[None]:
    client.apply(crd)
    try:
        yield
    finally:
        client.delete(ObjectRef(CUSTOM_RESOURCE_DEFINITION, "", crd["metadata"]["name"]))


def test_crds_print_is_what_the_models_say() -> None:
    answer = _run("crds", "print")
    assert answer.returncode == 0, answer.stderr
    assert list(yaml.safe_load_all(answer.stdout)) == [crd_of(kind) for kind in KINDS]


def test_crds_apply_twice_changes_nothing(crds: None, client: Client) -> None:
    names = [crd_of(kind)["metadata"]["name"] for kind in KINDS]

    def versions() -> list[int]:
        return [
            client.get(CUSTOM_RESOURCE_DEFINITION, None, name)["metadata"]["generation"] for name in names
        ]

    first = _run("crds", "apply", "--timeout=60s")
    assert first.returncode == 0, first.stderr
    before = versions()
    assert _run("crds", "apply", "--timeout=60s").returncode == 0
    assert versions() == before


def test_a_newer_crd_is_not_replaced_by_an_older_one(
    client: Client, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old = _renamed(crd_of(KINDS[0]), "propertysets")
    new: Json = json.loads(json.dumps(old))
    schema = new["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    schema["properties"]["spec"]["properties"]["later"] = {"type": "string", "maxLength": 3}
    monkeypatch.setattr("buildgrid_operator.cli.crds.KINDS", ("one",))
    told: dict[str, Json] = {"one": old}
    monkeypatch.setattr("buildgrid_operator.cli.crds.crd_of", told.__getitem__)
    with _installed(client, new):
        assert apply_crds(client, timedelta(seconds=60)) == USELESS
        assert "it has spec.later" in capsys.readouterr().err
        live = client.get(CUSTOM_RESOURCE_DEFINITION, None, old["metadata"]["name"])
        assert "later" in json.dumps(live["spec"])
        # The other way round it is an upgrade.
        told["one"] = new
        assert apply_crds(client, timedelta(seconds=60)) == 0


def test_create_password_makes_it_once(kubectl: Kubectl, namespace: str) -> None:
    arguments = (
        *("create-password", f"--namespace={namespace}", "--secret=trial", "--key=password"),
        *("--label=app.kubernetes.io/instance=a", "--label=app.kubernetes.io/part-of=buildgrid"),
    )

    def secret() -> Json:
        found: Json = json.loads(
            kubectl("-n", namespace, "get", "secret", "trial", "-o", "json", check=True).stdout
        )
        return found

    answer = _run(*arguments)
    assert answer.returncode == 0, answer.stderr
    first = secret()
    password = base64.b64decode(first["data"]["password"]).decode()
    assert len(password) >= 32
    assert password not in answer.stdout + answer.stderr
    assert first["metadata"]["labels"]["app.kubernetes.io/part-of"] == "buildgrid"
    assert _run(*arguments).returncode == 0
    assert secret()["data"] == first["data"]


@pytest.fixture(scope="module")
def deployment(client: Client, namespace: str) -> ObjectRef:
    """An operator's Deployment, whose pod runs nothing; the operator is a process beside it."""
    labels = {"app": "operator"}
    obj = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "op", "namespace": namespace},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "a", "image": "example.org/a:1"}]},
            },
        },
    }
    return ObjectRef.of(client.apply(obj))


def _drain(namespace: str, *flags: str) -> "subprocess.CompletedProcess[str]":
    return _run(
        *("drain", "--release=rel", f"--release-namespace={namespace}", "--operator-deployment=op"),
        *("--leader-election-name=buildgrid-operator", f"--namespace={namespace}", *flags),
    )


@pytest.mark.timeout(300)
def test_drain_refuses_while_there_are_jobs_and_then_frees_all(
    client: Client,
    namespace: str,
    apply: Apply,
    start_operator: Start,
    fleet: PlayedFleet,
    deployment: ObjectRef,
) -> None:
    operator = start_operator(identity="pod-0").leads()
    busy = apply("busy", deletion={"drain": True})
    client.patch_merge(busy, {"metadata": {"labels": OURS}})
    other = apply("other", deletion={"drain": True})
    for each in (busy, other):
        becomes(client, each, "ConfigApplied", "True")
    fleet.waiting((2, {}), executing=1)
    eventually(
        lambda: client.get(busy.kind, namespace, "busy")["status"].get("queuedJobs") == 2, "it is told"
    )
    refused = _drain(namespace, "--timeout=2s")
    assert refused.returncode == USELESS
    assert "1 jobs executing, 2 queued" in refused.stderr
    assert client.get(DEPLOYMENT, namespace, "op")["spec"]["replicas"] == 1
    fleet.waiting()
    eventually(
        lambda: client.get(busy.kind, namespace, "busy")["status"].get("queuedJobs") == 0, "it is told"
    )
    # A job that comes now is finished before the operator, whose pod the process is, is stopped.
    fleet.frozen = True
    drain = subprocess.Popen(
        [
            *(COMMAND, "drain", "--release=rel", f"--release-namespace={namespace}"),
            *("--operator-deployment=op", "--timeout=60s", f"--namespace={namespace}"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    becomes(client, busy, "Ready", "False", "Deleting")
    assert client.get(DEPLOYMENT, namespace, "op")["spec"]["replicas"] == 1
    fleet.frozen = False
    eventually(lambda: client.get(DEPLOYMENT, namespace, "op")["spec"]["replicas"] == 0, "it is scaled down")
    assert client.find(busy.kind, namespace, "busy") is None
    assert client.get(LEASE, namespace, "buildgrid-operator")["spec"]["holderIdentity"] == "pod-0"
    assert FINALIZER in client.get(other.kind, namespace, "other")["metadata"]["finalizers"]
    assert operator.stop() == 0
    said, _ = drain.communicate(timeout=100)
    assert drain.returncode == 0
    assert (said.count("deleted, and drains"), said.count("freed")) == (1, 1)
    assert client.find(LEASE, namespace, "buildgrid-operator") is None
    assert "finalizers" not in client.get(other.kind, namespace, "other")["metadata"]


def test_drain_of_nothing_is_done_at_once(namespace: str) -> None:
    answer = _run(
        *("drain", "--release=none", f"--release-namespace={namespace}", "--operator-deployment=none"),
        *(f"--namespace={namespace}", "--timeout=1s", "--when-busy=refuse"),
    )
    assert (answer.returncode, answer.stderr) == (0, "")
