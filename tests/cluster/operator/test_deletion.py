"""Deleting a Scheduler always ends, and takes its objects along, but for a volume that is to be kept."""

import json
from typing import Any

import pytest
import yaml
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.kinds import CONFIG_MAP, POD, ObjectRef
from buildgrid_operator.desired.config import FILE_NAME

from tests.cluster.conftest import Kubectl
from tests.cluster.operator.conftest import Apply, Start
from tests.cluster.operator.fleet import PlayedFleet
from tests.cluster.operator.processes import Operator, becomes, condition, eventually

pytestmark = pytest.mark.timeout(300)
KINDS = "cm,deploy,netpol,pvc,svc,sa,sts,pdb,pods"
DRAIN = {"deletion": {"drain": True}}


def _delete(kubectl: Kubectl, ref: ObjectRef, cascade: str = "background") -> None:
    what = ("delete", "schedulers.buildgrid.build", ref.name, f"--cascade={cascade}", "--wait=false")
    kubectl("-n", ref.namespace, *what, check=True)


def _accepts_new_jobs(client: Client, ref: ObjectRef) -> bool:
    text = client.get(CONFIG_MAP, ref.namespace, f"{ref.name}-config")["data"][FILE_NAME]
    config: dict[str, Any] = yaml.safe_load(text)
    accepts: bool = config.get("scheduler", {}).get("accept_new_jobs", True)
    return accepts


def _pods(client: Client, ref: ObjectRef) -> set[str]:
    selector = f"buildgrid.build/scheduler={ref.name}"
    return {pod["metadata"]["uid"] for pod in client.list(POD, ref.namespace, labels=selector).items}


def _gone(kubectl: Kubectl, ref: ObjectRef) -> None:
    arguments = ("wait", "--for=delete", "--timeout=110s", f"schedulers.buildgrid.build/{ref.name}")
    kubectl("-n", ref.namespace, *arguments, check=True, timeout=120)


def _left(kubectl: Kubectl, ref: ObjectRef) -> list[str]:
    selector = f"buildgrid.build/scheduler={ref.name}"
    answer = kubectl("-n", ref.namespace, "get", KINDS, "-l", selector, "-o", "json", check=True)
    return [f"{obj['kind']} {obj['metadata']['name']}" for obj in json.loads(answer.stdout)["items"]]


def test_with_the_operator_up_all_goes_but_the_volume(
    client: Client, kubectl: Kubectl, apply: Apply, operator: Operator
) -> None:
    ref = apply("up")
    becomes(client, ref, "Ready", "True")
    _delete(kubectl, ref)
    _gone(kubectl, ref)
    kept = ["PersistentVolumeClaim up-storage-data"]
    eventually(lambda: _left(kubectl, ref) == kept, "garbage collection", timeout=110)
    # One of the same name takes the volume over.
    again = apply("up")
    becomes(client, again, "ConfigApplied", "True")


def test_a_drained_one_takes_no_new_jobs_and_goes_when_the_others_have_ended(
    client: Client, kubectl: Kubectl, apply: Apply, operator: Operator, fleet: PlayedFleet
) -> None:
    ref = apply("drained", **DRAIN)
    becomes(client, ref, "ConfigApplied", "True")
    assert client.get(ref.kind, ref.namespace, ref.name)["metadata"]["finalizers"] == [
        "buildgrid.build/drain"
    ]
    pods = _pods(client, ref)
    fleet.waiting((2, {}), executing=1)
    _delete(kubectl, ref)
    found = becomes(client, ref, "Ready", "False", "Deleting")
    assert "1 job executing and 2 queued" in found["message"]
    # New ones are refused, by the replicas that there are.
    becomes(client, ref, "ConfigApplied", "True")
    eventually(lambda: "; new jobs are refused;" in condition(client, ref, "Ready")["message"], "it tells so")
    assert not _accepts_new_jobs(client, ref)
    assert _pods(client, ref) == pods
    fleet.waiting()
    _gone(kubectl, ref)


def test_without_jobs_it_goes_once_every_replica_refuses_new_ones(
    client: Client, kubectl: Kubectl, apply: Apply, operator: Operator, fleet: PlayedFleet
) -> None:
    ref = apply("slow", **DRAIN)
    fleet.waiting()
    becomes(client, ref, "ConfigApplied", "True")
    fleet.frozen = True
    _delete(kubectl, ref)
    becomes(client, ref, "ConfigApplied", "False", "Applying")
    told = becomes(client, ref, "Ready", "False", "Deleting")
    assert "no jobs left; no replica is known to refuse new jobs yet" in told["message"]
    fleet.frozen = False
    _gone(kubectl, ref)


