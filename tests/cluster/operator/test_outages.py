"""The API server goes away for a while, and comes back."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.kinds import SERVICE

from tests.cluster.conftest import Kubectl
from tests.cluster.operator.conftest import Apply, Json, Start
from tests.cluster.operator.processes import becomes, eventually
from tests.cluster.operator.relay import Relay

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def relay(kubectl: Kubectl) -> Iterator[Relay]:
    """In front of the API server of KUBECONFIG."""
    config = json.loads(kubectl("config", "view", "--raw", "--minify", "-o", "json", check=True).stdout)
    with closing(Relay(config["clusters"][0]["cluster"]["server"])) as relay:
        yield relay


@pytest.fixture(scope="module")
def kubeconfig(kubectl: Kubectl, relay: Relay, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Through the relay, which has another name than the API server's certificate may say."""
    config: Json = json.loads(kubectl("config", "view", "--raw", "--minify", "-o", "json", check=True).stdout)
    cluster = config["clusters"][0]["cluster"]
    cluster["server"] = relay.url
    file: Path = tmp_path_factory.mktemp("kubeconfig") / "config"
    file.write_text(yaml.safe_dump(config))
    return file


def test_what_happens_during_an_outage_is_put_right_after_it(
    client: Client,
    kubectl: Kubectl,
    namespace: str,
    apply: Apply,
    start_operator: Start,
    relay: Relay,
    kubeconfig: Path,
) -> None:
    operator = start_operator(f"--kubeconfig={kubeconfig}", identity="pod-0").leads()
    ref = apply("through")
    gone = apply("gone")
    for each in (ref, gone):
        becomes(client, each, "ConfigApplied", "True")
    before = relay.accepted
    relay.cut()
    kubectl("-n", namespace, "delete", "service", "through-admin", check=True)
    kubectl("-n", namespace, "delete", "schedulers.buildgrid.build", "gone", check=True, timeout=90)
    kubectl("-n", namespace, "scale", "deployment", "through-scheduler", "--replicas=0", check=True)
    new = apply("new")
    relay.mend()
    eventually(lambda: relay.accepted > before, "it comes back")
    becomes(client, new, "ConfigApplied", "True")
    eventually(lambda: client.find(SERVICE, namespace, "through-admin"), "it is made again")
    becomes(client, ref, "Ready", "True", "Serving")
    # The same process, which led all the while.
    assert operator.stop() == 0
