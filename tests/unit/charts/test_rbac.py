"""Who may do what: no wildcards, no Secrets, and exactly what the operator's calls need."""

import re

import pytest
import yaml
from buildgrid_operator.api.crd import KINDS
from buildgrid_operator.cluster.kinds import POD, kind_of
from buildgrid_operator.desired import build
from buildgrid_operator.desired.bots import fleet_objects

from tests.unit.charts.rendering import (
    NAMESPACE,
    ROOT,
    VALUES,
    Json,
    find,
    is_hook,
    needs_helm,
    objects,
    rendered,
    template,
)
from tests.unit.operator.desired.bots.cases import CASES as FLEETS
from tests.unit.operator.desired.cases import CASES

pytestmark = needs_helm

_APPLIED = ["get", "list", "watch", "create", "patch", "delete"]


def _roles(name: str) -> list[Json]:
    return [obj for obj in rendered(name) if obj["kind"] in ("Role", "ClusterRole")]


def _operator_rules(name: str = "defaults") -> list[Json]:
    kind = "Role" if VALUES[name].get("operator", {}).get("scope") == "Namespaced" else "ClusterRole"
    prefix = f"{NAMESPACE}-" if kind == "ClusterRole" else ""
    rules: list[Json] = find(rendered(name), kind, f"{prefix}demo-buildgrid-operator")["rules"]
    return rules


def _verbs(rules: list[Json], group: str, resource: str) -> list[str]:
    return [
        verb
        for rule in rules
        if group in rule["apiGroups"] and resource in rule["resources"]
        for verb in rule["verbs"]
    ]


@pytest.mark.parametrize("name", VALUES)
def test_there_are_no_wildcards(name: str) -> None:
    for role in _roles(name):
        for rule in role["rules"]:
            assert set(rule) <= {"apiGroups", "resources", "verbs", "resourceNames"}
            assert not any("*" in word for words in rule.values() for word in words), role["metadata"]["name"]


@pytest.mark.parametrize("name", VALUES)
def test_nobody_may_read_secrets_and_one_job_may_make_one(name: str) -> None:
    found = {
        role["metadata"]["name"]: verb
        for role in _roles(name)
        for rule in role["rules"]
        if "secrets" in rule["resources"]
        for verb in rule["verbs"]
    }
    assert found.items() <= {("demo-buildgrid-password", "create")}
    assert ("demo-buildgrid-password" in found) == (name in _GENERATING)
    if found:
        assert is_hook(find(rendered(name), "Role", "demo-buildgrid-password"))


_GENERATING = {"defaults", "air gap example", "namespaced", "two namespaces", "auth and TLS"}
_MORE_POWER = {"escalate", "bind", "impersonate", "deletecollection"}


@pytest.mark.parametrize("name", VALUES)
def test_the_operator_cannot_give_itself_more(name: str) -> None:
    for role in _roles(name):
        if role["metadata"]["name"] == f"{NAMESPACE}-demo-buildgrid-admin":
            continue
        for rule in role["rules"]:
            assert not _MORE_POWER & set(rule["verbs"])
            assert "rbac.authorization.k8s.io" not in rule["apiGroups"]
            assert not {"pods/exec", "pods/eviction"} & set(rule["resources"])


@pytest.mark.parametrize("name", VALUES)
def test_of_namespaces_it_sees_its_own_and_of_nodes_all_or_none(name: str) -> None:
    def found(resource: str) -> list[tuple[str, str | None, Json]]:
        return [
            (role["kind"], role["metadata"].get("namespace"), rule)
            for role in _roles(name)
            for rule in role["rules"]
            if resource in rule["resources"]
        ]

    rule = {"apiGroups": [""], "resources": ["namespaces"], "resourceNames": [NAMESPACE], "verbs": ["get"]}
    assert found("namespaces") == [("Role", NAMESPACE, rule)]
    nodes = {"apiGroups": [""], "resources": ["nodes"], "verbs": ["list", "watch"]}
    watches = name not in {"namespaced", "only bots"}
    assert found("nodes") == ([("ClusterRole", None, nodes)] if watches else [])


def test_nodes_are_watched_cluster_wide_unless_somebody_says_otherwise() -> None:
    def watches(operator: Json) -> bool:
        found = objects(template({"operator": operator}).stdout)
        roles = [obj for obj in found if obj["kind"] in ("ClusterRole", "ClusterRoleBinding")]
        return len([obj for obj in roles if obj["metadata"]["name"].endswith("-operator-nodes")]) == 2

    assert watches({})
    assert not watches({"watchNodes": False})
    assert not watches({"scope": "Namespaced"})
    assert watches({"scope": "Namespaced", "watchNodes": True})


@pytest.mark.parametrize("name", VALUES)
def test_the_operator_may_have_tokens_of_itself_and_of_nobody_else(name: str) -> None:
    found = [
        (role["kind"], role["metadata"]["namespace"], rule)
        for role in _roles(name)
        for rule in role["rules"]
        if "serviceaccounts/token" in rule["resources"]
    ]
    ((kind, namespace, rule),) = found
    (pod,) = [obj for obj in rendered(name) if obj["kind"] == "Deployment" and _is_operator(obj)]
    account = pod["spec"]["template"]["spec"]["serviceAccountName"]
    assert (kind, namespace) == ("Role", NAMESPACE)
    assert (rule["verbs"], rule["resourceNames"]) == (["create"], [account])


def _is_operator(obj: Json) -> bool:
    return bool(obj["metadata"]["name"].endswith("-operator"))


