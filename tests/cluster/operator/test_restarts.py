"""The operator is killed, replaced, doubled and swamped, and the end is the same."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.kinds import CONFIG_MAP, LEASE, ObjectRef

from tests.cluster.conftest import Kubectl
from tests.cluster.operator.conftest import Apply, Json, Start
from tests.cluster.operator.processes import Operator, becomes, eventually

pytestmark = pytest.mark.timeout(300)
TAKEOVER = 20.0
EDITS = 100
KINDS = "cm,deploy,netpol,pvc,svc,sa,sts,pdb"


@pytest.fixture
def operator(start_operator: Start) -> Operator:
    """A new one; those before it are gone."""
    return start_operator(identity="pod-0").leads()


def _state(kubectl: Kubectl, namespace: str, name: str) -> Json:
    """What the operator decides of all objects of a Scheduler, without names, which differ."""
    selector = f"buildgrid.build/scheduler={name}"
    answer = kubectl("-n", namespace, "get", KINDS, "-l", selector, "-o", "json", check=True)
    return {
        f"{obj['kind']} {obj['metadata']['name']}".replace(name, "NAME"): (
            sorted(obj["metadata"]["labels"]),
            sorted(obj.get("spec", {})),
            sorted(obj.get("data", {})),
        )
        for obj in json.loads(answer.stdout)["items"]
    }


@pytest.mark.parametrize("step", range(4))
def test_killed_in_the_middle_of_a_pass_the_next_one_ends_it(
    client: Client, kubectl: Kubectl, namespace: str, apply: Apply, start_operator: Start, step: int
) -> None:
    first = start_operator(identity="pod-0").leads()
    whole = apply(f"whole-{step}")
    becomes(client, whole, "ConfigApplied", "True")
    name = f"cut-{step}"
    apply(name)
    awaited = [f"{name}-scheduler", f"{name}-config", f"{name}-storage-config", f"{name}-storage-data"][step]
    kind = ["serviceaccount", "configmap", "configmap", "pvc"][step]
    kubectl("-n", namespace, "wait", "--for=create", "--timeout=60s", kind, awaited, check=True, timeout=90)
    first.kill()
    second = start_operator(identity="pod-0").leads()
    becomes(client, ObjectRef(whole.kind, namespace, name), "ConfigApplied", "True")
    assert _state(kubectl, namespace, name) == _state(kubectl, namespace, whole.name)
    assert second.stop() == 0


def test_what_changed_while_it_was_down_is_put_right(
    client: Client, kubectl: Kubectl, namespace: str, apply: Apply, start_operator: Start, operator: Operator
) -> None:
    gone = apply("gone")
    stays = apply("stays")
    for each in (gone, stays):
        becomes(client, each, "ConfigApplied", "True")
    operator.kill()
    kubectl("-n", namespace, "delete", "schedulers.buildgrid.build", "gone", check=True)
    kubectl("-n", namespace, "delete", "service", "stays-admin", check=True)
    patch = '{"data": {"scheduler.yaml": "x"}}'
    kubectl("-n", namespace, "patch", "configmap", "stays-config", "-p", patch, check=True)
    again = start_operator(identity="pod-0").leads()
    kubectl("-n", namespace, "wait", "--for=create", "--timeout=60s", "service", "stays-admin", check=True)
    eventually(
        lambda: client.get(CONFIG_MAP, namespace, "stays-config")["data"]["scheduler.yaml"] != "x",
        "it is healed",
    )
    again.comes_to_rest()
    assert again.stop() == 0


def test_a_restart_writes_nothing_to_what_is_as_it_should_be(
    client: Client, apply: Apply, start_operator: Start, operator: Operator
) -> None:
    rests = apply("rests")
    becomes(client, rests, "ConfigApplied", "True")
    operator.comes_to_rest()
    assert operator.stop() == 0
    again = start_operator(identity="pod-0").leads()
    eventually(lambda: again.passes() >= 10, "it looked at all of them")
    assert again.writes() == 0
    assert again.stop() == 0


def test_a_hundred_edits_in_a_second_are_few_passes(
    client: Client, kubectl: Kubectl, namespace: str, apply: Apply, operator: Operator
) -> None:
    busy = apply("busy")
    becomes(client, busy, "ConfigApplied", "True")
    operator.comes_to_rest()
    passes, begun = operator.passes(), time.monotonic()

    def edit(number: int) -> None:
        level = "Debug" if number % 2 else "Info"
        client.patch_merge(busy, {"spec": {"logging": {"level": level}}})

    with ThreadPoolExecutor(10) as threads:
        list(threads.map(edit, range(1, EDITS)))
    client.patch_merge(busy, {"spec": {"logging": {"level": "Warning"}}})
    becomes(client, busy, "ConfigApplied", "True")
    took = time.monotonic() - begun
    text = client.get(CONFIG_MAP, namespace, "busy-config")["data"]["scheduler.yaml"]
    assert "warning" in text.lower()
    # At most one a second for the edits; all Schedulers here have one in ten seconds besides.
    others = len(client.list(busy.kind, namespace).items)
    assert operator.passes() - passes <= 2 + took + others * (1 + took / 10)
    assert operator.stop() == 0


def test_of_two_operators_one_acts_and_the_other_takes_over(
    client: Client, namespace: str, apply: Apply, start_operator: Start
) -> None:
    first = start_operator(identity="pod-a").leads()
    second = start_operator(identity="pod-b")
    eventually(lambda: "waits: pod-a leads" in second.log, "the second one waits")
    one = apply("one")
    becomes(client, one, "ConfigApplied", "True")
    assert second.writes() == second.passes() == 0
    first.kill()
    killed = time.monotonic()
    two = apply("two")
    second.leads()
    assert time.monotonic() - killed < TAKEOVER
    becomes(client, two, "ConfigApplied", "True")
    lease = client.get(LEASE, namespace, "buildgrid-operator")
    assert lease["spec"]["holderIdentity"] == "pod-b"
    assert second.stop() == 0


def test_who_loses_the_lease_ends_at_once(client: Client, namespace: str, start_operator: Start) -> None:
    robbed = start_operator(identity="pod-c").leads()
    client.patch_merge(
        ObjectRef(LEASE, namespace, "buildgrid-operator"), {"spec": {"holderIdentity": "thief"}}
    )
    assert robbed.ended() == 1
    assert "is lost" in robbed.log
    client.delete(ObjectRef(LEASE, namespace, "buildgrid-operator"))
