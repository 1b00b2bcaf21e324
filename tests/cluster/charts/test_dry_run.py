"""Every object of the charts and of the examples is taken by the API server, and every pod is restricted."""

import copy

import pytest
import yaml

from tests.cluster.conftest import Answer, Kubectl
from tests.unit.charts.rendering import CRDS_CHART, EXAMPLES, VALUES, Json, objects, template

pytestmark = pytest.mark.usefixtures("crds", "helm")

_FOREIGN = {"ServiceMonitor"}
"""Kinds that a cluster need not know."""


def _dry_run(kubectl: Kubectl, found: list[Json], *arguments: str) -> Answer:
    text = yaml.safe_dump_all(found)
    return kubectl(*arguments, "apply", "--server-side", "--dry-run=server", "-f", "-", stdin=text)


def _values(name: str, namespaces: tuple[str, str]) -> Json:
    values = copy.deepcopy(VALUES[name])
    operator = values.get("operator", {})
    if "namespaces" in operator:
        operator["namespaces"] = list(namespaces)
    return values


@pytest.mark.parametrize("name", VALUES)
def test_every_object_is_taken(kubectl: Kubectl, namespaces: tuple[str, str], name: str) -> None:
    ended = template(_values(name, namespaces), namespace=namespaces[0])
    assert ended.returncode == 0, ended.stderr
    found = [obj for obj in objects(ended.stdout) if obj["kind"] not in _FOREIGN]
    # A pod is taken only where its ServiceAccount is.
    accounts = [obj for obj in found if obj["kind"] == "ServiceAccount"]
    kubectl("apply", "--server-side", "-f", "-", stdin=yaml.safe_dump_all(accounts), check=True)
    answer = _dry_run(kubectl, found)
    assert answer.returncode == 0, answer.stderr
    assert len(answer.stdout.splitlines()) == len(found)
    assert "would violate PodSecurity" not in answer.stderr
    assert "unknown field" not in answer.stderr


def test_the_chart_of_crds_is_taken(kubectl: Kubectl) -> None:
    answer = _dry_run(kubectl, objects(template({}, chart=CRDS_CHART).stdout), "--request-timeout=60s")
    # The CRDs may be there already, applied by somebody else.
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("[!v]*.yaml")), ids=lambda file: file.name)
def test_every_example_is_taken(kubectl: Kubectl, namespaces: tuple[str, str], file: object) -> None:
    answer = kubectl("-n", namespaces[0], "apply", "--server-side", "--dry-run=server", "-f", str(file))
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("[!v]*.yaml")), ids=lambda file: file.name)
def test_an_example_that_is_applied_twice_changes_nothing(
    kubectl: Kubectl, namespaces: tuple[str, str], file: object
) -> None:
    def apply() -> list[Json]:
        answer = kubectl(
            *("-n", namespaces[1], "apply", "--server-side", "-f", str(file), "-o", "yaml"), check=True
        )
        found: Json = yaml.safe_load(answer.stdout)
        return list(found.get("items", [found]))

    for first, again in zip(apply(), apply(), strict=True):
        assert again["spec"] == first["spec"]
        assert again["metadata"].get("generation") == first["metadata"].get("generation")


def test_the_checks_above_would_see_a_pod_that_is_not_restricted(
    kubectl: Kubectl, namespaces: tuple[str, str]
) -> None:
    found = objects(template({}, namespace=namespaces[0]).stdout)
    (operator,) = (obj for obj in found if obj["kind"] == "Deployment")
    del operator["spec"]["template"]["spec"]["securityContext"]
    assert "would violate PodSecurity" in _dry_run(kubectl, [operator]).stderr
