"""The managed storage: its volume grows and outlives it, and it does not follow the scheduler."""

import pytest
from buildgrid_operator.desired import build

from tests.unit.operator.desired.cases import CORP, EVERYBODY, PRODUCTION, TLS, changed, inputs, scheduler
from tests.unit.operator.desired.found import Json, kinds, one


def claim(**managed: object) -> Json:
    found = build(inputs(scheduler(storage={"managed": managed})))
    return one(found, "PersistentVolumeClaim", "main-storage-data")


def template(obj: Json) -> Json:
    found: Json = one(build(inputs(obj)), "StatefulSet", "main-storage")["spec"]["template"]
    return found


def test_the_volume_is_as_the_spec_says() -> None:
    spec = claim(size="1.5Ti", storageClassName="fast")["spec"]
    assert spec["resources"]["requests"]["storage"] == "1536Gi" and spec["storageClassName"] == "fast"
    assert "storageClassName" not in claim()["spec"]


def test_the_claim_is_no_template_so_that_it_can_grow() -> None:
    spec = one(build(inputs(scheduler())), "StatefulSet", "main-storage")["spec"]
    assert "volumeClaimTemplates" not in spec and spec["replicas"] == 1
    volumes = {volume["name"]: volume for volume in spec["template"]["spec"]["volumes"]}
    assert volumes["data"]["persistentVolumeClaim"] == {"claimName": claim()["metadata"]["name"]}


def test_a_retained_volume_is_neither_collected_nor_pruned() -> None:
    metadata = claim(retentionPolicy="Retain")["metadata"]
    assert "ownerReferences" not in metadata
    assert "buildgrid.build/owner-uid" not in metadata["labels"]
    assert metadata["labels"]["buildgrid.build/scheduler"] == "main"


def test_a_deleted_volume_is_both() -> None:
    metadata = claim(retentionPolicy="Delete")["metadata"]
    assert "ownerReferences" in metadata and "buildgrid.build/owner-uid" in metadata["labels"]


@pytest.mark.parametrize(
    "storage",
    [{"remote": {"endpoint": "grpc://cas:50051"}}, {"objectStore": {"url": "s3://builds"}}],
)
def test_other_storages_need_no_pods(storage: Json) -> None:
    assert not {"StatefulSet", "PersistentVolumeClaim"} & set(
        kinds(build(inputs(scheduler(storage=storage))))
    )


KEEPS = {
    "spec.image": "ghcr.io/example/buildgrid-scheduler:9",
    "spec.replicas": 5,
    "spec.resources": {"requests": {"cpu": 3}},
    "spec.podTemplate": {"spec": {"priorityClassName": "high"}},
    "spec.database.poolSize": 9,
    "spec.logging.level": "Debug",
    "spec.jobs.maxAttempts": 3,
    "spec.service.port": 443,
    "spec.storage": {"managed": {"size": "50Gi", "storageClassName": "fast", "retentionPolicy": "Delete"}},
}
ROLLS = {
    "spec.storage": {"managed": {"image": "ghcr.io/example/buildgrid-scheduler:9"}},
    "spec.storage.managed": {"maxBytes": "1Gi"},
    "spec.storage.managed.size": "60Gi",
    "spec.storage.managed.resources": {"limits": {"memory": "1Gi"}},
    "spec.storage.managed.podTemplate": {"spec": {"priorityClassName": "high"}},
    "spec.instances": ["main"],
    "spec.grpc.maxMessageSize": "32Mi",
    "spec.shutdown.grace": "1s",
    "spec.imagePullPolicy": "Always",
    "spec.imagePullSecrets": [{"name": "registry"}],
    "spec.auth": {"jwt": [CORP], "policy": EVERYBODY},
}


@pytest.mark.parametrize("path", KEEPS)
def test_the_storage_goes_on_while_the_scheduler_changes(path: str) -> None:
    assert template(changed(scheduler(), {path: KEEPS[path]})) == template(scheduler())


@pytest.mark.parametrize("path", ROLLS)
def test_its_pod_is_replaced_when_what_it_runs_with_changes(path: str) -> None:
    assert template(changed(scheduler(), {path: ROLLS[path]})) != template(scheduler())


def test_policies_are_reloaded_by_the_storage_too() -> None:
    auth = {"jwt": [CORP], "policy": EVERYBODY}
    before, after = scheduler(auth=auth), scheduler(auth={**auth, "policy": EVERYBODY * 2})
    assert template(before) == template(after)
    configs = [one(build(inputs(obj)), "ConfigMap", "main-storage-config") for obj in (before, after)]
    assert configs[0]["data"] != configs[1]["data"]


def test_issuers_are_nothing_to_a_storage_that_only_replicas_use() -> None:
    auth = {"jwt": [CORP], "mtls": {}, "policy": EVERYBODY}
    other = {**auth, "jwt": [{**CORP, "audiences": ["others"]}]}
    assert template(scheduler(tls=TLS, auth=auth)) == template(scheduler(tls=TLS, auth=other))


def test_it_needs_no_secret_of_the_scheduler() -> None:
    spec = one(build(inputs(PRODUCTION)), "StatefulSet", "production-storage")["spec"]["template"]["spec"]
    assert [volume["name"] for volume in spec["volumes"] if "secret" in volume] == []
