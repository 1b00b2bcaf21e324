"""Who is let in: the spec's callers, the operator, the replicas, and nobody else."""

from pathlib import Path

import pytest
from buildgrid_operator.api import InvalidSpec, Scheduler
from buildgrid_operator.desired import build
from buildgrid_operator.desired.auth import INTERNAL_AUDIENCE, operator_audience
from buildgrid_operator.desired.config import storage_config
from buildgrid_operator.desired.endpoints import fleet_address
from buildgrid_scheduler.auth.identity import Identity, KubernetesAccount
from buildgrid_scheduler.auth.policy import Right
from buildgrid_scheduler.config import Config
from buildgrid_scheduler.config.storage import RemoteStorageConfig
from buildgrid_scheduler.server.auth import build_policy

from tests.unit.operator.desired.cases import BOTS, CORP, EVERYBODY, ISSUER, JWKS, TLS, UID, inputs, scheduler
from tests.unit.operator.desired.found import Json, container, deployment, kinds, loaded, one


def pod_of(account: str, *, namespace: str = "farm", issuer: str = "kubernetes") -> Identity:
    """A caller with a token of a service account."""
    found = KubernetesAccount(namespace, account, "a-pod")
    subject = f"system:serviceaccount:{namespace}:{account}"
    return Identity(issuer, issuer, subject, subject, kubernetes=found)


def person(issuer: str = "corp") -> Identity:
    return Identity(issuer, issuer, "ann", "ann")


OPERATOR = pod_of("buildgrid-operator", namespace="buildgrid-system")
FOR_OPERATOR = f"{UID}.scheduler.buildgrid.build"
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
    assert issuer.audiences == ("builds", FOR_OPERATOR)
    assert str(issuer.jwks.file) == "/run/buildgrid/config-maps/main-jwks/jwks.json"
    assert one(build(inputs(obj)), "ConfigMap", "main-jwks")["data"] == {"jwks.json": JWKS}
    assert may(config, pod_of("bots"), Right.RUN_BOTS)
    assert not may(config, pod_of("others"), Right.CACHE_READ)


def test_the_issuer_of_this_cluster_may_be_said(tmp_path: Path) -> None:
    obj = scheduler(auth={"kubernetes": {"issuer": "https://elsewhere"}, "policy": BOTS})
    assert read(obj, tmp_path).auth.jwt[0].issuer == "https://elsewhere"


def test_the_operator_may_ask(tmp_path: Path) -> None:
    config = read(scheduler(auth={"jwt": [CORP], "policy": EVERYBODY}), tmp_path)
    assert audiences(config) == {"kubernetes": (FOR_OPERATOR,), "corp": ("builds",)}
    assert may(config, OPERATOR, Right.ADMINISTER, "any/instance")
    assert not may(config, pod_of("buildgrid-operator"), Right.ADMINISTER)


def test_what_the_operator_shows_is_of_use_at_one_scheduler_only() -> None:
    ours, theirs = (Scheduler.parse(scheduler()).metadata.model_copy(update={"uid": uid}) for uid in "ab")
    assert operator_audience(ours) != operator_audience(theirs)


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
    assert config.auth.jwt == ()  # so that nobody is anybody but by a certificate


# Where callers need a certificate, the operator has a port of its own


