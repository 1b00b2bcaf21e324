"""An operator, a Fleet service, and Schedulers in a namespace of each file's own."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import yaml
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.connection import connect
from buildgrid_operator.cluster.kinds import ObjectRef

from tests.cluster.conftest import ROOT, Kubectl
from tests.cluster.operator.fleet import PlayedFleet
from tests.cluster.operator.processes import Operator

Json = dict[str, Any]
Start = Callable[..., Operator]
Apply = Callable[..., ObjectRef]
MINIMAL = ROOT / "examples/kubernetes/scheduler-minimal.yaml"


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """With all rights."""
    with closing(connect(user_agent="buildgrid-operator/test")) as connection:
        yield Client(connection)


@pytest.fixture(scope="module")
def fleet(client: Client, namespace: str) -> Iterator[PlayedFleet]:
    """Of all Schedulers in the namespace."""
    with closing(PlayedFleet(client, namespace)) as played:
        yield played


@pytest.fixture(scope="module")
def start_operator(
    crds: None, namespace: str, fleet: PlayedFleet, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Start]:
    """Start an operator for the namespace, or for all."""
    folder = tmp_path_factory.mktemp("operators")
    started: list[Operator] = []

    def start(*flags: str, identity: str = "", everywhere: bool = False) -> Operator:
        log = folder / f"{len(started)}.log"
        endpoint = f"--scheduler-endpoint={fleet.endpoint}"
        operator = Operator(namespace, log, endpoint, *flags, identity=identity, everywhere=everywhere)
        started.append(operator)
        return started[-1]

    yield start
    for operator in started:
        operator.close()


@pytest.fixture(scope="module")
def operator(start_operator: Start) -> Operator:
    """One for all tests of the file."""
    return start_operator().leads()


@pytest.fixture(scope="module")
def apply(kubectl: Kubectl, namespace: str) -> Apply:
    """Apply the minimal example, or another object, as a user would; returns which it is."""

    def run(
        name: str = "main", *, kind: str = "Scheduler", annotations: Json | None = None, **spec: Any
    ) -> ObjectRef:
        obj: Json = yaml.safe_load(MINIMAL.read_text())
        if kind != "Scheduler":
            obj = {"apiVersion": obj["apiVersion"], "kind": kind, "spec": {}}
        obj["metadata"] = {"name": name, "namespace": namespace, "annotations": annotations or {}}
        obj["spec"] |= spec
        kubectl("apply", "-f", "-", stdin=yaml.safe_dump(obj), check=True)
        return ObjectRef.of(obj)

    return run
