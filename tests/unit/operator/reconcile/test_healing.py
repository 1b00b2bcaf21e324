"""What is foreign in a pod template that we own, and what is not."""

from typing import Any

from buildgrid_operator.reconcile.healing import foreign_removals, has_pod_template

Json = dict[str, Any]
POD = "/spec/template/spec"


def deployment(*entries: Json, **pod: Any) -> Json:
    return {"metadata": {"managedFields": list(entries)}, "spec": {"template": {"spec": pod}}}


def manager(name: str, operation: str, **pod: Any) -> Json:
    fields = {"f:spec": {"f:template": {"f:spec": {f"f:{part}": below for part, below in pod.items()}}}}
    return {"manager": name, "operation": operation, "fieldsV1": fields}


OURS = manager(
    "buildgrid-operator",
    "Apply",
    containers={'k:{"name":"main"}': {".": {}, "f:env": {'k:{"name":"A"}': {".": {}}}}},
)
MAIN: Json = {"name": "main", "env": [{"name": "A"}]}
WANTED = deployment(containers=[MAIN])


def paths(live: Json, wanted: Json = WANTED) -> list[str]:
    operations = foreign_removals(live, wanted)
    assert all(operation["op"] == "remove" for operation in operations)
    return [operation["path"].removeprefix(POD) for operation in operations]


def test_what_is_wanted_is_left_alone() -> None:
    assert paths(deployment(OURS, containers=[MAIN])) == []


def test_foreign_items_are_removed_from_the_last_to_the_first() -> None:
    live = deployment(
        OURS,
        containers=[{"name": "x"}, MAIN, {"name": "y"}],
        initContainers=[{"name": "i"}],
        volumes=[{"name": "v"}, {"name": "w"}],
    )
    assert paths(live) == ["/initContainers/0", "/containers/2", "/containers/0", "/volumes/1", "/volumes/0"]


def test_what_is_inside_of_containers_goes_first_while_their_positions_hold() -> None:
    main = {
        "name": "main",
        "env": [{"name": "X"}, {"name": "A"}, {"name": "Y"}],
        "envFrom": [{"secretRef": {"name": "s"}}],
        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
        "volumeDevices": [{"name": "d", "devicePath": "/dev/x"}],
    }
    live = deployment(OURS, containers=[{"name": "x", "env": [{"name": "Z"}]}, main])
    assert paths(live) == [
        "/containers/1/env/2",
        "/containers/1/env/0",
        "/containers/1/volumeMounts/0",
        "/containers/1/volumeDevices/0",
        "/containers/1/envFrom",
        "/containers/0",
    ]


def test_what_an_admission_webhook_adds_to_our_request_stays() -> None:
    webhook = manager(
        "buildgrid-operator",
        "Update",
        containers={
            'k:{"name":"sidecar"}': {".": {}},
            'k:{"name":"main"}': {"f:env": {'k:{"name":"MESH"}': {".": {}}}, "f:envFrom": {}},
        },
        volumes={'k:{"name":"certificates"}': {".": {}}},
    )
    main = {"name": "main", "env": [{"name": "A"}, {"name": "MESH"}], "envFrom": [{}]}
    live = deployment(
        OURS, webhook, containers=[main, {"name": "sidecar"}], volumes=[{"name": "certificates"}]
    )
    assert paths(live) == []


def test_what_others_own_is_foreign_also_after_their_server_side_apply() -> None:
    theirs = manager("somebody", "Apply", containers={'k:{"name":"sidecar"}': {".": {}}})
    assert paths(deployment(OURS, theirs, containers=[MAIN, {"name": "sidecar"}])) == ["/containers/1"]


def test_what_nobody_owns_is_foreign() -> None:
    assert paths(deployment(containers=[MAIN, {"name": "x"}])) == ["/containers/1"]


def test_what_is_wanted_stays_whoever_owns_it() -> None:
    theirs = manager("somebody", "Update", containers={'k:{"name":"main"}': {".": {}}})
    assert paths(deployment(theirs, containers=[MAIN])) == []


def test_only_objects_with_a_pod_template_are_looked_at() -> None:
    assert has_pod_template(WANTED)
    assert not has_pod_template({"spec": {"ports": []}})
    assert not has_pod_template({"data": {}})
