"""What the tests of the API share."""

import json

import pytest

from tests.cluster.api.objects import Json
from tests.cluster.conftest import Answer, Kubectl


@pytest.fixture(scope="module")
def apply(kubectl: Kubectl, namespace: str) -> Kubectl:
    """`kubectl apply` of an object, from outside."""

    def run(obj: Json, *arguments: str, check: bool = False) -> Answer:
        return kubectl("apply", "-n", namespace, "-f", "-", *arguments, stdin=json.dumps(obj), check=check)

    return run
