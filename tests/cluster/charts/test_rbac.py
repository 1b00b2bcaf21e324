"""The chart's ServiceAccounts, as a real API server judges them: what must work, and what must not."""

import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import yaml
from buildgrid_operator.cluster.kinds import (
    CONFIG_MAP,
    DEPLOYMENT,
    GRPC_ROUTE,
    INGRESS,
    NETWORK_POLICY,
    PERSISTENT_VOLUME_CLAIM,
    POD,
    POD_DISRUPTION_BUDGET,
    SERVICE,
    SERVICE_ACCOUNT,
    SERVICE_MONITOR,
    STATEFUL_SET,
)

from tests.cluster.conftest import Kubectl
from tests.cluster.operator.processes import eventually
from tests.unit.charts.rendering import objects, template

pytestmark = pytest.mark.usefixtures("crds", "helm")

RELEASE = f"t{uuid.uuid4().hex[:8]}"
APPLIED = (
    CONFIG_MAP, SERVICE, SERVICE_ACCOUNT, PERSISTENT_VOLUME_CLAIM, DEPLOYMENT, STATEFUL_SET,
    POD_DISRUPTION_BUDGET, NETWORK_POLICY, INGRESS, GRPC_ROUTE, SERVICE_MONITOR, POD,
)  # fmt: skip
OURS = "buildgrid.build"
LEASE = f"{RELEASE}-buildgrid-operator"
OPERATOR = f"{RELEASE}-buildgrid-operator"
"""its ServiceAccount"""


@dataclass(frozen=True)
class Call:
    """A call of the API server; in the whole cluster with the namespace None."""

    verb: str
    group: str
    resource: str
    namespace: str | None
    name: str = ""

    def review(self, account: str) -> dict[str, Any]:
        """Whether this account may make it, as a question to the API server."""
        resource, _, subresource = self.resource.partition("/")
        attributes = {
            "verb": self.verb,
            "group": self.group,
            "resource": resource,
            "subresource": subresource,
            "name": self.name,
            "namespace": self.namespace or "",
        }
        return {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {"user": f"system:serviceaccount:{account}", "resourceAttributes": attributes},
        }


def needed(namespace: str | None) -> list[Call]:
    """What the operator does where it looks after Schedulers and BotFleets."""
    calls = [
        Call(verb, kind.group, kind.plural, namespace)
        for kind in APPLIED
        for verb in ("get", "list", "watch", "create", "patch", "delete")
    ]
    for verb, group, resources in (
        ("get", OURS, ("schedulers",)),
        ("list", OURS, ("schedulers", "propertysets", "botfleets")),
        ("watch", OURS, ("schedulers", "propertysets", "botfleets")),
        ("patch", OURS, ("schedulers", "schedulers/status", "propertysets/status", "botfleets/status")),
        ("list", "events.k8s.io", ("events",)),
        ("create", "events.k8s.io", ("events",)),
        ("patch", "events.k8s.io", ("events",)),
    ):
        calls += [Call(verb, group, resource, namespace) for resource in resources]
    return calls


def forbidden(namespace: str | None) -> list[Call]:
    """What no part of the operator does."""
    calls = [
        Call(verb, "", "secrets", namespace) for verb in ("get", "list", "watch", "create", "patch", "delete")
    ]
    for verb, group, resource in (
        ("deletecollection", "", "pods"),
        ("update", "", "pods"),
        ("create", "", "pods/eviction"),
        ("create", "", "pods/exec"),
        ("get", "", "pods/log"),
        ("create", "", "serviceaccounts/token"),
        ("impersonate", "", "serviceaccounts"),
        ("create", "rbac.authorization.k8s.io", "roles"),
        ("create", "rbac.authorization.k8s.io", "rolebindings"),
        ("create", OURS, "schedulers"),
        ("get", OURS, "propertysets"),
        ("get", OURS, "botfleets"),
        ("delete", OURS, "schedulers"),
        ("patch", OURS, "propertysets"),
        ("patch", OURS, "botfleets"),
        ("patch", OURS, "botfleets/scale"),
        ("create", OURS, "botfleets"),
        ("delete", OURS, "botfleets"),
        ("list", "coordination.k8s.io", "leases"),
        ("deletecollection", "", "configmaps"),
    ):
        calls.append(Call(verb, group, resource, namespace))
    return calls


