"""spec.podTemplate is put over the pods as the API's strategic merge patch would, and may not reach out."""

import copy

import pytest
from buildgrid_operator.api import InvalidSpec
from buildgrid_operator.desired import Inputs, Settings, build

from tests.unit.operator.desired.cases import SETTINGS, inputs, scheduler
from tests.unit.operator.desired.found import Json, container, deployment

PRIVILEGED = Settings(SETTINGS.operator, SETTINGS.scheduler_image, allow_privileged_pods=True)


def pod(spec: Json, settings: Settings = SETTINGS) -> Json:
    found: Json = template({"spec": spec}, settings)["spec"]
    return found


def template(overlay: Json, settings: Settings = SETTINGS) -> Json:
    found: Json = deployment(given(overlay, settings))["spec"]["template"]
    return found


def given(overlay: Json, settings: Settings = SETTINGS) -> Inputs:
    return inputs(scheduler(podTemplate=overlay), settings=settings)


def problems(overlay: Json) -> list[str]:
    with pytest.raises(InvalidSpec) as raised:
        build(given(overlay))
    return str(raised.value).splitlines()


PLAIN = deployment(inputs(scheduler()))["spec"]["template"]["spec"]


def test_labels_and_annotations_are_added() -> None:
    found = template({"metadata": {"labels": {"team": "x"}, "annotations": {"a": "b"}}})["metadata"]
    assert found["labels"]["team"] == "x" and found["annotations"]["a"] == "b"
    assert found["labels"]["app.kubernetes.io/component"] == "scheduler"


def test_maps_are_merged_and_null_removes() -> None:
    found = pod({"securityContext": {"fsGroup": 7, "runAsGroup": None}, "nodeSelector": {"a": "b"}})
    context = found["securityContext"]
    assert context["fsGroup"] == 7 and context["runAsNonRoot"] is True and "runAsGroup" not in context
    assert found["nodeSelector"] == {"a": "b"}


def test_containers_are_merged_by_name_and_others_added() -> None:
    found = pod({"containers": [{"name": "scheduler", "tty": True}, {"name": "proxy", "image": "proxy:1"}]})
    assert [each["name"] for each in found["containers"]] == ["scheduler", "proxy"]
    assert found["containers"][0] == {**PLAIN["containers"][0], "tty": True}
    assert found["initContainers"] == PLAIN["initContainers"]


def test_a_change_of_one_container_is_none_of_another() -> None:
    context = {"readOnlyRootFilesystem": False}
    found = template({"spec": {"containers": [{"name": "scheduler", "securityContext": context}]}})
    assert container(found, "scheduler")["securityContext"]["readOnlyRootFilesystem"] is False
    assert container(found, "migrate")["securityContext"]["readOnlyRootFilesystem"] is True
    assert deployment(inputs(scheduler()))["spec"]["template"]["spec"] == PLAIN


@pytest.mark.parametrize(
    ("listed", "old", "new"),
    [
        ("ports", {"containerPort": 50051, "name": "rpc"}, {"containerPort": 50051, "protocol": "UDP"}),
        ("volumeMounts", {"mountPath": "/tmp", "readOnly": True}, {"mountPath": "/x", "name": "tmp"}),
        ("env", None, {"name": "A", "value": "b"}),
        ("volumeDevices", None, {"devicePath": "/dev/x", "name": "data"}),
    ],
)
def test_lists_of_a_container_are_merged_by_their_keys(listed: str, old: Json | None, new: Json) -> None:
    patch = [each for each in (old, new) if each is not None]
    found = pod({"containers": [{"name": "scheduler", listed: patch}]})["containers"][0][listed]
    before = PLAIN["containers"][0].get(listed, [])
    assert len(found) == len(before) + 1 and found[-1] == new
    if old is not None:
        assert any(item | old == item for item in found)


