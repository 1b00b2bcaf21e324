"""The client against the real API server: what it does, and which error stands for which refusal."""

import uuid
from collections.abc import Callable
from datetime import timedelta

import pytest
from buildgrid_operator.cluster.client import FIELD_MANAGER, Client
from buildgrid_operator.cluster.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    Invalid,
    KindMissing,
    NotFound,
    PermissionMissing,
    ServerError,
    ServerTimeout,
    TooManyRequests,
    Unreachable,
)
from buildgrid_operator.cluster.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    EVENT,
    NETWORK_POLICY,
    POD,
    PROPERTY_SET,
    SERVICE_MONITOR,
    ObjectRef,
)
from buildgrid_operator.status.events import EventAggregator, EventSeries, Happening, NewEvent, Regarding
from buildgrid_scheduler.core.clock import utc_now

from tests.cluster.cluster.conftest import Calls
from tests.cluster.cluster.faults import HANG_UP, Fault, FaultyServer
from tests.cluster.cluster.objects import (
    Json,
    config_map,
    deployment,
    disruption_budget,
    network_policy,
    pod,
    service,
)
from tests.cluster.conftest import Kubectl

REPLICAS_ONLY = "[{apiGroups: [apps], resources: [deployments], verbs: [get, patch]}]"


def test_what_is_applied_can_be_read(client: Client, namespace: str) -> None:
    client.apply(config_map(namespace, "read", a="1"))
    assert client.get(CONFIG_MAP, namespace, "read")["data"] == {"a": "1"}


def _written(obj: Json) -> Json:
    """Without what controllers do meanwhile."""
    metadata = {name: obj["metadata"].get(name) for name in ("uid", "generation", "labels")}
    ours = [entry for entry in obj["metadata"]["managedFields"] if entry["manager"] == FIELD_MANAGER]
    return {"metadata": metadata, "ours": ours, "spec": obj.get("spec")}


def test_an_apply_that_changes_nothing_writes_nothing(client: Client, namespace: str) -> None:
    first = client.apply(config_map(namespace, "same", a="1"))
    second = client.apply(config_map(namespace, "same", a="1"))
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


@pytest.mark.parametrize("make", [deployment, network_policy, service, disruption_budget])
def test_applying_twice_changes_nothing(
    client: Client, namespace: str, make: Callable[[str, str], Json]
) -> None:
    first = client.apply(make(namespace, "twice"))
    second = client.apply(make(namespace, "twice"))
    assert _written(second) == _written(first)


def test_what_is_left_out_of_the_next_apply_is_removed_and_foreign_fields_stay(
    client: Client, namespace: str, kubectl: Kubectl
) -> None:
    client.apply(config_map(namespace, "fields", ours="1", dropped="1"))
    patch = '{"data":{"theirs":"2"}}'
    kubectl("patch", "configmap", "fields", "-n", namespace, "--type=merge", "-p", patch, check=True)
    assert client.apply(config_map(namespace, "fields", ours="1"))["data"] == {"ours": "1", "theirs": "2"}


def test_a_dry_run_changes_nothing(client: Client, namespace: str) -> None:
    client.apply(config_map(namespace, "dry", a="1"), dry_run=True)
    assert client.find(CONFIG_MAP, namespace, "dry") is None


def test_a_list_is_read_page_by_page(client: Client, namespace: str, calls: Calls) -> None:
    for number in range(5):
        labelled = config_map(namespace, f"page-{number}")
        labelled["metadata"]["labels"] = {"page": "yes"}
        client.apply(labelled)
    calls.clear()
    listing = client.list(CONFIG_MAP, namespace, labels="page=yes", page_size=2)
    assert [item["metadata"]["name"] for item in listing.items] == [f"page-{n}" for n in range(5)]
    assert all(item["kind"] == "ConfigMap" for item in listing.items)
    assert listing.resource_version
    assert [call.verb for call in calls] == ["list"] * 3


def test_calls_are_counted_by_verb_kind_and_code(client: Client, namespace: str, calls: Calls) -> None:
    client.apply(config_map(namespace, "counted"))
    client.find(CONFIG_MAP, namespace, "not-there")
    client.delete(ObjectRef(CONFIG_MAP, namespace, "counted"))
    seen = [(call.verb, call.kind, call.code) for call in calls]
    assert seen == [("apply", "ConfigMap", 201), ("get", "ConfigMap", 404), ("delete", "ConfigMap", 200)]
    assert all(call.seconds > 0 for call in calls)


