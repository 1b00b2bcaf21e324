"""Schedulers with auth and TLS: the operator, as the chart's ServiceAccount, hears of their replicas."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.kinds import SCHEDULER, SERVICE

from tests.cluster.conftest import Kubectl
from tests.cluster.operator.accounts import ACCOUNT, FLAGS, grant, kubeconfig_of, rules_of
from tests.cluster.operator.conftest import Apply, Json, Start
from tests.cluster.operator.processes import Operator, becomes, eventually
from tests.cluster.operator.secured_fleet import SecuredFleet, secured_fleet
from tests.credentials.certificates import SERVER_NAME, Authority
from tests.unit.charts.rendering import needs_helm

pytestmark = [needs_helm, pytest.mark.timeout(300)]
EVERYBODY = [{"identities": [{"subject": "**"}], "rights": ["Execute"]}]
TLS = {"secretName": "server-tls", "serverName": SERVER_NAME, "caConfigMapRef": {"name": "internal-ca"}}
CERTIFICATES = {**TLS, "clientCaSecretRef": {"name": "client-ca"}}
SPECS: dict[str, Json] = {
    "tokens": {"tls": TLS, "auth": {"kubernetes": {}, "policy": EVERYBODY}},
    "certificates": {"tls": CERTIFICATES, "auth": {"mtls": {}, "policy": EVERYBODY}},
    "certificate-is-enough": {"tls": CERTIFICATES},
}


@pytest.fixture(scope="module")
def authority(kubectl: Kubectl, namespace: str, tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who signs the Schedulers' certificates; in a ConfigMap, as trust-manager would put it there."""
    authority = Authority()
    file = tmp_path_factory.mktemp("ca") / "ca.crt"
    file.write_bytes(authority.pem)
    kubectl("-n", namespace, "create", "configmap", "internal-ca", f"--from-file={file}", check=True)
    return authority


@pytest.fixture(scope="module")
def fleet(client: Client, namespace: str, authority: Authority) -> Iterator[SecuredFleet]:
    """Of all Schedulers in the namespace."""
    with secured_fleet(client, namespace, authority.server()) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def rules(kubectl: Kubectl, namespace: str) -> list[Json]:
    """The chart's rules, in force."""
    rules = rules_of(namespace, {"scope": "Namespaced"})
    grant(kubectl, rules)
    return rules


@pytest.fixture(scope="module")
def operator(
    kubectl: Kubectl,
    namespace: str,
    rules: list[Json],
    start_operator: Start,
    tmp_path_factory: pytest.TempPathFactory,
) -> Operator:
    """With the rights of the chart."""
    file: Path = tmp_path_factory.mktemp("kubeconfig") / "config"
    kubeconfig = kubeconfig_of(kubectl, namespace, file)
    return start_operator(*FLAGS, f"--kubeconfig={kubeconfig}").leads()


@pytest.mark.parametrize("name", SPECS)
def test_the_replicas_are_heard_of(
    name: str, client: Client, apply: Apply, operator: Operator, fleet: SecuredFleet
) -> None:
    ref = apply(name, **SPECS[name])
    becomes(client, ref, "Ready", "True", "Serving")
    becomes(client, ref, "ConfigApplied", "True", "Applied")
    becomes(client, ref, "Degraded", "False")
    assert name in fleet.let_in
    assert operator.metric(r'^buildgrid_operator_api_calls_total\{code="403",kind="(?!Node")') == 0


@pytest.mark.usefixtures("operator")
def test_its_own_port_is_there_for_schedulers_that_ask_for_certificates(
    client: Client, namespace: str, apply: Apply
) -> None:
    for name, ports in (("tokens", {9090}), ("certificates", {9090, 50052})):
        becomes(client, apply(name, **SPECS[name]), "ConfigApplied", "True")
        service = client.get(SERVICE, namespace, f"{name}-admin")
        assert {port["port"] for port in service["spec"]["ports"]} == ports


@pytest.mark.usefixtures("operator")
def test_one_token_for_each_scheduler_is_asked_for_and_used_for_long(
    client: Client, apply: Apply, operator: Operator, fleet: SecuredFleet
) -> None:
    ref = apply("asks-once", **SPECS["tokens"])
    becomes(client, ref, "ConfigApplied", "True")
    pattern = r'^buildgrid_operator_api_calls_total\{.*kind="ServiceAccount".*verb="create"'
    before = operator.metric(pattern)
    assert before >= 1
    heard = fleet.let_in.count("asks-once")
    eventually(lambda: fleet.let_in.count("asks-once") >= heard + 3, "it is asked again and again")
    assert operator.metric(pattern) == before


def test_an_authority_that_is_missing_is_named_and_healed(
    client: Client, kubectl: Kubectl, namespace: str, apply: Apply, operator: Operator, authority: Authority
) -> None:
    tls = {**TLS, "caConfigMapRef": {"name": "later-ca", "key": "root.pem"}}
    ref = apply("later", tls=tls, auth={"kubernetes": {}, "policy": EVERYBODY})
    found = becomes(client, ref, "ConfigApplied", "Unknown")
    assert "there is no ConfigMap later-ca" in found["message"]
    pem = authority.pem.decode()
    kubectl("-n", namespace, "create", "configmap", "later-ca", f"--from-literal=root.pem={pem}", check=True)
    becomes(client, ref, "ConfigApplied", "True", "Applied")
    assert operator.goes_on()


def test_without_the_right_to_a_token_of_its_own_the_rule_that_lacks_is_named(
    client: Client, kubectl: Kubectl, namespace: str, apply: Apply, operator: Operator, rules: list[Json]
) -> None:
    role = f"{ACCOUNT}-own-token"
    kubectl("-n", namespace, "delete", "rolebinding", role, check=True)
    try:
        ref = apply("tokenless", **SPECS["tokens"])
        found = becomes(client, ref, "ConfigApplied", "Unknown")
        assert "create serviceaccounts/token" in found["message"]
    finally:
        grant(kubectl, rules)
    becomes(client, ref, "ConfigApplied", "True", "Applied")
    assert client.get(SCHEDULER, namespace, "tokenless")["status"]["configuredReplicas"] == 1
    assert operator.goes_on()
