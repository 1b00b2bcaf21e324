"""Deleting a Scheduler always ends, and takes its objects along, but for a volume that is to be kept."""

import json

import pytest
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.kinds import ObjectRef

from tests.cluster.conftest import Kubectl
from tests.cluster.operator.conftest import Apply, Start
from tests.cluster.operator.fleet import PlayedFleet
from tests.cluster.operator.processes import Operator, becomes, eventually

pytestmark = pytest.mark.timeout(300)
KINDS = "cm,deploy,netpol,pvc,svc,sa,sts,pdb,pods"
DRAIN = {"deletion": {"drain": True}}


def _delete(kubectl: Kubectl, ref: ObjectRef) -> None:
    kubectl("-n", ref.namespace, "delete", "schedulers.buildgrid.build", ref.name, "--wait=false", check=True)


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


def test_a_drained_one_goes_when_its_jobs_have_ended(
    client: Client, kubectl: Kubectl, apply: Apply, operator: Operator, fleet: PlayedFleet
) -> None:
    ref = apply("drained", **DRAIN)
    becomes(client, ref, "ConfigApplied", "True")
    assert client.get(ref.kind, ref.namespace, ref.name)["metadata"]["finalizers"] == [
        "buildgrid.build/drain"
    ]
    fleet.waiting((2, {}), executing=1)
    _delete(kubectl, ref)
    found = becomes(client, ref, "Ready", "False", "Deleting")
    assert "1 job executing and 2 queued" in found["message"]
    fleet.waiting()
    _gone(kubectl, ref)


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
