"""The smallest Scheduler, applied to a cluster with an operator."""

import json

import pytest
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.kinds import POD
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2 import BotStatus

from tests.cluster.conftest import Kubectl
from tests.cluster.operator.conftest import Apply, Json
from tests.cluster.operator.fleet import PlayedFleet
from tests.cluster.operator.processes import Operator, becomes, eventually

pytestmark = pytest.mark.usefixtures("operator")
OBJECTS = {
    "ConfigMap": {"main-config", "main-storage-config"},
    "Deployment": {"main-scheduler"},
    "NetworkPolicy": {"main-scheduler", "main-storage"},
    "PersistentVolumeClaim": {"main-storage-data"},
    "Service": {"main-scheduler", "main-bots", "main-admin", "main-storage"},
    "ServiceAccount": {"main-scheduler", "main-storage"},
    "StatefulSet": {"main-storage"},
}
KINDS = "cm,deploy,netpol,pvc,svc,sa,sts,pdb,ingress"


def _objects(kubectl: Kubectl, namespace: str, scheduler: str) -> dict[str, set[str]]:
    selector = f"buildgrid.build/scheduler={scheduler}"
    answer = kubectl("-n", namespace, "get", KINDS, "-l", selector, "-o", "json", check=True)
    found: dict[str, set[str]] = {}
    for obj in json.loads(answer.stdout)["items"]:
        found.setdefault(obj["kind"], set()).add(obj["metadata"]["name"])
    return found


def test_the_minimal_example_gives_all_objects_and_becomes_ready(
    client: Client, kubectl: Kubectl, namespace: str, apply: Apply
) -> None:
    main = apply()
    ready = becomes(client, main, "Ready", "True", "Serving")
    becomes(client, main, "ConfigApplied", "True", "Applied")
    becomes(client, main, "Degraded", "False")
    becomes(client, main, "Stalled", "False")
    assert "1 of 1" in ready["message"]
    assert _objects(kubectl, namespace, "main") == OBJECTS
    status = client.get(main.kind, namespace, "main")["status"]
    assert status["observedGeneration"] == 1
    assert status["readyReplicas"] == status["configuredReplicas"] == 1
    assert status["endpoints"]["scheduler"] == f"grpc://main-scheduler.{namespace}.svc.cluster.local:50051"
    assert status["image"] == "example.org/buildgrid/scheduler:1"


def test_figures_of_jobs_and_bots_are_told(
    client: Client, kubectl: Kubectl, namespace: str, apply: Apply, fleet: PlayedFleet
) -> None:
    farm = apply("farm")
    becomes(client, farm, "ConfigApplied", "True")
    fleet.waiting((2, {}), executing=3)
    fleet.bots = {BotStatus.OK: 4, BotStatus.UNHEALTHY: 1}

    def columns() -> list[str]:
        path = "jsonpath={.status.queuedJobs} {.status.executingJobs} {.status.connectedBots}"
        answer = kubectl("-n", namespace, "get", "schedulers.buildgrid.build", "farm", "-o", path, check=True)
        return answer.stdout.split()

    eventually(lambda: columns() == ["2", "3", "5"], "it is told")
    fleet.waiting()
    fleet.bots = {}
    eventually(lambda: columns() == ["0", "0", "0"], "it is told")


def test_nothing_of_kopf_is_on_the_users_object(client: Client, namespace: str, apply: Apply) -> None:
    main = apply("plain")
    becomes(client, main, "Ready", "True")
    metadata = client.get(main.kind, namespace, "plain")["metadata"]
    assert "finalizers" not in metadata
    assert "kopf" not in json.dumps(metadata)


def test_it_is_told_in_an_event_once(client: Client, kubectl: Kubectl, namespace: str, apply: Apply) -> None:
    told = apply("told")
    becomes(client, told, "ConfigApplied", "True")

    def events() -> list[Json]:
        answer = kubectl("-n", namespace, "get", "events.events.k8s.io", "-o", "json", check=True)
        items = json.loads(answer.stdout)["items"]
        return [
            each for each in items if each["regarding"].get("name") == "told" and each["reason"] == "Serving"
        ]

    (event,) = eventually(events, "an event")
    assert event["type"] == "Normal"
    assert event["reportingController"] == "buildgrid.build/operator"


def test_an_edit_of_a_reloadable_field_reaches_the_replicas_and_rolls_nothing(
    client: Client, namespace: str, apply: Apply
) -> None:
    edited = apply("edited")
    becomes(client, edited, "ConfigApplied", "True")
    selector = "buildgrid.build/scheduler=edited,app.kubernetes.io/component=scheduler"

    def pods() -> dict[str, str]:
        found = client.list(POD, namespace, labels=selector).items
        return {
            pod["metadata"]["uid"]: pod["metadata"]
            .get("annotations", {})
            .get("buildgrid.build/config-hash", "")
            for pod in found
        }

    before = pods()
    old = client.get(edited.kind, namespace, "edited")["status"]["configHash"]
    apply("edited", logging={"level": "Debug"})
    becomes(client, edited, "ConfigApplied", "True", "Applied")
    new = client.get(edited.kind, namespace, "edited")["status"]["configHash"]
    assert new != old
    # The same pods, which were told to look at their ConfigMap.
    assert pods() == dict.fromkeys(before, new)


def test_a_replica_that_refuses_a_configuration_is_told_of(
    client: Client, apply: Apply, fleet: PlayedFleet
) -> None:
    refused = apply("refused")
    becomes(client, refused, "ConfigApplied", "True")
    fleet.refuses = "jobs.queue_timeout: is too long"
    try:
        apply("refused", logging={"level": "Debug"})
        found = becomes(client, refused, "ConfigApplied", "False", "ConfigRefused")
    finally:
        fleet.refuses = ""
    assert "jobs.queue_timeout: is too long" in found["message"]
    becomes(client, refused, "ConfigApplied", "True", "Applied")
    becomes(client, refused, "Ready", "True")


def test_a_rolling_edit_replaces_the_pods(client: Client, namespace: str, apply: Apply) -> None:
    rolled = apply("rolled")
    becomes(client, rolled, "Ready", "True")
    apply("rolled", image="example.org/buildgrid/scheduler:2", replicas=3)
    becomes(client, rolled, "Ready", "True", "Serving")
    status = client.get(rolled.kind, namespace, "rolled")["status"]
    assert (status["image"], status["readyReplicas"]) == ("example.org/buildgrid/scheduler:2", 3)
    # What is not the scheduler's stays: the storage's image is its own.
    assert status["storageImage"] == "example.org/buildgrid/scheduler:1"


def test_what_an_object_needs_no_more_is_removed(
    client: Client, kubectl: Kubectl, namespace: str, apply: Apply
) -> None:
    shrinks = apply("shrinks", replicas=2)
    becomes(client, shrinks, "Ready", "True")
    assert "PodDisruptionBudget" in _objects(kubectl, namespace, "shrinks")
    apply("shrinks", replicas=1, networkPolicy={"enabled": False})
    becomes(client, shrinks, "Ready", "True")
    eventually(
        lambda: not {"PodDisruptionBudget", "NetworkPolicy"} & set(_objects(kubectl, namespace, "shrinks")),
        "they are gone",
    )


def test_an_operator_that_sees_no_change_writes_nothing(
    client: Client, apply: Apply, operator: Operator
) -> None:
    quiet = apply("quiet")
    becomes(client, quiet, "ConfigApplied", "True")
    operator.comes_to_rest()
    assert operator.metric(r'^buildgrid_operator_reconcile_total\{.*result="error"') == 0