def test_an_object_that_does_not_exist_is_not_found(client: Client, namespace: str) -> None:
    with pytest.raises(NotFound, match="not-there"):
        client.get(CONFIG_MAP, namespace, "not-there")


def test_a_namespace_that_does_not_exist_is_not_found(client: Client) -> None:
    with pytest.raises(NotFound, match='namespaces "test-nowhere" not found') as caught:
        client.apply(config_map("test-nowhere", "a"))
    assert not isinstance(caught.value, KindMissing)


def test_a_kind_without_its_crd_is_told_apart(client: Client, namespace: str) -> None:
    with pytest.raises(KindMissing, match="does not serve"):
        client.get(SERVICE_MONITOR, namespace, "a")


def test_a_deletion_keeps_to_the_uid_that_was_seen(client: Client, namespace: str) -> None:
    ref = ObjectRef(CONFIG_MAP, namespace, "uid")
    old = client.apply(config_map(namespace, "uid"))["metadata"]["uid"]
    assert client.delete(ref, uid=old)
    client.apply(config_map(namespace, "uid"))
    with pytest.raises(Conflict, match="UID"):
        client.delete(ref, uid=old)
    assert client.find(CONFIG_MAP, namespace, "uid") is not None


def test_deleting_what_is_gone_is_no_error(client: Client, namespace: str) -> None:
    assert client.delete(ObjectRef(CONFIG_MAP, namespace, "gone")) is False


def test_creating_what_exists_is_told_apart(client: Client, namespace: str) -> None:
    client.create(config_map(namespace, "exists"))
    with pytest.raises(AlreadyExists):
        client.create(config_map(namespace, "exists"))


def test_a_json_patch_is_for_the_version_that_was_read(client: Client, namespace: str) -> None:
    ref = ObjectRef(CONFIG_MAP, namespace, "patched")
    read = client.apply(config_map(namespace, "patched", a="1"))["metadata"]["resourceVersion"]
    remove = [{"op": "remove", "path": "/data/a"}]
    client.apply(config_map(namespace, "patched", a="2"))
    with pytest.raises(Conflict, match="changed since it was read"):
        client.patch_json(ref, remove, resource_version=read)
    now = client.get(CONFIG_MAP, namespace, "patched")["metadata"]["resourceVersion"]
    assert not client.patch_json(ref, remove, resource_version=now).get("data")


def test_writing_over_a_newer_version_is_a_conflict(client: Client, namespace: str) -> None:
    old = client.apply(config_map(namespace, "replaced", a="1"))
    client.apply(config_map(namespace, "replaced", a="2"))
    with pytest.raises(Conflict):
        client.replace({**old, "data": {"a": "3"}})


def test_without_force_a_field_of_another_manager_is_a_conflict_that_names_it(
    client: Client, namespace: str
) -> None:
    client.apply(config_map(namespace, "fought", a="1"), manager="somebody")
    with pytest.raises(Conflict, match=r'conflict with "somebody".*\.data\.a'):
        client.apply(config_map(namespace, "fought", a="2"), force=False)
    assert client.apply(config_map(namespace, "fought", a="2"))["data"] == {"a": "2"}


def test_a_missing_permission_is_named(client_as: Callable[[str], Client], namespace: str) -> None:
    limited = client_as(REPLICAS_ONLY)
    with pytest.raises(PermissionMissing) as caught:
        limited.apply(network_policy(namespace, "denied"))
    permission = caught.value.permission
    assert (permission.verb, permission.resource) == ("patch", "networkpolicies")
    assert (permission.group, permission.namespace) == ("networking.k8s.io", namespace)
    assert f"may not patch networkpolicies.networking.k8s.io in the namespace {namespace}" in str(
        caught.value
    )


def test_an_apply_that_makes_an_object_needs_create_as_well(
    client_as: Callable[[str], Client], namespace: str
) -> None:
    with pytest.raises(PermissionMissing) as caught:
        client_as(REPLICAS_ONLY).apply(deployment(namespace, "uncreated"))
    assert str(caught.value.permission) == f"create deployments.apps in the namespace {namespace}"


