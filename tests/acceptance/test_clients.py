"""Each client does the same: a cold build, a cached one, one that fails, and one that is given up."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import ExecuteResponse

from tests.acceptance.clients.bazel_client import BazelClient
from tests.acceptance.clients.buildstream import BuildStream
from tests.acceptance.clients.client import COMPLAINT, Client, Target, installed
from tests.acceptance.clients.pants import Pants
from tests.acceptance.conftest import HERE, bazel_overrides, bazel_program
from tests.acceptance.farm import Bot, Farm, Replica
from tests.acceptance.gate import Gate
from tests.farm.waiting import eventually_sync

pytestmark = [pytest.mark.xdist_group("bazel"), pytest.mark.timeout(180)]

CANCELLED = 1  # google.rpc.Code
SOON = 60.0


@dataclass(frozen=True)
class ClientsFarm:
    """A server with two instances: one for actions that need this machine's tools, one for whole systems."""

    replica: Replica
    bots: dict[str, Bot]

    def executed(self) -> list[str]:
        """The exit codes of all actions that were run so far."""
        return [code for bot in self.bots.values() for code in bot.executed()]

    def stopped(self) -> int:
        """How many actions were stopped so far."""
        return sum(bot.stopped() for bot in self.bots.values())


@pytest.fixture(scope="module")
def farm(folder: Path, gates: Path) -> Iterator[ClientsFarm]:
    instances = [BazelClient.instance, BuildStream.instance]
    with Farm(folder / "clients-farm", gates) as farm:
        replica = farm.replica(
            instances=instances,
            property_set={"wildcard_property_keys": ["unixUID", "unixGID", "network"]},
            # Bazel and Pants hang up without a word.
            scheduler={"abandoned_operation_timeout": 2},
        )
        systems = ["--instance", BuildStream.instance, "--root", "input"]
        yield ClientsFarm(
            replica,
            {
                "tools": farm.bot("tools", replica, slots=2),
                "systems": farm.bot("systems", replica, options=systems),
            },
        )


def _bazel(folder: Path, gate: Gate) -> Client:
    return BazelClient(bazel_program(), HERE / "workspace", folder, bazel_overrides(), gate)


def _bazel_2_1(folder: Path, gate: Gate) -> Client:
    program = installed("bazel-2.1.0", "install_bazel_2_1.sh") / "bazel"
    workspace = HERE / "workspace"
    return BazelClient(str(program), workspace, folder, bazel_overrides(), gate, server_goes_on=True)


def _buildstream(folder: Path, gate: Gate) -> Client:
    if shutil.which("bwrap") is None:
        pytest.skip("a bot needs bubblewrap for BuildStream; install it (Debian: apt-get install bubblewrap)")
    return BuildStream(installed("buildstream-2.8.1", "install_buildstream.sh"), folder, gate)


def _pants(folder: Path, gate: Gate) -> Client:
    return Pants(installed("pants-2.17.1", "install_pants.sh"), folder, gate)


CLIENTS = {"bazel": _bazel, "bazel-2.1.0": _bazel_2_1, "buildstream": _buildstream, "pants": _pants}


@pytest.fixture(scope="module", params=CLIENTS)
def named(request: pytest.FixtureRequest, folder: Path, gates: Path) -> Iterator[tuple[Client, Gate]]:
    home = folder / f"client-{request.param}"
    home.mkdir()
    gate = Gate(gates / home.name)
    client = CLIENTS[request.param](home, gate)
    yield client, gate
    client.close()
    gate.close()


@pytest.fixture
def client(named: tuple[Client, Gate], farm: ClientsFarm) -> Iterator[Client]:
    client, _ = named
    yield client
    farm.replica.cancel_all(client.instance)  # what a test that failed left must not disturb the next one


@pytest.fixture
def gate(named: tuple[Client, Gate]) -> Gate:
    return named[1]


def test_a_cold_build_runs_on_the_farm_and_the_same_build_again_does_not(
    client: Client, farm: ClientsFarm
) -> None:
    before = len(farm.executed())
    cold = client.start(farm.replica.endpoint, Target.GOOD).result()
    assert cold.exit_code == 0, cold.output
    client.check_output()
    assert len(farm.executed()) > before, f"nothing was run on the farm:\n{cold.output}"

    client.forget()
    after = len(farm.executed())
    again = client.start(farm.replica.endpoint, Target.GOOD).result()

    assert again.exit_code == 0, again.output
    client.check_output()
    ran = len(farm.executed()) - after
    assert client.came_from_cache(again.output, ran), f"{ran} actions were run again:\n{again.output}"


@pytest.mark.parametrize("time", ["first", "second"])
def test_an_action_that_fails_is_told_with_what_it_said(client: Client, farm: ClientsFarm, time: str) -> None:
    client.start(farm.replica.endpoint, Target.GOOD).result()  # what a client looks at beforehand
    before = len(farm.executed())

    failed = client.start(farm.replica.endpoint, Target.FAILS).result()

    assert failed.exit_code > 0, failed.output
    assert COMPLAINT in failed.output
    if not (time == "second" and client.remembers_failures):
        assert len(farm.executed()) > before, f"nothing was run on the farm:\n{failed.output}"
    assert farm.replica.operations(client.instance) == []


def test_a_build_that_is_given_up_leaves_nothing_on_the_farm(
    client: Client, gate: Gate, farm: ClientsFarm
) -> None:
    replica, stopped = farm.replica, farm.stopped()
    run = client.start(replica.endpoint, Target.ENDLESS)
    gate.wait_for(1)
    (name,) = [operation.name for operation in replica.operations(client.instance)]

    run.interrupt()
    interrupted = run.result()
    client.hang_up()

    assert interrupted.exit_code != 0, interrupted.output
    eventually_sync(
        lambda: replica.operations(client.instance) == [] and farm.stopped() == stopped + 1,
        SOON,
        lambda: f"{replica.operations(client.instance)}\n{farm.stopped() - stopped} actions were stopped",
    )
    response = ExecuteResponse()
    assert replica.operation(name).response.Unpack(response)
    assert response.status.code == CANCELLED
