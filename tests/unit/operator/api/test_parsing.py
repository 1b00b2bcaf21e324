from datetime import timedelta

import pytest
from buildgrid_operator.api import InvalidSpec, PropertySet, Scheduler
from buildgrid_operator.api.status import UNSEEN

from tests.cluster.api.objects import FULL, GOOD, REMOVE, changed, property_set, scheduler


def problems(obj: dict[str, object]) -> dict[str, str]:
    with pytest.raises(InvalidSpec) as caught:
        Scheduler.parse(obj)
    return {problem.field: problem.message for problem in caught.value.problems}


def test_the_smallest_scheduler_has_managed_storage_and_the_scheduler_s_defaults() -> None:
    spec = Scheduler.parse(scheduler()).spec
    assert spec.storage.managed is not None
    assert spec.storage.managed.size == 50 * 1024**3
    assert spec.jobs.max_execution_timeout == timedelta(hours=2)
    assert spec.instances == ("",)
    assert spec.auth is None


def test_texts_become_python_values() -> None:
    spec = Scheduler.parse(FULL).spec
    assert spec.jobs.max_execution_timeout == timedelta(hours=4, minutes=30)
    assert spec.grpc.max_message_size == 64 * 1024**2
    assert spec.resources.requests == {"cpu": 2, "memory": "4Gi"}
    assert spec.pod_template is not None
    assert spec.pod_template.spec == {
        "nodeSelector": {"pool": "system"},
        "tolerations": [{"operator": "Exists"}],
    }


def test_a_null_in_a_patch_removes_something_and_is_kept() -> None:
    template = Scheduler.parse(scheduler(podTemplate={"spec": {"affinity": None}})).spec.pod_template
    assert template is not None
    assert template.spec == {"affinity": None}


@pytest.mark.parametrize("name", [name for name, obj in GOOD.items() if obj["kind"] == "Scheduler"])
def test_what_is_written_back_is_read_the_same(name: str) -> None:
    read = Scheduler.parse(GOOD[name])
    again = Scheduler.parse(GOOD[name] | {"spec": read.spec.to_dict()})
    assert again == read


def test_all_problems_are_told_at_once_with_their_paths() -> None:
    obj = changed(
        FULL,
        {
            "metadata.name": "A",
            "spec.replicas": 0,
            "spec.auth.jwt[1].algorithms": ["RS256"],
            "spec.auth.policy[1].identities[0]": {},
            "spec.resources.limits.memory": "lots",
            "spec.storage.objectStore.secretRefs.access_key_id.key": REMOVE,
        },
    )
    assert set(problems(obj)) == {
        "metadata.name",
        "spec.replicas",
        "spec.auth.jwt[1].algorithms",
        "spec.auth.policy[1].identities[0]",
        "spec.resources.limits.memory",
        "spec.storage.objectStore.secretRefs.access_key_id.key",
    }


def test_a_field_that_is_written_wrongly_is_guessed() -> None:
    told = problems(scheduler(jobs={"prunning": {}, "max_attempts": 3}, foo=1))
    assert told["spec.jobs.prunning"] == "is not a field; did you mean pruning?"
    assert told["spec.jobs.max_attempts"] == "is not a field; did you mean maxAttempts?"
    assert told["spec.foo"].startswith("is not a field; known are actionCache, ")


def test_messages_say_what_to_write() -> None:
    told = problems(
        scheduler(replicas="3", deletion={"drain": 1}, logging={"level": "Loud"}, instances=[], database={})
    )
    assert told == {
        "spec.replicas": "must be a whole number, without quotes",
        "spec.deletion.drain": "must be true or false, without quotes",
        "spec.logging.level": "must be one of 'Debug', 'Info', 'Warning' or 'Error'",
        "spec.instances": "must have 1 to 64 items, has 0",
        "spec.database.urlSecretRef": "is required; set it",
    }


def test_the_text_of_the_error_has_a_line_for_each_problem() -> None:
    with pytest.raises(InvalidSpec) as caught:
        Scheduler.parse(scheduler(replicas=0, jobs={"maxAttempts": 0}))
    assert str(caught.value) == "spec.replicas: must be 1 or more\nspec.jobs.maxAttempts: must be 1 or more"


def test_an_object_without_a_spec_is_refused() -> None:
    assert problems({"metadata": {"name": "main"}}) == {"spec": "is required; set it"}


def test_metadata_is_read_and_what_the_operator_does_not_need_is_left_out() -> None:
    obj = scheduler()
    obj["metadata"] |= {
        "namespace": "builds",
        "uid": "1-2",
        "generation": 4,
        "resourceVersion": "77",
        "annotations": {"buildgrid.build/allow-orphans": "4"},
        "managedFields": [{"manager": "kubectl"}],
        "deletionTimestamp": "2026-01-01T00:00:00Z",
    }
    metadata = Scheduler.parse(obj).metadata
    assert (metadata.namespace, metadata.uid, metadata.generation) == ("builds", "1-2", 4)
    assert metadata.resource_version == "77"
    assert metadata.annotations == {"buildgrid.build/allow-orphans": "4"}
    assert metadata.deletion_timestamp == "2026-01-01T00:00:00Z"


def test_a_status_of_another_operator_is_never_a_reason_to_refuse() -> None:
    newer = scheduler() | {"status": {"observedGeneration": 3, "readyReplicas": 2, "somethingNew": {"a": 1}}}
    status = Scheduler.parse(newer).status
    assert (status.observed_generation, status.ready_replicas) == (3, 2)
    strange = scheduler() | {"status": {"readyReplicas": "two"}}
    assert Scheduler.parse(strange).status.observed_generation == UNSEEN


def test_a_property_set_knows_what_is_unique_and_what_labels_by_default() -> None:
    dynamic = PropertySet.parse(property_set(dynamic={"matchKeys": ["ISA", "gpu"]})).spec.dynamic
    assert dynamic is not None
    assert dynamic.effective_unique_keys == {"ISA"}
    assert dynamic.effective_label_key is None
    usual = PropertySet.parse(property_set()).spec.dynamic
    assert usual is not None
    assert usual.effective_unique_keys == {"ISA", "OSFamily", "Pool"}
    assert usual.effective_label_key == "Pool"
    off = PropertySet.parse(property_set(dynamic={"uniqueKeys": [], "labelKey": ""})).spec.dynamic
    assert off is not None
    assert off.effective_unique_keys == frozenset()
    assert off.effective_label_key is None