def test_a_subresource_is_part_of_the_permission(
    client_as: Callable[[str], Client], client: Client, namespace: str
) -> None:
    client.apply(deployment(namespace, "scaled"))
    ref = ObjectRef(DEPLOYMENT, namespace, "scaled")
    with pytest.raises(PermissionMissing) as caught:
        client_as(REPLICAS_ONLY).patch_merge(ref, {"spec": {"replicas": 1}}, subresource="scale")
    assert caught.value.permission.resource == "deployments/scale"


def test_pod_security_is_no_missing_permission(client: Client, namespace: str, kubectl: Kubectl) -> None:
    label = "pod-security.kubernetes.io/enforce=restricted"
    kubectl("label", "namespace", namespace, label, check=True)
    try:
        with pytest.raises(Forbidden, match="violates PodSecurity") as caught:
            client.create(pod(namespace, "insecure"), dry_run=True)
    finally:
        kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce-", check=True)
    assert not isinstance(caught.value, PermissionMissing)
    assert not caught.value.transient


def test_an_invalid_object_is_told_field_by_field(client: Client, namespace: str) -> None:
    bad = pod(namespace, "bad", volumeMounts=[{"name": "missing", "mountPath": "/x"}])
    with pytest.raises(Invalid) as caught:
        client.create(bad, dry_run=True)
    assert [cause.field for cause in caught.value.causes] == ["spec.containers[0].volumeMounts[0].name"]


def test_a_value_that_cannot_be_read_is_invalid(client: Client, namespace: str) -> None:
    bad = pod(namespace, "bad", resources={"limits": {"cpu": "1 core"}})
    with pytest.raises(Invalid, match="quantities must match"):
        client.create(bad, dry_run=True)


def test_a_field_that_the_cluster_does_not_know_is_invalid_and_named(client: Client, namespace: str) -> None:
    newer = deployment(namespace, "newer")
    newer["spec"]["fromTheFuture"] = True
    with pytest.raises(Invalid) as caught:
        client.apply(newer)
    assert [cause.field for cause in caught.value.causes] == ["spec.fromTheFuture"]


@pytest.fixture
def property_set(crds: None, client: Client, namespace: str) -> ObjectRef:
    """A new PropertySet."""
    obj = {
        "apiVersion": "buildgrid.build/v1alpha1",
        "kind": "PropertySet",
        "metadata": {"name": f"told-{uuid.uuid4().hex[:8]}", "namespace": namespace},
        "spec": {"dynamic": {"matchKeys": ["OSFamily"]}},
    }
    client.apply(obj, manager="test")
    return ObjectRef.of(obj)


def _version(client: Client, ref: ObjectRef) -> str:
    return str(client.get(ref.kind, ref.namespace, ref.name)["metadata"]["resourceVersion"])


def _condition(name: str, status: str) -> Json:
    return {
        "type": name,
        "status": status,
        "reason": "Valid",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "observedGeneration": 1,
    }


def test_a_status_is_written_as_a_whole_and_conditions_of_others_stay(
    client: Client, property_set: ObjectRef
) -> None:
    status = {"observedGeneration": 1, "usedBy": 3, "conditions": [_condition("Ready", "True")]}
    client.patch_status(property_set, status, resource_version=_version(client, property_set))
    foreign = [{"op": "add", "path": "/status/conditions/-", "value": _condition("Audited", "True")}]
    client.patch_json(
        property_set, foreign, resource_version=_version(client, property_set), subresource="status"
    )

    status = {"observedGeneration": 1, "conditions": [_condition("Ready", "False")]}
    version = _version(client, property_set)
    written = client.patch_status(property_set, status, resource_version=version)["status"]
    assert "usedBy" not in written
    assert {c["type"]: c["status"] for c in written["conditions"]} == {"Ready": "False", "Audited": "True"}


def test_a_status_that_is_as_it_was_is_not_written(client: Client, property_set: ObjectRef) -> None:
    status = {"observedGeneration": 1, "conditions": [_condition("Ready", "True")]}
    version = _version(client, property_set)
    first = client.patch_status(property_set, status, resource_version=version)["metadata"]["resourceVersion"]
    again = client.patch_status(property_set, status, resource_version=first)["metadata"]["resourceVersion"]
    assert version != first == again


