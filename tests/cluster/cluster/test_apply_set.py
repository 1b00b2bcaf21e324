"""All objects of an owner on the real API server: nothing is done twice, hand edits heal, leftovers go."""

import json
from collections.abc import Callable

import pytest
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.errors import KindMissing, PermissionMissing, ServerError, Unreachable
from buildgrid_operator.cluster.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    NETWORK_POLICY,
    POD_DISRUPTION_BUDGET,
    SERVICE,
    Manifest,
    ObjectRef,
)
from buildgrid_operator.desired.names import OWNER_UID_LABEL
from buildgrid_operator.reconcile.apply_set import ApplySet, NameTaken, Report
from buildgrid_operator.reconcile.refusals import refusal_of

from tests.cluster.cluster.conftest import Calls
from tests.cluster.cluster.faults import HANG_UP, Fault, FaultyServer
from tests.cluster.cluster.objects import (
    config_map,
    deployment,
    disruption_budget,
    grpc_route,
    network_policy,
    owned,
    service,
)
from tests.cluster.conftest import Kubectl

KINDS = (CONFIG_MAP, SERVICE, DEPLOYMENT, POD_DISRUPTION_BUDGET, NETWORK_POLICY)
NO_NETWORK_POLICIES = (
    '[{apiGroups: ["", apps, policy], resources: [configmaps, services, deployments, poddisruptionbudgets], '
    "verbs: [get, create, patch, delete]}, "
    "{apiGroups: [networking.k8s.io], resources: [networkpolicies], verbs: [get, patch]}]"
)


class Farm:
    """An owner, the objects that it should have, and what a watch of them shows."""

    def __init__(self, client: Client, namespace: str, name: str) -> None:
        self.client = client
        self.namespace = namespace
        self.name = name
        self.owner = client.create(config_map(namespace, f"{name}-owner"))
        self.uid: str = self.owner["metadata"]["uid"]
        self.wanted = [
            owned(make(namespace, name), self.owner)
            for make in (config_map, service, deployment, disruption_budget, network_policy)
        ]

    def ref(self, kind: object) -> ObjectRef:
        return next(ObjectRef.of(obj) for obj in self.wanted if ObjectRef.of(obj).kind == kind)

    def live(self) -> dict[ObjectRef, Manifest]:
        label = f"{OWNER_UID_LABEL}={self.uid}"
        return {
            ObjectRef.of(obj): obj
            for kind in KINDS
            for obj in self.client.list(kind, self.namespace, labels=label).items
        }

    def apply(self, applied: ApplySet | None = None) -> Report:
        return (applied or ApplySet(self.client)).apply(self.wanted, self.live(), owner_uid=self.uid)

    def get(self, kind: object) -> Manifest:
        ref = self.ref(kind)
        return self.client.get(ref.kind, ref.namespace, ref.name)


@pytest.fixture
def farm(client: Client, namespace: str, request: pytest.FixtureRequest) -> Farm:
    """With a name of its own."""
    name = request.node.originalname.removeprefix("test_").replace("_", "-")[:40].strip("-")
    return Farm(client, namespace, name)


def test_everything_is_made_in_order(farm: Farm) -> None:
    report = farm.apply()
    assert report.applied == [ObjectRef.of(obj) for obj in farm.wanted]
    assert set(report.live) == set(farm.live())


@pytest.mark.parametrize("restarted", [False, True], ids=["same process", "after a restart"])
def test_a_pass_without_changes_writes_nothing_and_asks_nothing(
    client: Client, namespace: str, calls: Calls, restarted: bool
) -> None:
    farm = Farm(client, namespace, f"unchanged-{restarted}".lower())
    applied = ApplySet(client)
    farm.apply(applied)
    live = farm.live()
    calls.clear()
    report = (ApplySet(client) if restarted else applied).apply(farm.wanted, live, owner_uid=farm.uid)
    assert report.unchanged == [ObjectRef.of(obj) for obj in farm.wanted]
    assert calls == []


