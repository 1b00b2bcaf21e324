"""Helm, and namespaces that warn of pods that are not restricted."""

import json
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.cluster.conftest import Answer, Kubectl

Helm = Callable[..., Answer]


@pytest.fixture(scope="session")
def helm() -> Helm:
    """Runs helm with values: `helm("install", ..., values={...}, check=True)`."""
    if shutil.which("helm") is None:
        pytest.fail("helm is not on PATH; install it: https://helm.sh/docs/intro/install/")

    def run(*arguments: str, values: dict[str, Any] | None = None, check: bool = False) -> Answer:
        told = () if values is None else ("-f", "-")
        ended = subprocess.run(
            ["helm", *arguments, *told],
            input=json.dumps(values or {}),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if check and ended.returncode:
            raise AssertionError(f"helm {' '.join(arguments)}: {ended.stderr}")
        return ended

    return run


@pytest.fixture(scope="module")
def namespaces(kubectl: Kubectl) -> Iterator[tuple[str, str]]:
    """Where the release goes, and another one, both restricted; removed after the tests of a file."""
    names = (f"test-{uuid.uuid4().hex[:10]}", f"test-{uuid.uuid4().hex[:10]}")
    for name in names:
        kubectl("create", "namespace", name, check=True)
        security = [f"pod-security.kubernetes.io/{mode}=restricted" for mode in ("enforce", "warn")]
        kubectl("label", "namespace", name, *security, check=True)
    yield names
    kubectl("delete", "namespace", *names, "--wait=false", check=True)