ANYWHERE = [
    Call("get", "", "nodes", None),
    Call("patch", "", "nodes", None),
    Call("delete", "", "nodes", None),
    Call("list", "", "namespaces", None),
    Call("watch", "", "namespaces", None),
    Call("create", "rbac.authorization.k8s.io", "clusterroles", None),
    Call("patch", "apiextensions.k8s.io", "customresourcedefinitions", None, f"schedulers.{OURS}"),
    Call("list", "apiextensions.k8s.io", "customresourcedefinitions", None),
]


NODES = [Call("list", "", "nodes", None), Call("watch", "", "nodes", None)]
"""What it does where it may watch nodes."""


@pytest.fixture(scope="module", params=["Cluster", "Namespaced"])
def scope(request: pytest.FixtureRequest, kubectl: Kubectl, namespaces: tuple[str, str]) -> Iterator[str]:
    """The chart's rules are in force, those of its Jobs included, for the namespaces of the tests."""
    with _in_force(kubectl, {"operator": {"scope": request.param}}, RELEASE, namespaces[0]):
        yield request.param


@contextmanager
def _in_force(kubectl: Kubectl, values: dict[str, Any], release: str, namespace: str) -> Iterator[None]:
    """The rules of a release, under these values, hold."""
    rendered = template(values, release=release, namespace=namespace)
    assert rendered.returncode == 0, rendered.stderr
    kinds = ("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
    text = yaml.safe_dump_all(obj for obj in objects(rendered.stdout) if obj["kind"] in kinds)
    kubectl("apply", "--server-side", "-f", "-", stdin=text, check=True)
    try:
        yield
    finally:
        kubectl("delete", "--ignore-not-found", "-f", "-", stdin=text, check=True)


def _allowed(kubectl: Kubectl, account: str, calls: Sequence[Call]) -> list[Call]:
    """Which of the calls the API server would let through."""
    reviews = [call.review(account) for call in calls]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": reviews})
    answers = _documents(kubectl("create", "-f", "-", "-o", "json", stdin=text, check=True).stdout)
    assert len(answers) == len(calls)
    return [call for call, answer in zip(calls, answers, strict=True) if answer["status"].get("allowed")]


def _documents(text: str) -> list[dict[str, Any]]:
    """JSON documents, one after the other."""
    decoder, found = json.JSONDecoder(), []
    while text := text.lstrip():
        document, end = decoder.raw_decode(text)
        found.append(document)
        text = text[end:]
    return found


def _account(namespace: str, component: str) -> str:
    return f"{namespace}:{RELEASE}-buildgrid-{component}"


def test_the_operator_may_do_what_it_does(kubectl: Kubectl, namespaces: tuple[str, str], scope: str) -> None:
    home, elsewhere = namespaces
    calls = [
        *needed(home),
        *[Call(verb, "coordination.k8s.io", "leases", home, LEASE) for verb in ("get", "update", "create")],
        Call("create", "", "serviceaccounts/token", home, OPERATOR),
        Call("get", "", "namespaces", home, home),
        *([*needed(elsewhere), *needed(None), *NODES] if scope == "Cluster" else []),
    ]
    refused = set(calls) - set(_allowed(kubectl, _account(home, "operator"), calls))
    assert not refused


def test_the_operator_may_do_nothing_else(kubectl: Kubectl, namespaces: tuple[str, str], scope: str) -> None:
    home, elsewhere = namespaces
    calls = [
        *forbidden(home),
        *forbidden(elsewhere),
        *ANYWHERE,
        Call("update", "coordination.k8s.io", "leases", home, "another"),
        Call("update", "coordination.k8s.io", "leases", elsewhere, LEASE),
        Call("create", "", "serviceaccounts/token", home, "another"),
        Call("create", "", "serviceaccounts/token", elsewhere, OPERATOR),
        Call("get", "", "namespaces", elsewhere, elsewhere),
        Call("patch", "", "namespaces", home, home),
        *([*needed(elsewhere), *needed(None), *NODES] if scope == "Namespaced" else []),
    ]
    assert _allowed(kubectl, _account(home, "operator"), calls) == []


def test_an_operator_of_a_namespace_may_watch_nodes_where_somebody_lets_it(
    kubectl: Kubectl, namespaces: tuple[str, str]
) -> None:
    home, elsewhere = namespaces
    release = f"n{uuid.uuid4().hex[:8]}"
    operator = {"scope": "Namespaced", "watchNodes": True}
    with _in_force(kubectl, {"operator": operator}, release, home):
        account = f"{home}:{release}-buildgrid-operator"
        calls = [*NODES, *ANYWHERE, *needed(elsewhere), *needed(None)]
        assert _allowed(kubectl, account, calls) == NODES


@pytest.mark.parametrize(
    ("role", "may"),
    [
        ("view", [Call("get", OURS, "botfleets", "builds"), Call("get", OURS, "botfleets/scale", "builds")]),
        (
            "edit",
            [
                Call("patch", OURS, "botfleets", "builds"),
                Call("patch", OURS, "botfleets/scale", "builds"),
                Call("delete", OURS, "botfleets", "builds"),
            ],
        ),
        ("admin", [Call("deletecollection", OURS, "botfleets", "builds")]),
    ],
)
def test_people_with_roles_of_kubernetes_may_look_at_scale_and_change_fleets(
    kubectl: Kubectl, namespaces: tuple[str, str], scope: str, role: str, may: list[Call]
) -> None:
    home = namespaces[0]
    person = f"{home}:person-{role}"
    here = [replace(call, namespace=home) for call in may]
    rest = [
        Call("patch", OURS, "botfleets/status", home),
        *([Call("patch", OURS, "botfleets/scale", home)] if role == "view" else []),
        *([Call("deletecollection", OURS, "botfleets", home)] if role != "admin" else []),
    ]
    kubectl(
        *("-n", home, "create", "rolebinding", f"person-{role}", f"--clusterrole={role}"),
        f"--serviceaccount={person}",
        check=True,
    )
    try:
        # The roles of Kubernetes are put together by a controller.
        eventually(lambda: _allowed(kubectl, person, here) == here, f"{role} may {here}", 60)
        assert _allowed(kubectl, person, rest) == []
    finally:
        kubectl("-n", home, "delete", "rolebinding", f"person-{role}", check=True)


def test_the_job_before_an_upgrade_may_apply_our_crds_and_no_others(
    kubectl: Kubectl, namespaces: tuple[str, str], scope: str
) -> None:
    home = namespaces[0]
    group, resource = "apiextensions.k8s.io", "customresourcedefinitions"
    ours = [
        Call(verb, group, resource, None, f"{plural}.{OURS}")
        for verb in ("get", "patch", "create")
        for plural in ("schedulers", "propertysets", "botfleets")
    ]
    others = [
        *[
            Call(verb, group, resource, None, "gateways.gateway.networking.k8s.io")
            for verb in ("get", "patch")
        ],
        Call("delete", group, resource, None, f"schedulers.{OURS}"),
        Call("list", group, resource, None),
        *forbidden(home),
    ]
    assert _allowed(kubectl, _account(home, "crds"), [*ours, *others]) == ours


def test_the_job_before_an_uninstallation_may_stop_the_operator_and_free_schedulers(
    kubectl: Kubectl, namespaces: tuple[str, str], scope: str
) -> None:
    home, elsewhere = namespaces
    places = [home, elsewhere, None] if scope == "Cluster" else [home]
    mine = [
        *[
            Call(verb, OURS, "schedulers", place)
            for place in places
            for verb in ("get", "list", "watch", "patch", "delete")
        ],
        Call("get", "apps", "deployments", home, LEASE),
        *[Call(verb, "apps", "deployments/scale", home, LEASE) for verb in ("get", "patch")],
        *[Call(verb, "coordination.k8s.io", "leases", home, LEASE) for verb in ("get", "delete")],
    ]
    others = [
        Call("patch", "apps", "deployments/scale", home, "another"),
        Call("delete", "apps", "deployments", home, LEASE),
        *[call for call in forbidden(home) if call.resource != "schedulers"],
        *([Call("list", OURS, "schedulers", elsewhere)] if scope == "Namespaced" else []),
    ]
    assert _allowed(kubectl, _account(home, "uninstall"), [*mine, *others]) == mine


def test_the_job_that_makes_the_password_can_read_no_secret(
    kubectl: Kubectl, namespaces: tuple[str, str], scope: str
) -> None:
    home, elsewhere = namespaces
    calls = [*forbidden(home), *forbidden(elsewhere), *needed(home)]
    assert _allowed(kubectl, _account(home, "password"), calls) == [Call("create", "", "secrets", home)]


@pytest.mark.parametrize("component", ["postgresql", "test"])
def test_who_runs_builds_may_do_nothing_at_all(
    kubectl: Kubectl, namespaces: tuple[str, str], scope: str, component: str
) -> None:
    calls = [*needed(namespaces[0]), *forbidden(namespaces[0]), *ANYWHERE]
    assert _allowed(kubectl, _account(namespaces[0], component), calls) == []
