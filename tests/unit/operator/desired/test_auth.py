"""Who is let in: the spec's callers, the operator, the replicas, and nobody else."""

from pathlib import Path

import pytest
from buildgrid_operator.api import InvalidSpec
from buildgrid_operator.desired import build
from buildgrid_operator.desired.auth import INTERNAL_AUDIENCE
from buildgrid_operator.desired.config import storage_config
from buildgrid_scheduler.auth.identity import Identity, KubernetesAccount
from buildgrid_scheduler.auth.policy import Right
from buildgrid_scheduler.config import Config
from buildgrid_scheduler.config.storage import RemoteStorageConfig
from buildgrid_scheduler.server.auth import build_policy

from tests.unit.operator.desired.cases import BOTS, CORP, EVERYBODY, ISSUER, JWKS, TLS, inputs, scheduler
from tests.unit.operator.desired.found import Json, container, deployment, kinds, loaded, one


def pod_of(account: str, *, namespace: str = "farm", issuer: str = "kubernetes") -> Identity:
    """A caller with a token of a service account."""
    found = KubernetesAccount(namespace, account, "a-pod")
    subject = f"system:serviceaccount:{namespace}:{account}"
    return Identity(issuer, issuer, subject, subject, kubernetes=found)


def person(issuer: str = "corp") -> Identity:
    return Identity(issuer, issuer, "ann", "ann")


OPERATOR = pod_of("buildgrid-operator", namespace="buildgrid-system")
REPLICA = pod_of("main-scheduler")


def may(config: Config, who: Identity, right: Right, instance: str = "") -> bool:
    return build_policy(config.auth).missing(right, who, instance) is None


def read(obj: Json, folder: Path) -> Config:
    return loaded(build(inputs(obj)).config_text, folder)


def read_storage(obj: Json, folder: Path) -> Config:
    return loaded(storage_config(inputs(obj)).text, folder)


def audiences(config: Config) -> dict[str, tuple[str, ...]]:
    return {issuer.name: issuer.audiences for issuer in config.auth.jwt}


def test_without_auth_everybody_may_everything_and_no_keys_are_handed_out(tmp_path: Path) -> None:
    assert not read(scheduler(), tmp_path).auth.enabled
    assert not read_storage(scheduler(), tmp_path).auth.enabled
    bundle = build(inputs(scheduler(auth={}), tokens=None))
    assert kinds(bundle).count("ConfigMap") == 2  # the configurations of replicas and storage


def test_tokens_of_this_cluster_are_checked_with_its_keys(tmp_path: Path) -> None:
    obj = scheduler(auth={"kubernetes": {"audience": "builds"}, "policy": BOTS})
    config = read(obj, tmp_path)
    (issuer,) = config.auth.jwt
    assert issuer.kubernetes and issuer.issuer == ISSUER and issuer.jwks is not None
    assert issuer.audiences == ("builds", INTERNAL_AUDIENCE)
    assert str(issuer.jwks.file) == "/run/buildgrid/config-maps/main-jwks/jwks.json"
    assert one(build(inputs(obj)), "ConfigMap", "main-jwks")["data"] == {"jwks.json": JWKS}
    assert may(config, pod_of("bots"), Right.RUN_BOTS)
    assert not may(config, pod_of("others"), Right.CACHE_READ)


def test_the_issuer_of_this_cluster_may_be_said(tmp_path: Path) -> None:
    obj = scheduler(auth={"kubernetes": {"issuer": "https://elsewhere"}, "policy": BOTS})
    assert read(obj, tmp_path).auth.jwt[0].issuer == "https://elsewhere"


def test_the_operator_may_ask(tmp_path: Path) -> None:
    config = read(scheduler(auth={"jwt": [CORP], "policy": EVERYBODY}), tmp_path)
    assert audiences(config) == {"kubernetes": (INTERNAL_AUDIENCE,), "corp": ("builds",)}
    assert may(config, OPERATOR, Right.ADMINISTER, "any/instance")
    assert not may(config, pod_of("buildgrid-operator"), Right.ADMINISTER)


@pytest.mark.parametrize(
    "matcher",
    [
        {"subject": "**"},
        {"issuer": "*", "subject": "**"},
        {"issuer": "**"},
        {"issuer": "k*"},
        {"issuer": "?ubernetes"},
        {"issuer": "kubernetes"},
        {"serviceAccount": "farm/*"},
    ],
)
def test_pods_of_the_cluster_are_not_let_in_by_rules_for_others(matcher: Json, tmp_path: Path) -> None:
    policy = [
        {"identities": [matcher], "rights": ["Administer"]},
        {"identities": [{"issuer": "corp", "subject": "root"}], "rights": ["Execute"]},
    ]
    config = read(scheduler(auth={"jwt": [CORP], "policy": policy}), tmp_path)
    assert not may(config, pod_of("anybody"), Right.CACHE_READ)