def test_the_operator_may_apply_each_kind_that_a_scheduler_or_a_fleet_may_become() -> None:
    rules = _operator_rules()
    kinds = {kind_of(obj) for case in CASES.values() for obj in build(case).objects}
    assert len(kinds) >= 11
    kinds |= {POD, *(kind_of(obj) for case in FLEETS.values() for obj in fleet_objects(case))}
    for kind in kinds:
        assert _verbs(rules, kind.group, kind.plural) == _APPLIED, kind
    applied = {
        (group, resource)
        for rule in rules
        if rule["verbs"] == _APPLIED
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    assert applied == {(kind.group, kind.plural) for kind in kinds}, "a rule that nothing needs"


def test_custom_resources_are_read_and_only_their_status_and_finalizers_are_written() -> None:
    rules = _operator_rules()
    group = "buildgrid.build"
    assert _verbs(rules, group, "schedulers") == ["get", "list", "watch", "patch"]
    for plural in ("propertysets", "botfleets"):
        assert _verbs(rules, group, plural) == ["list", "watch"]
    assert _verbs(rules, group, "botfleets/scale") == []
    for kind in KINDS:
        assert _verbs(rules, group, f"{kind.names.plural}/status") == ["patch"]


def test_both_scopes_have_the_same_rules() -> None:
    assert _operator_rules("namespaced") == _operator_rules("defaults")


def test_a_namespaced_operator_has_nothing_in_the_cluster() -> None:
    """Apart from the CRDs, which are of the cluster, and what people may do."""
    bindings = [
        obj["metadata"]["name"] for obj in rendered("namespaced") if obj["kind"] == "ClusterRoleBinding"
    ]
    assert bindings == [f"{NAMESPACE}-demo-buildgrid-crds"]
    kinds = {obj["kind"] for obj in rendered("namespaced") if obj["metadata"]["name"].endswith("-operator")}
    assert {"Role", "RoleBinding"} <= kinds
    assert not {"ClusterRole", "ClusterRoleBinding"} & kinds


def test_each_namespace_has_a_role_of_its_own() -> None:
    found = rendered("two namespaces")
    here = find(found, "RoleBinding", "demo-buildgrid-operator")
    there = find(found, "RoleBinding", f"{NAMESPACE}-demo-buildgrid-operator")
    assert (here["metadata"]["namespace"], there["metadata"]["namespace"]) == (NAMESPACE, "builds")
    account = {"kind": "ServiceAccount", "name": "demo-buildgrid-operator", "namespace": NAMESPACE}
    assert here["subjects"] == there["subjects"] == [account]


@pytest.mark.parametrize("name", VALUES)
def test_every_binding_leads_from_an_account_of_the_chart_to_a_role_of_the_chart(name: str) -> None:
    found = rendered(name)
    for binding in found:
        if not binding["kind"].endswith("RoleBinding"):
            continue
        to, namespace = binding["roleRef"], binding["metadata"].get("namespace")
        role = find(found, to["kind"], to["name"], namespace)
        (subject,) = binding["subjects"]
        account = find(found, "ServiceAccount", subject["name"])
        assert account["metadata"]["namespace"] == subject["namespace"] == NAMESPACE
        # A hook's rights are there for no longer than the hook.
        assert is_hook(account) == is_hook(role) == is_hook(binding)


def test_the_crds_that_may_be_upgraded_are_ours() -> None:
    (by_name,) = (
        rule
        for rule in find(rendered("defaults"), "ClusterRole", f"{NAMESPACE}-demo-buildgrid-crds")["rules"]
        if "resourceNames" in rule
    )
    files = (yaml.safe_load(file.read_text(encoding="utf-8")) for file in (ROOT / "crds").glob("*.yaml"))
    assert sorted(by_name["resourceNames"]) == sorted(crd["metadata"]["name"] for crd in files)


def test_people_get_rights_on_every_kind() -> None:
    found = rendered("defaults")
    for kind in KINDS:
        plural = kind.names.plural
        for role, resource, verb in (
            ("view", plural, "get"),
            ("view", f"{plural}/status", "get"),
            ("edit", plural, "patch"),
            ("admin", plural, "deletecollection"),
            *(
                (("view", f"{plural}/scale", "get"), ("edit", f"{plural}/scale", "patch"))
                if kind.scale
                else ()
            ),
        ):
            rules = find(found, "ClusterRole", f"{NAMESPACE}-demo-buildgrid-{role}")["rules"]
            assert verb in _verbs(rules, "buildgrid.build", resource)
    for role, verb in (("view", "get"), ("edit", "patch")):
        rules = find(found, "ClusterRole", f"{NAMESPACE}-demo-buildgrid-{role}")["rules"]
        assert verb in _verbs(rules, "buildgrid.build", "botfleets/scale"), "kubectl scale"
    view = find(found, "ClusterRole", f"{NAMESPACE}-demo-buildgrid-view")
    assert {verb for rule in view["rules"] for verb in rule["verbs"]} == {"get", "list", "watch"}


def test_the_page_tells_of_each_rule() -> None:
    page = (ROOT / "docs" / "rbac.md").read_text(encoding="utf-8")
    told = {
        (resource, verb)
        for line in page.splitlines()
        if (row := re.match(r"\| `([^|]*)` \| ([a-z, ]+) \|", line))
        for resource in re.split(r"`, `", row[1])
        for verb in row[2].split(", ")
    }
    asked = {
        (resource, verb)
        for role in _roles("defaults")
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert told == asked
