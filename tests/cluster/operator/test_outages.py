"""The API server goes away for a while, and comes back."""

import json
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import yaml
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.errors import ClusterError
from buildgrid_operator.cluster.kinds import CONFIG_MAP, SERVICE, ObjectRef

from tests.cluster.conftest import Kubectl
from tests.cluster.operator.conftest import Apply, Json, Start
from tests.cluster.operator.control_plane import ApiServer, Etcd
from tests.cluster.operator.processes import becomes, eventually
from tests.cluster.operator.relay import Relay

pytestmark = [pytest.mark.alone, pytest.mark.timeout(300)]


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


def test_what_was_compacted_away_before_it_came_back_is_put_right(
    client: Client,
    kubectl: Kubectl,
    namespace: str,
    apply: Apply,
    start_operator: Start,
    relay: Relay,
    kubeconfig: Path,
) -> None:
    """The API server cannot tell any more what happened, the deletions least of all."""
    server, etcd = ApiServer(), Etcd()
    operator = start_operator(f"--kubeconfig={kubeconfig}", identity="pod-1").leads()
    ref = apply("kept")
    gone = apply("forgotten")
    for each in (ref, gone):
        becomes(client, each, "ConfigApplied", "True")
    relay.cut()
    kubectl("-n", namespace, "delete", "service", "kept-admin", check=True)
    kubectl("-n", namespace, "delete", "schedulers.buildgrid.build", "forgotten", check=True, timeout=90)
    # What it has of the past in memory goes with it.
    server.stop()
    etcd.compact()
    server.start()
    relay.mend()
    # It may have been away for longer than a leader may: then the kubelet starts another one.
    operator = operator if operator.goes_on() else start_operator(identity="pod-1").leads()
    eventually(lambda: client.find(SERVICE, namespace, "kept-admin"), "it is made again")
    eventually(
        lambda: operator.metric(r'^buildgrid_operator_condition\{.*name="forgotten"') == 0,
        "it knows that a Scheduler is gone",
    )
    becomes(client, ref, "Ready", "True", "Serving")
    apply("kept", logging={"level": "Debug"})
    becomes(client, ref, "ConfigApplied", "True")
    assert operator.stop() == 0


@contextmanager
def _edited_again_and_again(client: Client, ref: ObjectRef) -> Iterator[None]:
    """From within the block on by somebody who does not mind when nobody answers."""
    end = threading.Event()

    def edit() -> None:
        number = 0
        while not end.wait(0.05):
            number += 1
            patch = {"spec": {"logging": {"level": "Debug" if number % 2 else "Info"}}}
            try:
                client.patch_merge(ref, patch)
            except ClusterError as error:
                assert error.transient, error

    thread = threading.Thread(target=edit)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def test_the_api_server_restarts_while_edits_happen(
    client: Client, namespace: str, apply: Apply, start_operator: Start
) -> None:
    server = ApiServer()
    operator = start_operator(identity="pod-2").leads()
    ref = apply("busy")
    becomes(client, ref, "ConfigApplied", "True")
    with _edited_again_and_again(client, ref):
        server.stop()
        server.start()
    operator = operator if operator.goes_on() else start_operator(identity="pod-2").leads()
    client.patch_merge(ref, {"spec": {"logging": {"level": "Warning"}}})
    becomes(client, ref, "ConfigApplied", "True")
    text = client.get(CONFIG_MAP, namespace, "busy-config")["data"]["scheduler.yaml"]
    assert "warning" in text.lower()
    operator.comes_to_rest(4)
    assert operator.stop() == 0
