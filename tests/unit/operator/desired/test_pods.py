"""Pods keep to restricted Pod Security, are probed, end gracefully, and mount what they read."""

from pathlib import Path
from typing import Any

import pytest
from buildgrid_operator.desired import Inputs, Settings, build
from buildgrid_operator.desired.config import scheduler_config, storage_config
from buildgrid_scheduler.config.model import Config
from pydantic import BaseModel

from tests.unit.operator.desired.cases import CASES, FULL, SETTINGS, changed, inputs, scheduler
from tests.unit.operator.desired.found import Json, container, deployment, loaded, templates
from tests.unit.operator.desired.restricted import violations


def every_template(given: Inputs) -> list[Json]:
    return list(templates(build(given)))


@pytest.mark.parametrize("name", CASES)
def test_pods_pass_restricted_pod_security_with_a_read_only_root(name: str) -> None:
    for template in every_template(CASES[name]):
        assert violations(template) == []
        for listed in ("containers", "initContainers"):
            for each in template["spec"].get(listed, ()):
                if each["name"] != "proxy":  # of the overlay
                    assert each["securityContext"]["readOnlyRootFilesystem"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"spec.hostNetwork": True}, "hostNetwork"),
        ({"spec.securityContext.runAsNonRoot": False}, "runAsNonRoot"),
        ({"spec.securityContext.seccompProfile.type": "Unconfined"}, "seccompProfile"),
        ({"spec.containers[0].securityContext": {}}, "capabilities"),
        ({"spec.containers[0].securityContext.privileged": True}, "privileged"),
        ({"spec.volumes[0]": {"name": "x", "hostPath": {"path": "/"}}}, "volume x"),
        ({"spec.initContainers[0].securityContext.capabilities.add": ["SYS_ADMIN"]}, "migrate: capabilities"),
        ({"spec.containers[0].ports[0].hostPort": 1}, "hostPort"),
    ],
)
def test_the_checker_sees_what_is_not_restricted(change: Json, words: str) -> None:
    template = deployment(CASES["minimal"])["spec"]["template"]
    assert any(words in found for found in violations(changed(template, change)))


@pytest.mark.parametrize("name", CASES)
def test_pods_get_no_token_of_the_api_server_and_no_environment_of_services(name: str) -> None:
    for template in every_template(CASES[name]):
        assert template["spec"]["automountServiceAccountToken"] is False
        assert template["spec"]["enableServiceLinks"] is False


def paths_in(section: BaseModel) -> set[Path]:
    """All files that a configuration names."""
    found: set[Path] = set()
    for name, value in section:
        for each in value if isinstance(value, tuple) else [value]:
            if isinstance(each, BaseModel):
                found |= paths_in(each)
        if isinstance(value, Path) and name != "data":
            found.add(value)
        if isinstance(value, dict):
            found |= {each for each in value.values() if isinstance(each, Path)}
    return found


def mounted(template: Json, name: str) -> set[Path]:
    """All files that a container can read below /run/buildgrid."""
    volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
    found = set()
    for mount in container(template, name)["volumeMounts"]:
        volume, path = volumes[mount["name"]], Path(mount["mountPath"])
        source = volume.get("secret") or volume.get("configMap") or {}
        found |= {path / item["path"] for item in source.get("items", ())}
        for projected in volume.get("projected", {}).get("sources", ()):
            found.add(path / projected["serviceAccountToken"]["path"])
    return found


@pytest.mark.parametrize("name", CASES)
def test_whatever_file_the_configuration_names_is_mounted_and_nothing_else(name: str, tmp_path: Path) -> None:
    given = CASES[name]
    pods: list[tuple[Config, str, Json]] = []
    for template in every_template(given):
        component = template["metadata"]["labels"]["app.kubernetes.io/component"]
        written = scheduler_config(given) if component == "scheduler" else storage_config(given)
        pods.append((loaded(written.text, tmp_path), component, template))
    assert pods
    for config, component, template in pods:
        assert mounted(template, component) == paths_in(config)
        if component == "scheduler":
            assert mounted(template, "migrate") == paths_in(config)


