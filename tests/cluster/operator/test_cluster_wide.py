"""One operator for several namespaces, as the chart's ServiceAccount: for all of them, and for some."""

import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.kinds import CONFIG_MAP, SERVICE, ObjectRef

from tests.cluster.conftest import Kubectl
from tests.cluster.operator.accounts import FLAGS, grant, kubeconfig_of, rules_of, withdraw
from tests.cluster.operator.conftest import MINIMAL, Json, Start
from tests.cluster.operator.fleet import PlayedFleet
from tests.cluster.operator.processes import Operator, becomes, eventually
from tests.unit.charts.rendering import needs_helm

pytestmark = [needs_helm, pytest.mark.alone, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def fleet(client: Client) -> Iterator[PlayedFleet]:
    """Of all Schedulers of the cluster."""
    with closing(PlayedFleet(client, None)) as played:
        yield played


@pytest.fixture(scope="module")
def elsewhere(kubectl: Kubectl) -> Iterator[str]:
    """Another namespace than the operator's."""
    name = f"test-{uuid.uuid4().hex[:10]}"
    kubectl("create", "namespace", name, check=True)
    yield name
    kubectl("delete", "namespace", name, "--wait=false", check=True)


@pytest.fixture(params=["Cluster", "Namespaced"])
def scope(request: pytest.FixtureRequest) -> str:
    """As in the chart's values."""
    found: str = request.param
    return found


@pytest.fixture
def operator(
    kubectl: Kubectl, namespace: str, elsewhere: str, scope: str, start_operator: Start, tmp_path: Path
) -> Iterator[Operator]:
    """With the chart's rules, which are removed after the test."""
    everywhere = scope == "Cluster"
    if everywhere:  # what other tests left would be looked after, too, and never come to rest
        everything = ("--all", "--all-namespaces", "--timeout=60s")
        kubectl("delete", "schedulers.buildgrid.build,propertysets.buildgrid.build", *everything, timeout=90)
    rules = rules_of(
        namespace, {"scope": scope} | ({} if everywhere else {"namespaces": [namespace, elsewhere]})
    )
    grant(kubectl, rules)
    flags = [*FLAGS, f"--kubeconfig={kubeconfig_of(kubectl, namespace, tmp_path / 'config')}"]
    if not everywhere:
        flags.append(f"--namespace={elsewhere}")
    started = start_operator(*flags, everywhere=everywhere).leads()
    yield started
    started.close()
    withdraw(kubectl, rules)


def _apply(kubectl: Kubectl, namespace: str, name: str, kind: str = "Scheduler", **spec: object) -> ObjectRef:
    obj: Json = yaml.safe_load(MINIMAL.read_text())
    obj["kind"] = kind
    obj["metadata"] = {"name": name, "namespace": namespace}
    obj["spec"] = {**(obj["spec"] if kind == "Scheduler" else {}), **spec}
    kubectl("apply", "-f", "-", stdin=yaml.safe_dump(obj), check=True)
    return ObjectRef.of(obj)


def test_schedulers_of_one_name_in_two_namespaces_have_nothing_in_common(
    client: Client, kubectl: Kubectl, namespace: str, elsewhere: str, scope: str, operator: Operator
) -> None:
    name = scope.lower()
    for each in (namespace, elsewhere):
        key = f"key-of-{each}"
        _apply(kubectl, each, "shared", "PropertySet", dynamic={"matchKeys": [key]})
    here, there = (
        _apply(kubectl, each, name, propertySetRef={"name": "shared"}) for each in (namespace, elsewhere)
    )
    for ref in (here, there):
        becomes(client, ref, "ConfigApplied", "True")
        becomes(client, ref, "Ready", "True")
        text = client.get(CONFIG_MAP, ref.namespace, f"{name}-config")["data"]["scheduler.yaml"]
        assert f"key-of-{ref.namespace}" in text
    # An edit by hand is undone where it was made.
    service = client.get(SERVICE, elsewhere, f"{name}-admin")["metadata"]["uid"]
    kubectl("-n", elsewhere, "delete", "service", f"{name}-admin", check=True)
    eventually(lambda: client.find(SERVICE, elsewhere, f"{name}-admin"), "it is made again")
    assert client.get(SERVICE, elsewhere, f"{name}-admin")["metadata"]["uid"] != service
    # One goes, and the other one stays.
    kubectl("-n", namespace, "delete", "schedulers.buildgrid.build", name, check=True, timeout=90)
    becomes(client, there, "Ready", "True")
    operator.comes_to_rest(3)
    assert client.find(CONFIG_MAP, elsewhere, f"{name}-config")
    assert operator.metric(r'^buildgrid_operator_api_calls_total\{code="403",kind="(?!Node")') == 0
    ready = rf'^buildgrid_operator_condition\{{kind="Scheduler",name="{name}",.*status="True",type="Ready"'
    eventually(lambda: operator.metric(ready) == 1, "the one that went is told of no more")
    assert "may not" not in operator.log
    assert operator.stop() == 0


def test_a_namespace_that_is_made_later_belongs_to_it_too(
    client: Client, kubectl: Kubectl, scope: str, operator: Operator
) -> None:
    if scope != "Cluster":
        pytest.skip("namespaces are named one by one there")
    name = f"test-{uuid.uuid4().hex[:10]}"
    kubectl("create", "namespace", name, check=True)
    ref = _apply(kubectl, name, "new")
    becomes(client, ref, "ConfigApplied", "True")
    kubectl("delete", "namespace", name, check=True, timeout=110)
    assert operator.stop() == 0
