"""Helm itself: installed, upgraded without a change, scaled by hand, uninstalled. No pod needs to come up."""

import json
from collections.abc import Iterator

import pytest
from buildgrid_operator.api.crd import KINDS as CUSTOM_KINDS

from tests.cluster.charts.conftest import Helm
from tests.cluster.conftest import Answer, Kubectl
from tests.unit.charts.rendering import CHART, Json

pytestmark = [pytest.mark.usefixtures("crds"), pytest.mark.timeout(300)]

RELEASE = "try"
KINDS = (
    "deployments,statefulsets,services,serviceaccounts,secrets,roles,rolebindings,networkpolicies,jobs,"
    "schedulers.buildgrid.build,propertysets.buildgrid.build,botfleets.buildgrid.build"
)
# Nothing here depends on the cluster's nodes: neither images nor Jobs.
QUIETLY = ("--no-hooks", "--skip-crds")


@pytest.fixture
def home(kubectl: Kubectl, helm: Helm, namespaces: tuple[str, str]) -> Iterator[str]:
    """The namespace of a fresh installation with its defaults."""
    home = namespaces[0]
    _helm(helm, home, "install", str(CHART), *QUIETLY, check=True)
    yield home
    _helm(helm, home, "uninstall", "--no-hooks", "--ignore-not-found", check=True)
    kubectl("-n", home, "wait", "--for=delete", "--timeout=60s", KINDS, "-l", _ours(), timeout=90)


def _helm(helm: Helm, home: str, verb: str, *arguments: str, check: bool = False) -> Answer:
    where = ("--namespace", home)
    told: Json | None = {} if verb in ("install", "upgrade") else None
    return helm(verb, RELEASE, *arguments, *where, values=told, check=check)


def _ours() -> str:
    return f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/managed-by=Helm"


def _state(kubectl: Kubectl, home: str) -> dict[str, Json]:
    answer = kubectl("-n", home, "get", KINDS, "-l", _ours(), "-o", "json", check=True)
    return {
        f"{obj['kind']} {obj['metadata']['name']}": {
            name: obj.get(name) for name in ("spec", "data", "rules", "roleRef", "subjects")
        }
        | {"uid": obj["metadata"]["uid"], "generation": obj["metadata"].get("generation")}
        for obj in json.loads(answer.stdout)["items"]
    }


def test_an_upgrade_without_a_change_changes_nothing(kubectl: Kubectl, helm: Helm, home: str) -> None:
    installed = _state(kubectl, home)
    assert len(installed) > 10
    for _ in range(2):
        _helm(helm, home, "upgrade", str(CHART), *QUIETLY, check=True)
        assert _state(kubectl, home) == installed


def test_what_was_scaled_by_hand_stays_so_and_does_not_hinder_an_upgrade(
    kubectl: Kubectl, helm: Helm, home: str
) -> None:
    operator, bots = (
        f"deployment/{RELEASE}-buildgrid-operator",
        f"botfleets.buildgrid.build/{RELEASE}-buildgrid",
    )
    kubectl("-n", home, "scale", operator, "--replicas=2", check=True)
    kubectl("-n", home, "scale", bots, "--replicas=3", check=True)
    patch = json.dumps({"spec": {"replicas": 2}})
    scheduler = f"schedulers.buildgrid.build/{RELEASE}-buildgrid"
    kubectl("-n", home, "patch", scheduler, "--type=merge", "-p", patch, check=True)
    _helm(helm, home, "upgrade", str(CHART), *QUIETLY, "--set", "botFleet.spec.slotsPerBot=2", check=True)
    state = {name: obj["spec"].get("replicas") for name, obj in _state(kubectl, home).items() if obj["spec"]}
    assert state[f"Deployment {RELEASE}-buildgrid-operator"] == 2
    assert state[f"BotFleet {RELEASE}-buildgrid"] == 3
    assert state[f"Scheduler {RELEASE}-buildgrid"] == 2


def test_nothing_of_it_is_left_but_the_volume(kubectl: Kubectl, helm: Helm, home: str) -> None:
    _helm(helm, home, "uninstall", "--no-hooks", check=True)
    kubectl(
        *("-n", home, "wait", "--for=delete", "--timeout=60s", KINDS, "-l", _ours()), check=True, timeout=90
    )
    assert _state(kubectl, home) == {}
    cluster = kubectl(
        *("get", "clusterroles,clusterrolebindings", "-o", "name", "-l"),
        f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/part-of=buildgrid",
        check=True,
    )
    assert home not in cluster.stdout
    crds = kubectl("get", "crd", *(f"{kind.names.plural}.buildgrid.build" for kind in CUSTOM_KINDS))
    assert crds.returncode == 0