def test_a_change_of_one_object_applies_that_one(farm: Farm) -> None:
    farm.apply()
    farm.wanted[0]["data"] = {"a": "2"}
    assert farm.apply().applied == [farm.ref(CONFIG_MAP)]
    assert farm.get(CONFIG_MAP)["data"] == {"a": "2"}


HAND_EDITS = [
    (DEPLOYMENT, [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "x:2"}]),
    (DEPLOYMENT, [{"op": "replace", "path": "/spec/template/spec/containers/0/args", "value": ["sh"]}]),
    (DEPLOYMENT, [{"op": "remove", "path": "/spec/template/spec/containers/0/env/0"}]),
    (DEPLOYMENT, [{"op": "remove", "path": "/metadata/labels/app.kubernetes.io~1instance"}]),
    (SERVICE, [{"op": "replace", "path": "/spec/ports/0/targetPort", "value": "http"}]),
    (NETWORK_POLICY, [{"op": "remove", "path": "/spec/ingress/0/ports"}]),
    (POD_DISRUPTION_BUDGET, [{"op": "remove", "path": "/spec/unhealthyPodEvictionPolicy"}]),
]


@pytest.mark.parametrize("number", range(len(HAND_EDITS)))
def test_a_hand_edit_is_seen_and_healed(
    client: Client, namespace: str, kubectl: Kubectl, number: int
) -> None:
    farm = Farm(client, namespace, f"edited-{number}")
    farm.apply()
    kind, patch = HAND_EDITS[number]
    before = farm.get(kind)["spec"]
    kubectl(
        "patch", kind.plural, farm.name, "-n", namespace, "--type=json", "-p", json.dumps(patch), check=True
    )
    report = farm.apply()
    assert report.applied == [farm.ref(kind)]
    assert farm.get(kind)["spec"] == before
    assert farm.apply().applied == []


def test_what_others_add_beside_our_fields_is_left_alone(farm: Farm, kubectl: Kubectl) -> None:
    farm.apply()
    arguments = ("deployment", farm.name, "-n", farm.namespace, "--overwrite")
    kubectl("label", *arguments, "team=builds", check=True)
    kubectl("annotate", *arguments, "backup.example.org/yes=1", check=True)
    template = '{"spec":{"template":{"metadata":{"annotations":{"mesh.example.org/injected":"1"}}}}}'
    kubectl("patch", *arguments[:4], "-p", template, check=True)
    assert farm.apply().applied == []
    stored = farm.get(DEPLOYMENT)
    assert stored["metadata"]["labels"]["team"] == "builds"
    assert stored["spec"]["template"]["metadata"]["annotations"]["mesh.example.org/injected"] == "1"


def test_foreign_containers_env_volumes_and_mounts_are_taken_out(farm: Farm, kubectl: Kubectl) -> None:
    farm.apply()
    wanted = farm.get(DEPLOYMENT)["spec"]["template"]["spec"]
    foreign = {
        "containers": [
            {"name": "miner", "image": "evil:1"},
            {
                "name": "scheduler",
                "env": [{"name": "LD_PRELOAD", "value": "/evil.so"}],
                "envFrom": [{"secretRef": {"name": "all"}}],
                "volumeMounts": [{"name": "host", "mountPath": "/host"}],
            },
        ],
        "initContainers": [{"name": "first", "image": "evil:1"}],
        "volumes": [{"name": "host", "hostPath": {"path": "/"}}],
    }
    patch = json.dumps({"spec": {"template": {"spec": foreign}}})
    kubectl("patch", "deployment", farm.name, "-n", farm.namespace, "-p", patch, check=True)
    assert len(farm.get(DEPLOYMENT)["spec"]["template"]["spec"]["containers"]) == 2
    report = farm.apply()
    assert report.healed == [farm.ref(DEPLOYMENT)]
    healed = farm.get(DEPLOYMENT)["spec"]["template"]["spec"]
    assert healed.pop("initContainers", []) == []
    assert healed == wanted
    again = farm.apply()
    assert (again.healed, again.applied) == ([], [])