def test_a_status_is_not_written_to_a_namesake(client: Client, property_set: ObjectRef) -> None:
    old = client.get(PROPERTY_SET, property_set.namespace, property_set.name)
    client.delete(property_set, uid=old["metadata"]["uid"])
    client.apply({**old, "metadata": {"name": property_set.name, "namespace": property_set.namespace}})
    with pytest.raises(Conflict):
        client.patch_status(property_set, {"usedBy": 3}, resource_version=old["metadata"]["resourceVersion"])


def test_a_status_of_an_object_that_is_gone_is_not_found(client: Client, property_set: ObjectRef) -> None:
    version = _version(client, property_set)
    client.delete(property_set)
    with pytest.raises(NotFound):
        client.patch_status(property_set, {"usedBy": 3}, resource_version=version)
    assert client.find(PROPERTY_SET, property_set.namespace, property_set.name) is None


def test_an_event_is_sent_and_then_counted(client: Client, namespace: str) -> None:
    regarding = Regarding("buildgrid.build/v1alpha1", "Scheduler", namespace, "farm", "uid-1")
    happening = Happening(
        regarding, "Warning", "Reconcile", "InvalidSpec", "spec.replicas: must be 1 or more"
    )
    aggregator, now = EventAggregator(), utc_now()
    first = aggregator.record(happening, now)
    assert isinstance(first, NewEvent)
    client.create(first.manifest("operator-0"))
    for minute in range(1, 12):
        again = aggregator.record(happening, now + timedelta(minutes=minute))
        if isinstance(again, EventSeries):
            client.patch_merge(ObjectRef(EVENT, again.namespace, again.name), again.patch())
    stored = client.get(EVENT, namespace, first.name)
    assert stored["note"] == "spec.replicas: must be 1 or more"
    assert stored["regarding"]["uid"] == "uid-1"
    assert stored["series"]["count"] == 11


def test_a_busy_api_server_says_when_to_come_again(
    faults: FaultyServer, faulty: Client, namespace: str
) -> None:
    faults.faults.append(Fault(429, {"Retry-After": "7"}, {"reason": "TooManyRequests", "message": "busy"}))
    with pytest.raises(TooManyRequests, match="busy") as caught:
        faulty.get(CONFIG_MAP, namespace, "a")
    assert caught.value.retry_after == timedelta(seconds=7)
    assert caught.value.transient


def test_a_failing_api_server_is_told_and_not_asked_again_behind_the_back(
    faults: FaultyServer, faulty: Client, namespace: str, calls: Calls
) -> None:
    faults.faults.append(Fault(500, body={"reason": "InternalError", "message": "etcd is gone"}))
    with pytest.raises(ServerError, match="etcd is gone") as caught:
        faulty.apply(config_map(namespace, "unlucky"))
    assert caught.value.transient
    assert [call.code for call in calls] == [500]


def test_a_timeout_of_the_api_server_has_its_own_error(
    faults: FaultyServer, faulty: Client, namespace: str
) -> None:
    faults.faults.append(Fault(504, body={"reason": "Timeout", "message": "request did not complete"}))
    with pytest.raises(ServerTimeout):
        faulty.get(POD, namespace, "a")


def test_a_lost_answer_is_unreachable_and_the_apply_can_be_repeated(
    faults: FaultyServer, faulty: Client, namespace: str, calls: Calls
) -> None:
    faults.faults.append(Fault(HANG_UP, after=True))
    with pytest.raises(Unreachable, match="cannot be reached"):
        faulty.apply(config_map(namespace, "lost", a="1"))
    assert faulty.apply(config_map(namespace, "lost", a="1"))["data"] == {"a": "1"}
    assert [call.code for call in calls] == [0, 200]


def test_nobody_at_the_address_is_unreachable(faults: FaultyServer, namespace: str) -> None:
    connection = faults.connection()
    faults.close()
    with pytest.raises(Unreachable):
        Client(connection).get(NETWORK_POLICY, namespace, "a")
    connection.close()  # type: ignore[no-untyped-call]
