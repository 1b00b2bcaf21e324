"""`execute` and a server that is not there yet, or goes away: it says so, once, and waits."""

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import ExecutionStage
from buildgrid_scheduler.cli import connecting, execute, outage_watch, queue_watch
from google.longrunning.operations_proto_pb2 import Operation

from tests.farm.ports import ReservedPort
from tests.farm.waiting import eventually
from tests.integration.client.fake_farm import Abort, FakeFarm, done, serve, stage
from tests.integration.client.test_execute_subcommand import run_cli

QUEUED, EXECUTING = stage(ExecutionStage.QUEUED), stage(ExecutionStage.EXECUTING)
GONE = Abort(grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses; last error: it is gone")
WAITING = "execute: waiting for a bot"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said after some time of an action's waiting is said at once."""
    for module in (outage_watch, queue_watch):
        monkeypatch.setattr(module, "NOTICE_S", 0.0)


class Said:
    """The lines on standard error so far."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd
        self._text = ""

    def __call__(self) -> list[str]:
        self._text += self._capfd.readouterr().err
        return self._text.splitlines()


@pytest.fixture
def said(capfd: pytest.CaptureFixture[str]) -> Said:
    return Said(capfd)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("before", [QUEUED, EXECUTING])
async def test_a_server_that_goes_away_and_comes_back_is_told_once_each(
    farm: FakeFarm, endpoint: str, capfd: pytest.CaptureFixture[str], before: Operation
) -> None:
    farm.script = [[before, GONE], [GONE], [GONE], [GONE], [EXECUTING, done()]]
    assert await run_cli("--endpoint", endpoint, "--", "x") == 0
    told = [line for line in capfd.readouterr().err.splitlines() if WAITING not in line]
    assert told == [
        f"execute: {endpoint} does not answer (it is gone); the command is not lost, waiting for the server",
        f"execute: {endpoint} answers again",
    ]


async def test_a_replica_that_is_replaced_is_not_worth_a_word(
    farm: FakeFarm, endpoint: str, capfd: pytest.CaptureFixture[str]
) -> None:
    farm.script = [[EXECUTING, GONE], [GONE], [EXECUTING, done()]]
    assert await run_cli("--endpoint", endpoint, "--", "x") == 0
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("impatient")
async def test_nothing_is_said_of_bots_while_the_server_is_away(
    farm: FakeFarm, endpoint: str, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_watch, "NOTICE_S", 0.3)
    again, end = asyncio.Event(), asyncio.Event()
    farm.script = [[QUEUED, GONE], [GONE], [again, QUEUED, end, done()]]
    running = asyncio.ensure_future(run_cli("--endpoint", endpoint, "--", "x"))
    await eventually(lambda: any("does not answer" in line for line in said()), 30)
    # Longer than it would take to say that a bot is waited for.
    await asyncio.wait([running], timeout=1)
    assert not any(WAITING in line for line in said())
    again.set()
    await eventually(lambda: any(WAITING in line for line in said()), 30)
    end.set()
    assert await running == 0
    assert [line.startswith(WAITING) for line in said()] == [False, False, True]


@pytest.mark.usefixtures("impatient")
async def test_who_waits_for_a_bot_is_told_what_may_be_the_matter(
    farm: FakeFarm, endpoint: str, said: Said
) -> None:
    end = asyncio.Event()
    farm.script = [[QUEUED, end, done()]]
    running = asyncio.ensure_future(run_cli("--endpoint", endpoint, "--property", "Pool=a", "--", "x"))
    await eventually(lambda: bool(said()), 30)
    end.set()
    assert await running == 0
    assert said() == [
        "execute: waiting for a bot that offers Pool=a: all of them are busy, or there is none. "
        f"To start one: buildgrid-bot run --endpoint {endpoint} --property Pool=a"
    ]


async def test_a_server_that_starts_is_waited_for(
    farm: FakeFarm, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connecting, "NOTICE_S", 0.0)
    farm.script = [[done()]]
    with ReservedPort() as port:
        running = asyncio.ensure_future(run_cli("--endpoint", f"grpc://{port.address}", "--", "x"))
        await eventually(lambda: bool(said()), 30)
        server, _ = await serve(farm, port.number)
        assert await running == 0
        await server.stop(None)
    assert said() == [f"execute: no answer from grpc://{port.address} yet; waiting for it, for up to 30 s"]


async def test_a_server_that_is_not_ready_says_why_until_the_end(
    capfd: pytest.CaptureFixture[str],
) -> None:
    class NotReady(grpc.GenericRpcHandler):
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
            async def refuse(_request: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> None:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the database is away")

            return grpc.unary_unary_rpc_method_handler(refuse)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((NotReady(),))
    endpoint = f"grpc://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    flags = ["--endpoint", endpoint, "--connect-timeout", "1"]
    assert await run_cli(*flags, "--json", "--", "x") == execute.FARM_FAILED
    await server.stop(None)
    out, err = capfd.readouterr()
    assert f"no answer from {endpoint} in 1 s (the database is away)" in err
    assert json.loads(out)["error"]["message"] in err


async def test_a_server_that_accepts_and_says_nothing_is_given_up(capfd: pytest.CaptureFixture[str]) -> None:
    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await closing.wait()
        writer.close()

    closing = asyncio.Event()
    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    endpoint = f"grpc://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    assert await run_cli("--endpoint", endpoint, "--connect-timeout", "0.5", "--", "x") == execute.FARM_FAILED
    closing.set()
    server.close()
    assert f"no answer from {endpoint} in 0.5 s (Deadline Exceeded)" in capfd.readouterr().err