@pytest.mark.parametrize("issuer", [None, "*", "corp", "c*", "?orp", "**"])
def test_rules_for_others_are_for_them_as_ever(issuer: str | None, tmp_path: Path) -> None:
    matcher = {"subject": "ann", **({} if issuer is None else {"issuer": issuer})}
    policy = [{"identities": [matcher], "rights": ["Execute"]}]
    other = {**CORP, "name": "partner", "issuer": "https://partner.example.org"}
    config = read(scheduler(auth={"jwt": [CORP, other], "policy": policy}), tmp_path)
    assert may(config, person(), Right.EXECUTE)
    assert may(config, person("partner"), Right.EXECUTE) == (issuer in (None, "*", "**"))


def test_certificates_count_as_ever(tmp_path: Path) -> None:
    obj = scheduler(tls=TLS, auth={"mtls": {}, "policy": EVERYBODY})
    config = read(obj, tmp_path)
    assert config.auth.mtls is not None and config.auth.mtls.subject == ("spiffe", "common-name", "dns")
    assert may(config, person("mtls"), Right.EXECUTE)
    assert not may(config, pod_of("anybody"), Right.EXECUTE)


def test_where_the_cluster_is_let_in_rules_are_as_they_are_written(tmp_path: Path) -> None:
    config = read(scheduler(auth={"kubernetes": {}, "policy": EVERYBODY}), tmp_path)
    assert may(config, pod_of("anybody"), Right.EXECUTE)


# Problems that only show with the cluster at hand


def test_an_issuer_without_its_claim_is_named() -> None:
    jwt = {name: value for name, value in CORP.items() if name != "issuer"}
    with pytest.raises(InvalidSpec, match=r"^spec\.auth\.jwt\[0\]\.issuer: must be set"):
        build(inputs(scheduler(auth={"jwt": [jwt], "policy": EVERYBODY})))


def test_this_cluster_under_another_name_is_named() -> None:
    with pytest.raises(InvalidSpec, match=r"^spec\.auth\.jwt\[0\]\.issuer: is this cluster; .*kubernetes"):
        build(inputs(scheduler(auth={"jwt": [{**CORP, "issuer": ISSUER}], "policy": EVERYBODY})))


def test_keys_that_the_api_server_does_not_tell_are_named() -> None:
    obj = scheduler(auth={"kubernetes": {}, "policy": BOTS})
    with pytest.raises(InvalidSpec, match=r"spec\.auth: .*system:service-account-issuer-discovery"):
        build(inputs(obj, tokens=None))


# The managed storage


def test_replicas_show_the_storage_a_token_of_their_own(tmp_path: Path) -> None:
    obj = scheduler(auth={"kubernetes": {}, "policy": BOTS})
    storage = read(obj, tmp_path).storage
    assert isinstance(storage, RemoteStorageConfig)
    path = "/run/buildgrid/tokens/storage"
    assert str(storage.token_file) == f"{path}/token"
    template = deployment(inputs(obj))["spec"]["template"]
    mounts = {mount["mountPath"]: mount["name"] for mount in container(template, "scheduler")["volumeMounts"]}
    (volume,) = [each for each in template["spec"]["volumes"] if each["name"] == mounts[path]]
    (source,) = volume["projected"]["sources"]
    assert source["serviceAccountToken"]["audience"] == INTERNAL_AUDIENCE
    config = read_storage(obj, tmp_path)
    assert may(config, REPLICA, Right.CAS_WRITE) and not may(config, REPLICA, Right.EXECUTE)


def test_whoever_may_use_the_cas_may_use_the_storage_directly(tmp_path: Path) -> None:
    config = read_storage(scheduler(auth={"kubernetes": {}, "jwt": [CORP], "policy": BOTS}), tmp_path)
    assert audiences(config) == {"kubernetes": ("buildgrid", INTERNAL_AUDIENCE), "corp": ("builds",)}
    assert may(config, pod_of("bots"), Right.CAS_WRITE)
    assert not may(config, pod_of("others"), Right.CACHE_READ)


def test_behind_tls_only_the_replicas_may_use_the_storage(tmp_path: Path) -> None:
    obj = scheduler(tls=TLS, auth={"kubernetes": {}, "jwt": [CORP], "mtls": {}, "policy": EVERYBODY})
    config = read_storage(obj, tmp_path)
    assert audiences(config) == {"kubernetes": (INTERNAL_AUDIENCE,)}
    assert may(config, REPLICA, Right.CAS_WRITE)
    assert not may(config, pod_of("bots"), Right.CACHE_READ) and not may(config, person(), Right.CACHE_READ)
    bundle = build(inputs(obj))
    assert bundle.endpoints.cas == bundle.endpoints.bots == "grpcs://main-bots.farm.svc.cluster.local:50051"