def walk(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [pair for key, inner in value.items() for pair in [(key, inner), *walk(inner)]]
    if isinstance(value, list):
        return [pair for inner in value for pair in walk(inner)]
    return []


@pytest.mark.parametrize("name", CASES)
def test_secrets_are_files_of_volumes_and_never_environment_or_sub_paths(name: str) -> None:
    for template in every_template(CASES[name]):
        keys = [key for key, _ in walk(template)]
        assert "subPath" not in keys and "subPathExpr" not in keys
        assert "secretKeyRef" not in keys and "envFrom" not in keys


@pytest.mark.parametrize("name", CASES)
def test_there_is_no_object_that_could_hold_a_secret(name: str) -> None:
    bundle = build(CASES[name])
    assert all(obj["kind"] != "Secret" for obj in bundle.objects)


def test_migration_comes_first_with_the_same_configuration_and_image() -> None:
    template = deployment(CASES["minimal"])["spec"]["template"]
    migrate, serve = container(template, "migrate"), container(template, "scheduler")
    assert [each["name"] for each in template["spec"]["initContainers"]] == ["migrate"]
    assert migrate["args"] == ["migrate", "--config", "/etc/buildgrid/scheduler.yaml"]
    assert serve["args"] == ["serve", "--config", "/etc/buildgrid/scheduler.yaml"]
    assert migrate["image"] == serve["image"] and migrate["volumeMounts"] == serve["volumeMounts"]


def test_an_outage_of_half_a_minute_takes_no_replica_out_of_service() -> None:
    probe = container(deployment(CASES["minimal"])["spec"]["template"], "scheduler")["readinessProbe"]
    assert probe["httpGet"] == {"path": "/readyz", "port": "http"}
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 30


@pytest.mark.parametrize(("grace", "least"), [("0s", 30), ("20s", 30), ("1m", 70)])
def test_a_pod_has_longer_to_end_than_its_program_needs(grace: str, least: int) -> None:
    for template in every_template(inputs(scheduler(shutdown={"grace": grace}))):
        assert template["spec"]["terminationGracePeriodSeconds"] >= least
        for each in template["spec"]["containers"]:
            assert each["lifecycle"]["preStop"] == {"sleep": {"seconds": 5}}


def test_replicas_spread_over_zones_and_nodes_each_rollout_anew() -> None:
    spread = deployment(CASES["minimal"])["spec"]["template"]["spec"]["topologySpreadConstraints"]
    keys = [each["topologyKey"] for each in spread]
    assert keys == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    assert all(each["whenUnsatisfiable"] == "ScheduleAnyway" for each in spread)
    assert all(each["matchLabelKeys"] == ["pod-template-hash"] for each in spread)


def test_secrets_for_pulling_images_are_those_of_the_operator_and_of_the_spec() -> None:
    settings = Settings(SETTINGS.operator, "scheduler:1", image_pull_secrets=("air-gap", "registry"))
    given = inputs(changed(FULL, {"spec.storage": {"managed": {}}}), settings=settings)
    for template in every_template(given):
        assert template["spec"]["imagePullSecrets"] == [{"name": "air-gap"}, {"name": "registry"}]


def test_resources_are_those_of_the_spec_for_migration_as_well() -> None:
    obj = scheduler(resources={"requests": {"cpu": 2}, "limits": {"memory": "8Gi"}})
    template = deployment(inputs(obj))["spec"]["template"]
    for name in ("scheduler", "migrate"):
        assert container(template, name)["resources"] == {"requests": {"cpu": 2}, "limits": {"memory": "8Gi"}}


def test_secrets_with_long_or_dotted_names_can_be_mounted() -> None:
    names = ["a" * 253, "db.prod.example.org", "db-prod.example.org", "db"]
    obj = scheduler(
        database={
            "urlSecretRef": {"name": names[0], "key": "url"},
            "passwordSecretRef": {"name": names[1], "key": "p"},
            "readUrlSecretRef": {"name": names[2], "key": "url"},
            "notifyUrlSecretRef": {"name": names[3], "key": "url"},
        }
    )
    volumes = [v for v in deployment(inputs(obj))["spec"]["template"]["spec"]["volumes"] if "secret" in v]
    assert sorted(volume["secret"]["secretName"] for volume in volumes) == sorted(names)
    assert len({volume["name"] for volume in volumes}) == 4
    assert all(len(volume["name"]) <= 63 and "." not in volume["name"] for volume in volumes)