def test_replicas_that_know_no_such_switch_are_drained_all_the_same(
    client: Client, kubectl: Kubectl, apply: Apply, operator: Operator, fleet: PlayedFleet
) -> None:
    ref = apply("old", **DRAIN)
    becomes(client, ref, "ConfigApplied", "True")
    fleet.refuses = "scheduler.accept_new_jobs: is not known"
    fleet.waiting((2, {}))
    _delete(kubectl, ref)
    eventually(
        lambda: (
            "still taken (scheduler.accept_new_jobs: is not known)"
            in condition(client, ref, "Ready")["message"]
        ),
        "it tells so",
    )
    fleet.waiting()
    _gone(kubectl, ref)
    fleet.refuses = ""


def test_whose_pods_go_first_has_nothing_to_wait_for(
    client: Client, kubectl: Kubectl, apply: Apply, operator: Operator, fleet: PlayedFleet
) -> None:
    ref = apply("foreground", **DRAIN)
    becomes(client, ref, "ConfigApplied", "True")
    fleet.waiting((2, {}))
    _delete(kubectl, ref, "foreground")
    _gone(kubectl, ref)
    fleet.waiting()


def test_whose_objects_are_to_stay_is_not_drained(
    client: Client, kubectl: Kubectl, apply: Apply, operator: Operator, fleet: PlayedFleet
) -> None:
    ref = apply("orphaned", **DRAIN)
    becomes(client, ref, "ConfigApplied", "True")
    fleet.waiting((2, {}))
    _delete(kubectl, ref, "orphan")
    _gone(kubectl, ref)
    assert _accepts_new_jobs(client, ref)
    assert _pods(client, ref)
    fleet.waiting()


def test_after_the_drain_timeout_it_goes_all_the_same(
    client: Client, kubectl: Kubectl, apply: Apply, operator: Operator, fleet: PlayedFleet
) -> None:
    ref = apply("impatient", deletion={"drain": True, "drainTimeout": "5s"})
    becomes(client, ref, "ConfigApplied", "True")
    fleet.waiting((2, {}))
    _delete(kubectl, ref)
    _gone(kubectl, ref)
    fleet.waiting()


def test_draining_that_is_given_up_ends_it_at_once(
    client: Client, kubectl: Kubectl, apply: Apply, operator: Operator, fleet: PlayedFleet
) -> None:
    ref = apply("given-up", **DRAIN)
    becomes(client, ref, "ConfigApplied", "True")
    fleet.waiting((2, {}))
    _delete(kubectl, ref)
    becomes(client, ref, "Ready", "False", "Deleting")
    client.patch_merge(ref, {"spec": {"deletion": {"drain": False}}})
    _gone(kubectl, ref)
    fleet.waiting()


def test_the_finalizer_goes_when_draining_is_not_wanted_any_more(
    client: Client, apply: Apply, operator: Operator
) -> None:
    ref = apply("undecided", **DRAIN)
    becomes(client, ref, "Ready", "True")
    apply("undecided", deletion={"drain": False})
    eventually(
        lambda: "finalizers" not in client.get(ref.kind, ref.namespace, ref.name)["metadata"], "it is removed"
    )


def test_with_the_operator_down_all_goes_as_well(
    client: Client, kubectl: Kubectl, apply: Apply, operator: Operator
) -> None:
    ref = apply("down")
    becomes(client, ref, "Ready", "True")
    operator.kill()
    _delete(kubectl, ref)
    _gone(kubectl, ref)
    eventually(lambda: len(_left(kubectl, ref)) == 1, "garbage collection", timeout=110)


def test_a_namespace_ends_with_the_operator_inside_although_jobs_wait(
    client: Client, kubectl: Kubectl, namespace: str, apply: Apply, start_operator: Start, fleet: PlayedFleet
) -> None:
    """The last test of the file: it is its namespace."""
    last = start_operator().leads()
    ref = apply("last", **DRAIN)
    becomes(client, ref, "ConfigApplied", "True")
    fleet.waiting((2, {}))
    kubectl("delete", "namespace", namespace, "--wait=false", check=True)
    # Its pod gets SIGTERM then.
    assert last.stop() == 0
    kubectl("wait", "--for=delete", "--timeout=110s", f"namespace/{namespace}", check=True, timeout=120)
