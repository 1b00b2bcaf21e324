"""Fleets in External mode on a real API server: KEDA is answered, and what its HPA writes is done."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import grpc
import pytest
from buildgrid_operator.cluster.client import Client
from buildgrid_protos.externalscaler.externalscaler_pb2 import GetMetricsRequest, ScaledObjectRef
from buildgrid_protos.externalscaler.externalscaler_pb2_grpc import ExternalScalerStub
from google.rpc.code_pb2 import OK

from tests.cluster.conftest import Kubectl
from tests.cluster.operator.conftest import Apply
from tests.cluster.operator.farm_fixtures import Make, farm, make
from tests.cluster.operator.played_farm import PlayedFarm
from tests.cluster.operator.processes import WAIT, Operator, becomes, eventually
from tests.farm.ports import ReservedPort

__all__ = ["farm", "make"]
NEEDED = r'^buildgrid_operator_fleet_needed_bots\{.*name="linux"'


@pytest.fixture(scope="module")
def port() -> Iterator[ReservedPort]:
    with ReservedPort() as reserved:
        yield reserved


@pytest.fixture(scope="module")
def start(
    farm: PlayedFarm, namespace: str, port: ReservedPort, tmp_path_factory: pytest.TempPathFactory
) -> Iterator["Start"]:
    started = Start(farm, namespace, port, tmp_path_factory.mktemp("operators"))
    with closing(started):
        yield started


class Start:
    """Starts operators that all would listen at one port."""

    def __init__(self, farm: PlayedFarm, namespace: str, port: ReservedPort, folder: Path) -> None:
        self._farm, self._namespace, self._port, self._folder = farm, namespace, port, folder
        self._started: list[Operator] = []

    def __call__(self) -> Operator:
        flags = (
            f"--scheduler-endpoint=grpc://{self._farm.replica.endpoint}",
            "--bot-image=example.org/buildgrid/bot:1",
            f"--external-scaler-listen={self._port.address}",
        )
        log = self._folder / f"{len(self._started)}.log"
        self._started.append(Operator(self._namespace, log, *flags, identity=f"op-{len(self._started)}"))
        return self._started[-1]

    def close(self) -> None:
        for operator in self._started:
            operator.close()


@pytest.fixture(scope="module")
def operator(start: Start, apply: Apply, client: Client) -> Operator:
    operator = start().leads()
    becomes(client, apply(), "Ready", "True", "Serving")
    return operator


@pytest.fixture
def keda(port: ReservedPort) -> Iterator[ExternalScalerStub]:
    """The client that KEDA is."""
    with grpc.insecure_channel(port.address) as channel:
        yield ExternalScalerStub(channel)


def about(namespace: str, fleet: str = "linux") -> ScaledObjectRef:
    return ScaledObjectRef(name="builds", namespace=namespace, scalerMetadata={"fleet": fleet})


def code(error: grpc.RpcError) -> grpc.StatusCode:
    found = error.code()  # each that is raised is a grpc.Call, too
    assert isinstance(found, grpc.StatusCode)
    return found


def value(keda: ExternalScalerStub, namespace: str) -> int | grpc.StatusCode:
    request = GetMetricsRequest(scaledObjectRef=about(namespace), metricName="buildgrid-bots")
    try:
        (only,) = keda.GetMetrics(request, timeout=WAIT).metricValues
    except grpc.RpcError as error:
        return code(error)
    assert only.metricName == "buildgrid-bots"
    assert only.metricValue == only.metricValueFloat
    return int(only.metricValue)


def code_of(keda: ExternalScalerStub, ref: ScaledObjectRef) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as refused:
        keda.IsActive(ref, timeout=WAIT)
    return code(refused.value)


def test_keda_is_answered_and_what_its_hpa_writes_lets_no_action_end(
    client: Client,
    kubectl: Kubectl,
    namespace: str,
    operator: Operator,
    make: Make,
    farm: PlayedFarm,
    keda: ExternalScalerStub,
) -> None:
    def write(replicas: int) -> None:
        """As KEDA and its HPA do: to the scale subresource."""
        kubectl("-n", namespace, "scale", "bgf/linux", f"--replicas={replicas}", check=True)

    linux = make("linux", scaling={"mode": "External", "maxBots": 5}, replicas=0)
    becomes(client, linux, "Ready", "True")
    ref = about(namespace)
    eventually(lambda: value(keda, namespace) == 0, "nothing is needed")
    (spec,) = keda.GetMetricSpec(ref, timeout=WAIT).metricSpecs
    assert (spec.metricName, spec.targetSize, spec.targetSizeFloat) == ("buildgrid-bots", 1, 1.0)
    assert not keda.IsActive(ref, timeout=WAIT).result
    pushed = keda.StreamIsActive(ref, timeout=4 * WAIT)
    assert next(pushed).result is False

    # Work comes: it is pushed at once, and nothing is made before somebody writes it.
    farm.bots.seconds = 8.0
    answers = farm.execute(4)
    assert next(pushed).result is True
    eventually(lambda: value(keda, namespace) == 4, "a bot for each job")
    assert keda.IsActive(ref, timeout=WAIT).result
    assert operator.metric(NEEDED) == 4
    assert farm.pods("linux") == []
    assert farm.status("linux")["desiredBots"] == 0

    # KEDA writes 1, and the HPA what the metric says.
    write(1)
    farm.has("linux", 1)
    eventually(lambda: value(keda, namespace) == 4, "what was written does not change what is needed")
    write(4)
    eventually(lambda: len(farm.bots.busy) == 4, "four bots work")
    assert value(keda, namespace) == 4

    # An autoscaler that goes too far down: those that work stay until they are done.
    write(1)
    becomes(client, linux, "ScalingActive", "True", "Pinned")
    assert len(farm.pods("linux")) == 4
    assert all(answer.status.code == OK for answer in answers.result(120))
    farm.has("linux", 1)
    eventually(lambda: value(keda, namespace) == 0, "nothing is needed any more")
    assert next(pushed).result is False
    pushed.cancel()
    write(0)
    farm.has("linux", 0)
    assert farm.bots.killed == []


def test_a_fleet_that_decides_itself_is_not_pinned_by_mistake(
    client: Client, namespace: str, operator: Operator, make: Make, keda: ExternalScalerStub
) -> None:
    becomes(client, make("auto"), "Ready", "True")
    assert code_of(keda, about(namespace, "auto")) is grpc.StatusCode.FAILED_PRECONDITION
    assert code_of(keda, about(namespace, "none")) is grpc.StatusCode.NOT_FOUND
    assert code_of(keda, ScaledObjectRef(namespace=namespace)) is grpc.StatusCode.INVALID_ARGUMENT


def test_who_waits_for_the_lease_does_not_listen_and_answers_once_it_leads(
    client: Client,
    namespace: str,
    operator: Operator,
    start: Start,
    make: Make,
    port: ReservedPort,
) -> None:
    becomes(client, make("linux", scaling={"mode": "External"}, replicas=0), "Ready", "True")
    waiting = start()
    eventually(lambda: "served on port" in waiting.log, "it waits for the Lease")
    assert "KEDA is answered" not in waiting.log
    operator.kill()
    waiting.leads()
    with grpc.insecure_channel(port.address) as channel:
        keda = ExternalScalerStub(channel)
        eventually(lambda: value(keda, namespace) == 0, "the next one answers")


def test_nothing_is_told_while_the_scheduler_is_away(
    client: Client,
    namespace: str,
    make: Make,
    farm: PlayedFarm,
    keda: ExternalScalerStub,
    start: Start,
) -> None:
    becomes(client, make("linux", scaling={"mode": "External"}, replicas=0), "Ready", "True")
    eventually(lambda: value(keda, namespace) == 0, "the number is known")
    farm.replica.kill()
    eventually(lambda: value(keda, namespace) is grpc.StatusCode.UNAVAILABLE, "it is known no more")
    farm.replica.start()
    eventually(lambda: value(keda, namespace) == 0, "it is known again")