def test_foreign_items_that_came_by_a_server_side_apply_are_taken_out_too(
    farm: Farm, kubectl: Kubectl
) -> None:
    farm.apply()
    stored = farm.get(DEPLOYMENT)
    theirs = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": farm.name, "namespace": farm.namespace},
        "spec": {
            "selector": stored["spec"]["selector"],
            "template": {
                "spec": {"containers": [{"name": "scheduler", "env": [{"name": "X", "value": "1"}]}]}
            },
        },
    }
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(theirs), check=True)
    assert farm.apply().healed == [farm.ref(DEPLOYMENT)]
    env = farm.get(DEPLOYMENT)["spec"]["template"]["spec"]["containers"][0]["env"]
    assert [variable["name"] for variable in env] == ["POD_NAME"]


def test_an_old_version_in_the_watch_is_no_harm_to_healing(farm: Farm, kubectl: Kubectl) -> None:
    farm.apply()
    arguments = ("env", "deployment", farm.name, "-n", farm.namespace)
    kubectl("set", *arguments, "FOREIGN=1", check=True)
    seen = farm.live()
    kubectl("label", "deployment", farm.name, "-n", farm.namespace, "later=yes", check=True)
    report = ApplySet(farm.client).apply(farm.wanted, seen, owner_uid=farm.uid)
    assert report.healed == [farm.ref(DEPLOYMENT)]
    stored = farm.get(DEPLOYMENT)
    assert len(stored["spec"]["template"]["spec"]["containers"][0]["env"]) == 1
    assert stored["metadata"]["labels"]["later"] == "yes"


def test_what_is_no_longer_wanted_is_removed(farm: Farm) -> None:
    farm.apply()
    gone = farm.ref(NETWORK_POLICY)
    farm.wanted.pop()
    report = farm.apply()
    assert report.pruned == [gone]
    assert farm.client.find(gone.kind, gone.namespace, gone.name) is None
    assert len(farm.live()) == len(farm.wanted)


def test_a_namesake_that_was_made_meanwhile_is_not_removed(farm: Farm) -> None:
    farm.apply()
    seen = farm.live()
    gone = farm.ref(NETWORK_POLICY)
    farm.wanted.pop()
    farm.client.delete(gone)
    farm.client.create(network_policy(farm.namespace, farm.name))
    report = ApplySet(farm.client).apply(farm.wanted, seen, owner_uid=farm.uid)
    assert report.pruned == []
    assert farm.client.find(gone.kind, gone.namespace, gone.name) is not None


def test_an_object_of_somebody_else_is_not_taken_over(farm: Farm) -> None:
    theirs = farm.client.apply(config_map(farm.namespace, farm.name, theirs="1"), manager="kubectl")
    report = farm.apply()
    assert [type(failure.error) for failure in report.failures] == [NameTaken]
    assert report.blocked
    assert report.applied == []
    assert farm.get(CONFIG_MAP)["metadata"]["resourceVersion"] == theirs["metadata"]["resourceVersion"]


def test_what_a_deleted_owner_of_the_same_name_left_is_waited_for(farm: Farm) -> None:
    farm.apply()
    anew = {
        **farm.owner,
        "metadata": {**farm.owner["metadata"], "uid": "00000000-0000-0000-0000-000000000000"},
    }
    manifest = owned(network_policy(farm.namespace, farm.name), anew)
    report = ApplySet(farm.client).apply([manifest], farm.live(), owner_uid="another")
    assert report.terminating == [farm.ref(NETWORK_POLICY)]
    assert (report.applied, report.failures) == ([], [])


def test_an_object_whose_labels_were_removed_is_still_ours(farm: Farm, kubectl: Kubectl) -> None:
    farm.apply()
    kubectl("label", "configmap", farm.name, "-n", farm.namespace, f"{OWNER_UID_LABEL}-", check=True)
    assert farm.apply().applied == [farm.ref(CONFIG_MAP)]
    assert farm.ref(CONFIG_MAP) in farm.live()


