"""What all tests against a real API server share: kubectl, the CRDs, a namespace for each file."""

import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_REMEDY = (
    "the tests in tests/cluster need a Kubernetes cluster that they may fill: set KUBECONFIG for one; "
    "`kind create cluster --kubeconfig FILE` and `k3d cluster create` make one on this machine"
)

Answer = subprocess.CompletedProcess[str]
Kubectl = Callable[..., Answer]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without a cluster there is nothing to test, and no test may seem to pass.

    What installs the chart for the whole cluster runs alone.
    """
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent / "images"):
            item.add_marker(pytest.mark.alone)
    here = Path(__file__).parent
    if any(item.path.is_relative_to(here) for item in items) and not os.environ.get("KUBECONFIG"):
        raise pytest.UsageError(_REMEDY)


@pytest.fixture(scope="session")
def kubectl() -> Kubectl:
    """Runs kubectl, as a user would: `kubectl("get", "pods", check=True)`, with `stdin` for `apply -f -`."""

    def run(*arguments: str, stdin: str = "", check: bool = False, timeout: float = 60) -> Answer:
        ended = subprocess.run(
            ["kubectl", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and ended.returncode:
            raise AssertionError(f"kubectl {' '.join(arguments)}: {ended.stderr}")
        return ended

    try:
        answer = run("version", "--request-timeout=10s")
    except FileNotFoundError:
        pytest.exit(
            "kubectl is not on PATH; install it: https://kubernetes.io/docs/tasks/tools/", returncode=2
        )
    if answer.returncode:
        pytest.exit(
            f"the cluster of KUBECONFIG does not answer: {answer.stderr.strip()}; {_REMEDY}", returncode=2
        )
    return run


@pytest.fixture(scope="session")
def crds(kubectl: Kubectl) -> None:
    """The CRDs are there as the models say, and served."""
    folder = str(ROOT / "crds")
    kubectl("apply", "--server-side", "--force-conflicts", "-f", folder, check=True)
    kubectl("wait", "--for=condition=Established", "--timeout=60s", "-f", folder, check=True, timeout=90)


@pytest.fixture(scope="module")
def namespace(kubectl: Kubectl) -> Iterator[str]:
    """A namespace for the tests of a file, removed after them."""
    name = f"test-{uuid.uuid4().hex[:10]}"
    kubectl("create", "namespace", name, check=True)
    yield name
    kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found", check=True)
