"""The chart, installed with its defaults, and what builds on it."""

from collections.abc import Iterator

import pytest

from tests.cluster.conftest import Kubectl
from tests.cluster.images.building import Bazel, Gate
from tests.cluster.images.built import PROJECT, manifest, need, need_bazel
from tests.cluster.images.figures import Figure
from tests.cluster.images.installation import RELEASE, SCHEDULER, Installation


@pytest.fixture(scope="module")
def home(kubectl: Kubectl, namespace: str) -> Iterator[Installation]:
    """A namespace where nothing is installed yet."""
    need(*PROJECT)
    kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted", check=True)
    home = Installation(kubectl, namespace)
    yield home
    # An operator that looks after the whole cluster must not see the next file's Schedulers, and without one
    # a Scheduler that is to drain would stay.
    free = '{"spec": {"deletion": null}, "metadata": {"finalizers": null}}'
    kubectl("-n", namespace, "patch", SCHEDULER, RELEASE, "--type=merge", "-p", free)
    home.helm("uninstall", "--no-hooks", "--ignore-not-found", "--wait")


@pytest.fixture(scope="module")
def installation(home: Installation) -> Installation:
    """The release with its defaults, serving."""
    home.install()
    return home


@pytest.fixture(scope="module")
def lone_bazel(installation: Installation) -> Iterator[Bazel]:
    """A Bazel, and no bot."""
    need_bazel()
    bazel = Bazel(installation)
    bazel.set_up()
    yield bazel
    bazel.close()


@pytest.fixture(scope="module")
def bazel(installation: Installation, lone_bazel: Bazel) -> Bazel:
    """A Bazel, and a bot in the image with its compiler."""
    endpoints = installation.scheduler()["status"]["endpoints"]
    bot = manifest("toolchain.yaml", ENDPOINT=endpoints["bots"], CAS_ENDPOINT=endpoints["cas"])
    installation.run("apply", "-f", "-", stdin=bot)
    installation.wait_for_pod("toolchain")
    return lone_bazel


@pytest.fixture
def gate(installation: Installation, bazel: Bazel, request: pytest.FixtureRequest) -> Iterator[Gate]:
    """A gate of the test's own, and with it actions of its own."""
    gate = Gate(installation, request.node.name)
    yield gate
    gate.close()
    bazel.close()


@pytest.fixture
def figure(capsys: pytest.CaptureFixture[str]) -> Figure:
    """Prints a line, also when the test passes."""

    def tell(what: str, value: str) -> None:
        with capsys.disabled():
            print(f"\n  measured: {what}: {value}", flush=True)

    return tell