def test_a_missing_permission_for_an_optional_object_does_not_hold_up_the_others(
    farm: Farm, client_as: Callable[[str], Client]
) -> None:
    last = config_map(farm.namespace, f"{farm.name}-last")
    farm.wanted.append(owned(last, farm.owner))
    limited = ApplySet(client_as(NO_NETWORK_POLICIES))
    report = limited.apply(farm.wanted, farm.live(), owner_uid=farm.uid)
    assert [failure.ref for failure in report.failures] == [farm.ref(NETWORK_POLICY)]
    assert isinstance(report.failures[0].error, PermissionMissing)
    assert not report.blocked
    assert len(report.applied) == len(farm.wanted) - 1
    refusal = refusal_of(report.failures[0])
    assert refusal.reason == "PermissionMissing"
    assert "may not create networkpolicies.networking.k8s.io" in refusal.message


def test_a_missing_permission_for_what_others_need_holds_them_up_and_prunes_nothing(
    farm: Farm, client_as: Callable[[str], Client]
) -> None:
    farm.apply()
    farm.wanted.pop()
    farm.wanted[0]["data"] = {"a": "2"}
    farm.wanted[1]["spec"]["ports"][0]["port"] = 50052
    limited = ApplySet(client_as("[{apiGroups: [apps], resources: [deployments], verbs: [get, patch]}]"))
    report = limited.apply(farm.wanted, farm.live(), owner_uid=farm.uid)
    assert [failure.ref for failure in report.failures] == [farm.ref(CONFIG_MAP)]
    assert report.blocked
    assert (report.applied, report.pruned) == ([], [])
    assert farm.get(SERVICE)["spec"]["ports"][0]["port"] == 50051


def test_a_kind_that_the_cluster_does_not_have_is_told_with_its_remedy(farm: Farm) -> None:
    farm.wanted.append(owned(grpc_route(farm.namespace, farm.name), farm.owner))
    report = farm.apply()
    assert [type(failure.error) for failure in report.failures] == [KindMissing]
    refusal = refusal_of(report.failures[0])
    assert (refusal.reason, refusal.blocking) == ("KindMissing", False)
    assert "install its CRD, or remove spec.grpcRoute" in refusal.message


def test_an_invalid_object_is_told_field_by_field(farm: Farm) -> None:
    farm.wanted[2]["spec"]["template"]["spec"]["containers"][0]["volumeMounts"][0]["name"] = "missing"
    report = farm.apply()
    refusal = refusal_of(report.failures[0])
    assert refusal.reason == "ObjectRefused"
    assert "spec.template.spec.containers[0].volumeMounts[0].name: Not found" in refusal.message


@pytest.mark.parametrize("fault", [Fault(500), Fault(HANG_UP), Fault(HANG_UP, after=True)])
@pytest.mark.parametrize("good_calls", range(10))
def test_a_pass_that_failed_at_any_call_is_completed_by_the_next(
    client: Client, faulty: Client, faults: FaultyServer, namespace: str, good_calls: int, fault: Fault
) -> None:
    """A pass makes ten calls: for each of five objects a look whether it is there, and an apply."""
    farm = Farm(client, namespace, f"kill-{good_calls}-{fault.code}-{fault.after}".lower())
    interrupted = ApplySet(faulty)
    faults.pass_on(good_calls)
    faults.always = fault
    with pytest.raises((ServerError, Unreachable)):
        interrupted.apply(farm.wanted, {}, owner_uid=farm.uid)
    faults.always = None
    report = farm.apply()
    assert report.failures == []
    assert set(farm.live()) == {ObjectRef.of(obj) for obj in farm.wanted}
    assert farm.apply().unchanged == [ObjectRef.of(obj) for obj in farm.wanted]