@pytest.mark.parametrize(
    "auth",
    [None, {"mtls": {}, "policy": EVERYBODY}, {"kubernetes": {}, "jwt": [CORP], "policy": EVERYBODY}],
    ids=["a certificate is enough", "certificates", "tokens"],
)
def test_the_operator_alone_may_come_to_its_own_port(auth: Json | None, tmp_path: Path) -> None:
    more: Json = {} if auth is None else {"auth": auth}
    obj = scheduler(tls=TLS, **more)
    config = read(obj, tmp_path)
    assert config.fleet is not None and config.fleet.listen == "[::]:50052"
    (issuer,) = config.fleet.auth.jwt
    assert (issuer.issuer, issuer.audiences, issuer.kubernetes) == (ISSUER, (FOR_OPERATOR,), True)
    policy = build_policy(config.fleet.auth)
    assert policy.missing(Right.ADMINISTER, OPERATOR, "any/instance") is None
    assert policy.missing(Right.CACHE_READ, pod_of("anybody"), "") is Right.CACHE_READ
    assert one(build(inputs(obj)), "ConfigMap", "main-jwks")["data"] == {"jwks.json": JWKS}
    # At the other port it is nobody, and nothing is added to what the spec says.
    assert config.auth.enabled == (auth is not None)
    if auth is not None:
        assert len(config.auth.policy) == len(auth["policy"])
        assert FOR_OPERATOR not in {name for names in audiences(config).values() for name in names}


@pytest.mark.parametrize("auth", [None, {"jwt": [CORP], "policy": EVERYBODY}], ids=["nothing", "tokens"])
def test_without_client_certificates_there_is_no_other_port(auth: Json | None, tmp_path: Path) -> None:
    more: Json = {} if auth is None else {"auth": auth}
    obj = scheduler(tls={"secretName": "server-tls"}, **more)
    assert read(obj, tmp_path).fleet is None


@pytest.mark.parametrize(
    ("more", "endpoint", "audience", "server_name"),
    [
        ({}, "grpc://main-scheduler.farm.svc.cluster.local:50051", None, None),
        (
            {"auth": {"kubernetes": {}, "policy": BOTS}, "service": {"port": 443}},
            "grpc://main-scheduler.farm.svc.cluster.local:443",
            FOR_OPERATOR,
            None,
        ),
        (
            {"tls": {"secretName": "server-tls"}},
            "grpcs://main-scheduler.farm.svc.cluster.local:50051",
            None,
            "main-scheduler.farm.svc.cluster.local",
        ),
        (
            {"tls": {**TLS, "serverName": "build.example.org", "caConfigMapRef": {"name": "ca"}}},
            "grpcs://main-admin.farm.svc.cluster.local:50052",
            FOR_OPERATOR,
            "build.example.org",
        ),
        (
            {"tls": TLS},
            "grpcs://main-admin.farm.svc.cluster.local:50052",
            FOR_OPERATOR,
            "main-scheduler.farm.svc.cluster.local",
        ),
    ],
    ids=["nothing", "tokens", "TLS", "certificates, named", "certificates"],
)
def test_the_operator_knows_where_to_ask_and_with_what(
    more: Json, endpoint: str, audience: str | None, server_name: str | None
) -> None:
    found = fleet_address(inputs(scheduler(**more)).scheduler, "cluster.local")
    assert (found.namespace, found.name) == ("farm", "main")
    assert (found.endpoint, found.audience, found.server_name) == (endpoint, audience, server_name)
    named = more.get("tls", {}).get("caConfigMapRef")
    assert (None if found.authority is None else found.authority.to_dict()) == (
        None if named is None else {"name": "ca", "key": "ca.crt"}
    )


def test_its_port_is_at_the_service_that_nobody_has_outside_of_the_cluster() -> None:
    bundle = build(inputs(scheduler(tls=TLS, service={"type": "LoadBalancer"})))
    by_service = {
        obj["metadata"]["name"]: {port["port"]: port["targetPort"] for port in obj["spec"]["ports"]}
        for obj in bundle.objects
        if obj["kind"] == "Service"
    }
    assert by_service.pop("main-admin")[50052] == 50052
    assert not any(50052 in ports for ports in by_service.values())


def test_where_the_cluster_is_let_in_rules_are_as_they_are_written(tmp_path: Path) -> None:
    config = read(scheduler(auth={"kubernetes": {}, "policy": EVERYBODY}), tmp_path)
    assert may(config, pod_of("anybody"), Right.EXECUTE)


# Problems that only show with the cluster at hand


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
