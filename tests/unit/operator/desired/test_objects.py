"""What holds for every object of every Scheduler, and the few decisions about single kinds."""

import dataclasses
import re
from typing import Any

import pytest
from buildgrid_operator.desired import KINDS, Inputs, build
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.operator.desired.cases import (
    CASES,
    FULL,
    NAMESPACE,
    PRODUCTION,
    SETTINGS,
    TLS,
    UID,
    changed,
    inputs,
    scheduler,
)
from tests.unit.operator.desired.found import Json, kinds, one, templates

LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
RECOMMENDED = {
    f"app.kubernetes.io/{name}" for name in ("name", "instance", "component", "part-of", "managed-by")
}


@pytest.mark.parametrize("name", CASES)
def test_the_same_inputs_give_the_same_objects(name: str) -> None:
    assert build(CASES[name]) == build(CASES[name])


def test_every_kind_that_is_made_is_known_to_pruning_and_no_other() -> None:
    made = {(obj["apiVersion"], obj["kind"]) for found in CASES.values() for obj in build(found).objects}
    assert made == set(KINDS)


def is_kept(obj: Json) -> bool:
    """A volume that outlives its Scheduler."""
    return bool(obj["kind"] == "PersistentVolumeClaim")


@pytest.mark.parametrize("name", CASES)
def test_every_object_goes_with_its_scheduler_and_says_so(name: str) -> None:
    owner = CASES[name].metadata
    retained = name != "production"
    for obj in build(CASES[name]).objects:
        metadata = obj["metadata"]
        assert metadata["namespace"] == NAMESPACE
        assert metadata["labels"].keys() >= RECOMMENDED
        assert metadata["labels"]["buildgrid.build/scheduler"] == owner.name
        assert all(LABEL_VALUE.fullmatch(value) for value in metadata["labels"].values())
        if is_kept(obj) and retained:
            continue
        assert metadata["labels"]["buildgrid.build/owner-uid"] == UID
        (reference,) = metadata["ownerReferences"]
        assert (reference["kind"], reference["name"], reference["uid"]) == ("Scheduler", owner.name, UID)
        assert reference["controller"] is True and reference["apiVersion"] == "buildgrid.build/v1alpha1"


@pytest.mark.parametrize("name", CASES)
def test_pods_carry_the_labels_by_which_they_are_found(name: str) -> None:
    for obj in build(CASES[name]).objects:
        if obj["kind"] in ("Deployment", "StatefulSet"):
            labels = obj["spec"]["template"]["metadata"]["labels"]
            assert obj["spec"]["selector"]["matchLabels"].items() <= labels.items()
            assert {"buildgrid.build/scheduler", "buildgrid.build/owner-uid"} <= labels.keys()


