"""A farm with an operator, and BotFleets that go after each test. Import the fixtures."""

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import yaml
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.kinds import ObjectRef

from tests.cluster.conftest import Kubectl
from tests.cluster.operator.conftest import Apply
from tests.cluster.operator.played_farm import PlayedFarm
from tests.cluster.operator.processes import Operator, becomes

Make = Callable[..., ObjectRef]
StartOperator = Callable[[], Operator]
QUICK = {"idleTimeout": "2s", "targetWait": "1s"}


@pytest.fixture(scope="module")
def farm(
    crds: None, client: Client, namespace: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PlayedFarm]:
    """Its scheduler, clients and bots."""
    with closing(PlayedFarm(client, namespace, tmp_path_factory.mktemp("farm"))) as played:
        yield played


@pytest.fixture(scope="module")
def start_fleet_operator(
    farm: PlayedFarm, namespace: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartOperator]:
    """Start an operator that finds the farm's scheduler."""
    folder, started = tmp_path_factory.mktemp("operators"), list[Operator]()

    def start() -> Operator:
        flags = (
            f"--scheduler-endpoint=grpc://{farm.replica.endpoint}",
            "--bot-image=example.org/buildgrid/bot:1",
        )
        started.append(Operator(namespace, folder / f"{len(started)}.log", *flags))
        return started[-1].leads()

    yield start
    for operator in started:
        operator.close()


@pytest.fixture(scope="module")
def operator(start_fleet_operator: StartOperator, apply: Apply, client: Client) -> Operator:
    """One for all tests of the file, with a Scheduler."""
    operator = start_fleet_operator()
    becomes(client, apply(), "Ready", "True", "Serving")
    return operator


@pytest.fixture
def make(
    operator: Operator, kubectl: Kubectl, client: Client, farm: PlayedFarm, namespace: str
) -> Iterator[Make]:
    """Apply a BotFleet; it goes after the test, with its pods."""
    made: list[ObjectRef] = []
    # How long a job takes is estimated by what it requires: each test has jobs of its own kind.
    properties = [{"key": "Pool", "value": farm.new_pool()}]

    def apply_fleet(name: str, *, scaling: dict[str, Any] | None = None, **spec: Any) -> ObjectRef:
        spec = {"schedulerRef": {"name": "main"}, "properties": properties, **spec}
        obj = {
            "apiVersion": "buildgrid.build/v1alpha1",
            "kind": "BotFleet",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"scaling": {**QUICK, **(scaling or {})}, **spec},
        }
        kubectl("apply", "-f", "-", stdin=yaml.safe_dump(obj), check=True)
        made.append(ObjectRef.of(obj))
        return made[-1]

    yield apply_fleet
    for ref in made:
        client.delete(ref)
        farm.has(ref.name, 0)
