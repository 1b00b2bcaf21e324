from buildgrid_operator.api import Scheduler
from buildgrid_operator.api.effects import rollout_view

from tests.cluster.api.objects import FULL, Json, changed, scheduler


def view(obj: Json) -> Json:
    return rollout_view(Scheduler.parse(obj).spec)


def test_fields_that_are_reloaded_or_applied_roll_no_pods() -> None:
    edited = changed(
        FULL,
        {
            "spec.replicas": 7,
            "spec.jobs.maxAttempts": 9,
            "spec.assignment.priorityPercentage": 10,
            "spec.bots.keepaliveTimeout": "3m",
            "spec.logging.level": "Debug",
            "spec.propertySetRef.name": "other",
            "spec.actionCache.cacheFailedActions": False,
            "spec.auth.policy[0].rights": ["Administer"],
            "spec.service.port": 8443,
            "spec.networkPolicy.enabled": False,
            "spec.deletion.drain": False,
        },
    )
    assert view(edited) == view(FULL)


def test_references_and_images_roll_the_pods() -> None:
    for path, value in {
        "spec.image": "ghcr.io/example/buildgrid-scheduler:2",
        "spec.database.urlSecretRef.name": "other",
        "spec.database.poolSize": 11,
        "spec.storage.objectStore.url": "s3://other",
        "spec.auth.jwt[0].audiences": ["others"],
        "spec.auth.mtls": {"groups": []},
        "spec.tls.secretName": "other",
        "spec.assignment.period": "2s",
        "spec.monitoring.fleetInterval": "1m",
        "spec.podTemplate.spec.priorityClassName": "high",
        "spec.resources.requests.cpu": 3,
        "spec.shutdown.grace": "1s",
    }.items():
        assert view(changed(FULL, {path: value})) != view(FULL), path


def test_an_empty_section_that_is_set_is_not_the_same_as_none() -> None:
    policy = [{"identities": [{"subject": "**"}], "rights": ["Execute"]}]
    tokens = {"kubernetes": {}, "policy": policy}
    assert view(scheduler(auth=tokens)) != view(scheduler())
    tls = {"secretName": "tls", "clientCaSecretRef": {"name": "ca"}}
    both = view(scheduler(tls=tls, auth=tokens | {"mtls": {}}))
    assert both != view(scheduler(tls=tls, auth=tokens))


def test_defaults_are_left_out_so_that_new_fields_of_a_newer_operator_roll_nothing() -> None:
    assert view(scheduler()) == {"database": {"urlSecretRef": {"name": "database", "key": "url"}}}


def test_the_managed_storage_has_pods_of_its_own() -> None:
    grown = scheduler(storage={"managed": {"size": "100Gi", "image": "ghcr.io/example/storage:2"}})
    assert view(grown) == view(scheduler())
    assert view(scheduler(storage={"remote": {"endpoint": "grpc://cas:50051"}})) != view(scheduler())