@pytest.mark.parametrize(
    ("listed", "item"),
    [
        ("volumes", {"name": "cache", "emptyDir": {}}),
        ("imagePullSecrets", {"name": "other"}),
        ("hostAliases", {"ip": "10.0.0.1", "hostnames": ["x"]}),
        ("topologySpreadConstraints", {"topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}),
        ("schedulingGates", {"name": "gate"}),
        ("resourceClaims", {"name": "claim"}),
    ],
)  # fmt: skip
def test_lists_of_the_pod_are_merged_by_their_keys(listed: str, item: Json) -> None:
    before = PLAIN.get(listed, [])
    assert pod({listed: [item]})[listed] == [*before, item]


def test_other_lists_are_replaced() -> None:
    arguments = {"name": "scheduler", "args": ["x"]}
    found = pod({"tolerations": [{"operator": "Exists"}], "containers": [arguments]})
    assert found["tolerations"] == [{"operator": "Exists"}]
    assert found["containers"][0]["args"] == ["x"]


def test_items_are_deleted_and_lists_and_maps_replaced_where_the_patch_says_so() -> None:
    found = pod(
        {
            "topologySpreadConstraints": [{"$patch": "replace"}],
            "volumes": [{"name": "tmp", "$patch": "delete"}],
            "securityContext": {"$patch": "replace", "runAsUser": 5},
            "containers": [
                {
                    "name": "scheduler",
                    "volumeMounts": [{"mountPath": "/tmp", "$patch": "delete"}],
                    "lifecycle": {"$patch": "delete"},
                }
            ],
        }
    )
    assert found["topologySpreadConstraints"] == []
    assert "tmp" not in [volume["name"] for volume in found["volumes"]]
    assert found["securityContext"] == {"runAsUser": 5}
    assert "/tmp" not in [mount["mountPath"] for mount in found["containers"][0]["volumeMounts"]]
    assert "lifecycle" not in found["containers"][0]


def test_a_volume_has_one_source() -> None:
    claim: Json = {"volumeClaimTemplate": {"spec": {}}}
    memory = {"name": "tmp", "emptyDir": {"medium": "Memory"}}
    found = pod({"volumes": [{"name": "data", "ephemeral": claim}, memory]})
    volumes = {volume["name"]: volume for volume in found["volumes"]}
    assert volumes["data"] == {"name": "data", "ephemeral": claim}
    assert volumes["tmp"]["emptyDir"] == {"sizeLimit": "1Gi", "medium": "Memory"}


def test_the_spec_itself_is_not_changed() -> None:
    overlay = {"spec": {"containers": [{"name": "scheduler", "env": [{"name": "A", "$patch": "delete"}]}]}}
    before = copy.deepcopy(overlay)
    found = given(overlay)
    assert build(found).objects == build(found).objects
    assert found.spec.pod_template is not None and found.spec.pod_template.to_dict() == before


def test_the_storage_has_an_overlay_of_its_own() -> None:
    overlay: Json = {"spec": {"containers": [{"name": "storage", "env": [{"name": "A", "value": "b"}]}]}}
    bundle = build(inputs(scheduler(storage={"managed": {"podTemplate": overlay}})))
    (found,) = [obj for obj in bundle.objects if obj["kind"] == "StatefulSet"]
    assert container(found["spec"]["template"], "storage")["env"] == [{"name": "A", "value": "b"}]
    with pytest.raises(
        InvalidSpec, match=r"^spec\.storage\.managed\.podTemplate\.spec\.hostPID: is not allowed"
    ):
        build(inputs(scheduler(storage={"managed": {"podTemplate": {"spec": {"hostPID": True}}}})))


# What may not be

REACHING_OUT: dict[str, Json] = {
    "spec.podTemplate.spec.hostNetwork": {"hostNetwork": True},
    "spec.podTemplate.spec.hostPID": {"hostPID": True},
    "spec.podTemplate.spec.hostIPC": {"hostIPC": True},
    "spec.podTemplate.spec.serviceAccountName": {"serviceAccountName": "admin"},
    "spec.podTemplate.spec.serviceAccount": {"serviceAccount": "admin"},
    "spec.podTemplate.spec.volumes[1].hostPath": {
        "volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "hostPath": {"path": "/"}}]
    },
    "spec.podTemplate.spec.volumes[0].hostPath": {"volumes": [{"name": "tmp", "hostPath": {"path": "/"}}]},
    "spec.podTemplate.spec.containers[0].securityContext.privileged": {
        "containers": [{"name": "scheduler", "securityContext": {"privileged": True}}]
    },
    "spec.podTemplate.spec.initContainers[0].securityContext.privileged": {
        "initContainers": [{"name": "other", "image": "x", "securityContext": {"privileged": True}}]
    },
    "spec.podTemplate.spec.securityContext.windowsOptions.hostProcess": {
        "securityContext": {"windowsOptions": {"hostProcess": True}}
    },
    "spec.podTemplate.spec.containers[0].securityContext.windowsOptions.hostProcess": {
        "containers": [{"name": "x", "securityContext": {"windowsOptions": {"hostProcess": True}}}]
    },
}


@pytest.mark.parametrize("field", REACHING_OUT)
def test_reaching_out_of_the_pod_is_refused_with_its_field_named(field: str) -> None:
    (found,) = problems({"spec": REACHING_OUT[field]})
    assert found.startswith(f"{field}: ") and "is not allowed; remove it, or let" in found


@pytest.mark.parametrize("field", REACHING_OUT)
def test_the_operator_may_allow_it(field: str) -> None:
    assert pod(REACHING_OUT[field], PRIVILEGED) != PLAIN


def test_what_is_off_reaches_nowhere() -> None:
    off = {"hostNetwork": False, "containers": [{"name": "x", "securityContext": {"privileged": False}}]}
    assert pod(off)["hostNetwork"] is False
    assert pod({"serviceAccountName": "main-scheduler"}) == PLAIN


RELIED_ON: dict[str, Json] = {
    "metadata.labels: app.kubernetes.io/instance is the operator's": {
        "metadata": {"labels": {"app.kubernetes.io/instance": "other"}}
    },
    "metadata.labels: buildgrid.build/scheduler is the operator's": {
        "metadata": {"labels": {"buildgrid.build/scheduler": None}}
    },
    "metadata.annotations: buildgrid.build/template-hash is the operator's": {
        "metadata": {"annotations": {"buildgrid.build/template-hash": "x"}}
    },
    "metadata.name: cannot be set": {"metadata": {"name": "x"}},
    "spec.containers: the container scheduler must remain": {
        "spec": {"containers": [{"name": "scheduler", "$patch": "delete"}]}
    },
    "spec.containers[0].name: is missing": {"spec": {"containers": [{"tty": True}]}},
    "spec.containers: must be a list of mappings": {"spec": {"containers": {"name": "scheduler"}}},
    "spec.volumes: must be a list of mappings": {"spec": {"volumes": ["x"]}},
    "spec.securityContext: must be a mapping": {"spec": {"securityContext": "x"}},
    "spec.$setElementOrder/containers: is not supported": {"spec": {"$setElementOrder/containers": []}},
    "spec.securityContext: $patch: keep cannot be here": {"spec": {"securityContext": {"$patch": "keep"}}},
}


@pytest.mark.parametrize("words", RELIED_ON)
def test_what_the_operator_relies_on_stays(words: str) -> None:
    found = problems(RELIED_ON[words])
    assert any(each.startswith(f"spec.podTemplate.{words}") for each in found), found


@pytest.mark.parametrize(
    "overlay",
    [
        {"spec": {"$patch": "replace"}},
        {"metadata": {"$patch": "replace"}},
        {"spec": {"$patch": "delete"}},
        {"spec": {"containers": None}},
        {"spec": {"containers": [{"$patch": "replace"}]}},
    ],
)
def test_nothing_can_be_taken_away_that_must_be_there(overlay: Json) -> None:
    assert problems(overlay)


@pytest.mark.parametrize(
    "spec",
    [
        {"containers": [{"name": "x", "securityContext": "x"}]},
        {"containers": [{"name": "x", "securityContext": {"windowsOptions": 5}}]},
        {"hostAliases": []},
        {"affinity": 7},
    ],
)
def test_what_is_merely_wrong_is_left_to_the_api_server(spec: Json) -> None:
    assert pod(spec)
