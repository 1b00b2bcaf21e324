"""The CRDs are deleted under an operator: that ends, and it works again when they are back."""

from collections.abc import Iterator

import pytest
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.kinds import DEPLOYMENT, SERVICE

from tests.cluster.conftest import ROOT, Kubectl
from tests.cluster.operator.conftest import Apply, Start
from tests.cluster.operator.control_plane import told
from tests.cluster.operator.fleet import PlayedFleet
from tests.cluster.operator.processes import becomes, eventually

pytestmark = [pytest.mark.alone, pytest.mark.timeout(400)]
CRDS = ("schedulers.buildgrid.build", "propertysets.buildgrid.build", "botfleets.buildgrid.build")
FOLDER = str(ROOT / "crds")


def _install(kubectl: Kubectl) -> None:
    kubectl("apply", "--server-side", "--force-conflicts", "-f", FOLDER, check=True)
    kubectl("wait", "--for=condition=Established", "--timeout=60s", "-f", FOLDER, check=True, timeout=90)


@pytest.fixture(autouse=True)
def installed_again(kubectl: Kubectl) -> Iterator[None]:
    """The other files need them."""
    told("DISPOSABLE")
    yield
    _install(kubectl)


def _delete(kubectl: Kubectl) -> None:
    """Within two minutes, whatever waits."""
    kubectl("delete", "crd", *CRDS, "--timeout=115s", check=True, timeout=130)


def _is_collected(client: Client, namespace: str, name: str) -> None:
    eventually(
        lambda: client.find(DEPLOYMENT, namespace, f"{name}-scheduler") is None,
        f"garbage collection of {name}",
        timeout=110,
    )


def test_all_schedulers_go_although_jobs_wait_and_the_operator_goes_on(
    client: Client,
    kubectl: Kubectl,
    namespace: str,
    apply: Apply,
    start_operator: Start,
    fleet: PlayedFleet,
) -> None:
    operator = start_operator(identity="pod-0").leads()
    apply("usual", kind="PropertySet", dynamic={"matchKeys": ["OSFamily"]})
    drains = apply("drains", deletion={"drain": True}, propertySetRef={"name": "usual"})
    plain = apply("plain")
    for each in (drains, plain):
        becomes(client, each, "ConfigApplied", "True")
    # Garbage collection learns of a new kind within half a minute, and only then of what goes with its CRD.
    canary = apply("canary")
    becomes(client, canary, "ConfigApplied", "True")
    kubectl("-n", namespace, "delete", "scheduler", "canary", check=True)
    _is_collected(client, namespace, "canary")
    fleet.waiting((2, {}), executing=1)
    _delete(kubectl)
    for name in ("drains", "plain"):
        _is_collected(client, namespace, name)
    eventually(lambda: "cannot watch the cluster yet" in operator.log, "it says what it waits for")
    fleet.waiting()
    _install(kubectl)
    again = apply("plain")
    becomes(client, again, "ConfigApplied", "True")
    # It watches as before.
    kubectl("-n", namespace, "delete", "service", "plain-admin", check=True)
    eventually(lambda: client.find(SERVICE, namespace, "plain-admin"), "it is made again")
    assert operator.stop() == 0


def test_with_the_operator_down_it_ends_when_one_is_there_again(
    client: Client, kubectl: Kubectl, apply: Apply, start_operator: Start, fleet: PlayedFleet
) -> None:
    first = start_operator(identity="pod-0").leads()
    ref = apply("left-alone", deletion={"drain": True})
    becomes(client, ref, "ConfigApplied", "True")
    fleet.waiting((2, {}))
    first.kill()
    kubectl("delete", "crd", *CRDS, "--wait=false", check=True)
    second = start_operator(identity="pod-0").leads()
    kubectl(
        "wait", "--for=delete", "--timeout=110s", *(f"crd/{name}" for name in CRDS), check=True, timeout=130
    )
    fleet.waiting()
    assert second.stop() == 0