@settings(deadline=None)
@given(st.from_regex(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", fullmatch=True))
def test_names_fit_a_label_and_are_distinct_for_each_kind(name: str) -> None:
    objects = build(inputs(changed(PRODUCTION, {"metadata.name": name}))).objects
    names = [(obj["kind"], obj["metadata"]["name"]) for obj in objects]
    assert len(set(names)) == len(names)
    for kind, found in names:
        assert len(found) <= 63 and re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", found), kind


@pytest.mark.parametrize("name", CASES)
def test_what_is_referred_to_comes_before_what_refers_to_it(name: str) -> None:
    place = {(obj["kind"], obj["metadata"]["name"]): n for n, obj in enumerate(build(CASES[name]).objects)}
    for obj in build(CASES[name]).objects:
        if "template" not in obj.get("spec", {}):
            continue
        here = place[obj["kind"], obj["metadata"]["name"]]
        pod = obj["spec"]["template"]["spec"]
        assert place["ServiceAccount", pod["serviceAccountName"]] < here
        for volume in pod["volumes"]:
            if "configMap" in volume:
                assert place["ConfigMap", volume["configMap"]["name"]] < here
            if "persistentVolumeClaim" in volume:
                assert place["PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]] < here


# Replicas


def test_the_number_of_replicas_is_the_specs_unless_somebody_else_sets_it() -> None:
    found = inputs(scheduler(replicas=3))
    assert one(build(found), "Deployment", "main-scheduler")["spec"]["replicas"] == 3
    scaled = build(dataclasses.replace(found, autoscaled=True))
    assert "replicas" not in one(scaled, "Deployment", "main-scheduler")["spec"]


@pytest.mark.parametrize(("replicas", "autoscaled", "there"), [(1, False, 0), (2, False, 1), (1, True, 1)])
def test_a_single_replica_does_not_keep_its_node_from_being_drained(
    replicas: int, autoscaled: bool, there: int
) -> None:
    found = build(inputs(scheduler(replicas=replicas), autoscaled=autoscaled))
    assert kinds(found).count("PodDisruptionBudget") == there


def test_the_budget_never_protects_pods_that_do_not_serve() -> None:
    spec = one(build(inputs(scheduler(replicas=2))), "PodDisruptionBudget", "main-scheduler")["spec"]
    assert spec["maxUnavailable"] == 1 and spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_a_new_replica_serves_before_an_old_one_goes() -> None:
    strategy = one(build(inputs(scheduler())), "Deployment", "main-scheduler")["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}


# Services


def port(bundle: Any, name: str) -> Json:
    found: Json = one(bundle, "Service", name)["spec"]["ports"][0]
    return found


def test_the_grpc_service_says_which_protocol_it_speaks() -> None:
    assert port(build(inputs(scheduler())), "main-scheduler")["appProtocol"] == "kubernetes.io/h2c"
    assert port(build(inputs(scheduler(tls=TLS))), "main-scheduler")["appProtocol"] == "https"
    assert port(build(inputs(scheduler(tls=TLS))), "main-storage")["appProtocol"] == "kubernetes.io/h2c"


def test_the_grpc_service_is_as_the_spec_says() -> None:
    found = one(build(inputs(FULL)), "Service", "full-scheduler")
    assert found["metadata"]["annotations"] == FULL["spec"]["service"]["annotations"]
    spec = found["spec"]
    assert spec["type"] == "LoadBalancer" and spec["loadBalancerClass"] == "service.k8s.aws/nlb"
    assert spec["loadBalancerSourceRanges"] == ["10.0.0.0/8", "fd00::/8"]
    assert spec["externalTrafficPolicy"] == "Local"
    assert spec["ports"][0]["port"] == 443 and spec["ports"][0]["targetPort"] == "grpc"
    node_port = scheduler(service={"type": "NodePort", "nodePort": 30051})
    node = one(build(inputs(node_port)), "Service", "main-scheduler")
    assert node["spec"]["ports"][0]["nodePort"] == 30051 and "loadBalancerClass" not in node["spec"]


def test_bots_find_all_replicas_behind_one_name() -> None:
    spec = one(build(inputs(scheduler())), "Service", "main-bots")["spec"]
    assert spec["clusterIP"] == "None" and spec["ports"][0]["port"] == 50051


@pytest.mark.parametrize("name", CASES)
def test_services_have_addresses_of_both_families_where_there_are(name: str) -> None:
    services = [obj for obj in build(CASES[name]).objects if obj["kind"] == "Service"]
    assert services
    assert all(service["spec"]["ipFamilyPolicy"] == "PreferDualStack" for service in services)


def test_the_endpoints_are_names_of_services_and_their_ports() -> None:
    for name, found in CASES.items():
        bundle = build(found)
        for field in ("scheduler", "bots", "cas", "metrics"):
            address = getattr(bundle.endpoints, field)
            service, where = re.fullmatch(r"\w+://([^.]+)\.farm\.svc\.cluster\.local:(\d+)", address).groups()  # type: ignore[union-attr]
            ports = [each["port"] for each in one(bundle, "Service", service)["spec"]["ports"]]
            assert int(where) in ports, f"{name}: {field}"


def test_blobs_go_past_the_replicas_where_they_may() -> None:
    assert build(CASES["minimal"]).endpoints.cas == "grpc://main-storage.farm.svc.cluster.local:50051"
    assert build(CASES["object-store"]).endpoints.cas == "grpcs://full-bots.farm.svc.cluster.local:50051"


# What the cluster may not know


def without(name: str) -> Inputs:
    less: Any = {name: False}
    return inputs(PRODUCTION, settings=dataclasses.replace(SETTINGS, **less))


@pytest.mark.parametrize(
    ("flag", "kind", "field"),
    [
        ("has_gateway_api", "GRPCRoute", "spec.grpcRoute"),
        ("has_service_monitor", "ServiceMonitor", "spec.monitoring.serviceMonitor"),
    ],
)
def test_a_kind_that_the_cluster_does_not_know_is_left_out_and_told(flag: str, kind: str, field: str) -> None:
    whole, less = build(inputs(PRODUCTION)), build(without(flag))
    assert whole.notices == () and [notice.field for notice in less.notices] == [field]
    assert [each for each in kinds(whole) if each != kind] == kinds(less)


@pytest.mark.parametrize(("name", "told"), [("minimal", False), ("tokens", True), ("tls-and-auth", False)])
def test_tokens_without_tls_are_told(name: str, told: bool) -> None:
    notices = [str(notice) for notice in build(CASES[name]).notices]
    words = "spec.tls: is not set, so tokens come as plain text; set it, unless a mesh encrypts"
    assert notices == [words] * told


def test_routes_are_made_where_they_are_asked_for() -> None:
    assert not {"Ingress", "GRPCRoute", "ServiceMonitor"} & set(kinds(build(inputs(scheduler()))))
    bundle = build(inputs(PRODUCTION))
    route = one(bundle, "GRPCRoute", "production-scheduler")["spec"]
    assert route["rules"][0]["backendRefs"] == [{"name": "production-scheduler", "port": 443}]
    assert route["hostnames"] == ["*.example.org"] and route["parentRefs"][0]["namespace"] == "infra"
    ingress = one(bundle, "Ingress", "production-scheduler")["spec"]
    assert ingress["tls"] == [{"hosts": ["build.example.org"], "secretName": "build-tls"}]
    monitor = one(bundle, "ServiceMonitor", "production-scheduler")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"]["endpoints"][0] == {
        "port": "http", "path": "/metrics", "interval": "30s", "scrapeTimeout": "10s",
    }  # fmt: skip


def test_the_monitor_selects_the_services_with_metrics() -> None:
    bundle = build(inputs(PRODUCTION))
    selector = one(bundle, "ServiceMonitor", "production-scheduler")["spec"]["selector"]["matchLabels"]
    found = {
        obj["metadata"]["name"]
        for obj in bundle.objects
        if obj["kind"] == "Service"
        and selector.items() <= obj["metadata"]["labels"].items()
        and any(each["name"] == "http" for each in obj["spec"]["ports"])
    }
    assert found == {"production-admin", "production-storage"}


def test_identities_of_a_cloud_are_for_the_replicas_alone() -> None:
    bundle = build(inputs(PRODUCTION))
    account = one(bundle, "ServiceAccount", "production-scheduler")
    assert account["metadata"]["annotations"] == PRODUCTION["spec"]["serviceAccount"]["annotations"]
    assert "annotations" not in one(bundle, "ServiceAccount", "production-storage")["metadata"]
    assert {template["spec"]["serviceAccountName"] for template in templates(bundle)} == {
        "production-scheduler", "production-storage",
    }  # fmt: skip
