"""examples/kubernetes: the API server takes each object that is there."""

from pathlib import Path

import pytest

from tests.cluster.conftest import ROOT, Kubectl

pytestmark = pytest.mark.usefixtures("crds")
_FILES = [
    file
    for file in sorted((ROOT / "examples/kubernetes").glob("*.yaml"))
    if not file.name.startswith("values-")
]


def test_there_are_examples_of_each_kind() -> None:
    assert {file.name.split("-")[0] for file in _FILES} == {"bot", "property", "scheduler"}


@pytest.mark.parametrize("file", _FILES, ids=lambda file: file.name)
def test_an_example_can_be_applied(file: Path, kubectl: Kubectl, namespace: str) -> None:
    kubectl("apply", "-n", namespace, "-f", str(file), "--dry-run=server", check=True)
    kubectl("apply", "-n", namespace, "-f", str(file), "--server-side", check=True)
