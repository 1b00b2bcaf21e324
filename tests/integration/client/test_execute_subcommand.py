"""`buildgrid-scheduler execute` behaves like the command it runs, and says what to do where it cannot."""

import argparse
import asyncio
import json
from pathlib import Path

import grpc
import pytest
from buildgrid_client.digests import digest_key
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    Action,
    ActionResult,
    Command,
    Directory,
    ExecuteRequest,
    ExecuteResponse,
)
from buildgrid_scheduler.cli import execute
from google.rpc.status_pb2 import Status

from tests.integration.client.fake_farm import Abort, FakeFarm, done


async def run_cli(*arguments: str) -> int:
    """Parse and run as the program does, in a thread: it has an event loop of its own."""
    parser = argparse.ArgumentParser()
    execute.add_parser(parser.add_subparsers(required=True))
    args = parser.parse_args(["execute", *arguments])
    code: int = await asyncio.to_thread(args.run, args)
    return code


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


async def test_output_exit_code_and_files_are_those_of_the_command(
    farm: FakeFarm, endpoint: str, folder: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    result = ActionResult(exit_code=7, stdout_raw=b"to out\xff", stderr_raw=b"to err")
    result.output_files.add(path="out/a", digest=farm.store(b"made"))
    farm.script = [[done(ExecuteResponse(result=result))]]
    assert await run_cli("--endpoint", endpoint, "--output", "out/a", "--", "make", "-j2", "--", "x") == 7
    assert capfdbinary.readouterr() == (b"to out\xff", b"to err")
    assert (folder / "out/a").read_bytes() == b"made"


async def test_flags_become_the_action(farm: FakeFarm, endpoint: str, folder: Path) -> None:
    (folder / "src").mkdir()
    (folder / "src/a.c").write_bytes(b"int x;")
    farm.script = [[done()]]
    flags = ["--property", "Pool=a", "--env", "X=1=2", "--timeout", "2.5", "--no-cache", "--input", "./src"]
    assert await run_cli("--endpoint", endpoint, *flags, "--", "cc", "-c", "src/a.c") == 0
    request = farm.calls[0].request
    assert isinstance(request, ExecuteRequest)
    action = Action.FromString(farm.blobs[digest_key(request.action_digest)])
    command = Command.FromString(farm.blobs[digest_key(action.command_digest)])
    root = Directory.FromString(farm.blobs[digest_key(action.input_root_digest)])
    assert list(command.arguments) == ["cc", "-c", "src/a.c"]
    assert [(pair.name, pair.value) for pair in action.platform.properties] == [("Pool", "a")]
    assert [(pair.name, pair.value) for pair in command.environment_variables] == [("X", "1=2")]
    assert (action.timeout.ToMilliseconds(), action.do_not_cache) == (2500, True)
    assert [node.name for node in root.directories] == ["src"]


async def test_json_is_for_programs(farm: FakeFarm, endpoint: str, capfd: pytest.CaptureFixture[str]) -> None:
    result = ActionResult(exit_code=1, stdout_raw=b"hi")
    result.execution_metadata.worker = "bot-1"
    farm.script = [[done(ExecuteResponse(result=result, cached_result=True))]]
    assert await run_cli("--endpoint", endpoint, "--json", "--", "x") == 1
    told = json.loads(capfd.readouterr().out)
    assert (told["exit_code"], told["stdout"], told["cached"], told["worker"]) == (1, "hi", True, "bot-1")


async def test_an_output_that_was_not_made_is_named(
    farm: FakeFarm, endpoint: str, capfd: pytest.CaptureFixture[str]
) -> None:
    farm.script = [[done()]]
    assert await run_cli("--endpoint", endpoint, "--output", "out", "--", "x") == execute.OUTPUT_MISSING
    assert "--output out: the command did not make it" in capfd.readouterr().err


async def test_a_command_that_ran_into_its_timeout_shows_what_it_said(
    farm: FakeFarm, endpoint: str, capfd: pytest.CaptureFixture[str]
) -> None:
    status = Status(code=4, message="killed after 2 s")
    farm.script = [[done(ExecuteResponse(result=ActionResult(stdout_raw=b"half"), status=status))]]
    assert await run_cli("--endpoint", endpoint, "--timeout", "2", "--", "x") == execute.FARM_FAILED
    out, err = capfd.readouterr()
    assert out == "half"
    assert "killed after 2 s; give it more with --timeout" in err


async def test_a_property_that_no_bot_offers_is_blamed_on_its_flag(
    farm: FakeFarm, endpoint: str, capfd: pytest.CaptureFixture[str]
) -> None:
    farm.script = [[Abort(grpc.StatusCode.FAILED_PRECONDITION, "no property 'Pol'")]]
    assert await run_cli("--endpoint", endpoint, "--property", "Pol=a", "--", "x") == execute.FARM_FAILED
    assert "no property 'Pol'; check --property" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("instance", "words"),
    [("storage", "only stores"), ("unknown", "refuses --instance 'unknown': NOT_FOUND: no such instance")],
)
async def test_a_server_that_cannot_execute_is_found_out_at_once(
    endpoint: str, instance: str, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert await run_cli("--endpoint", endpoint, "--instance", instance, "--", "x") == execute.FARM_FAILED
    assert words in capfd.readouterr().err


async def test_a_server_that_is_not_there_is_found_out_in_seconds(
    capfd: pytest.CaptureFixture[str],
) -> None:
    flags = ["--endpoint", "grpc://127.0.0.1:1", "--connect-timeout", "0.5"]
    assert await run_cli(*flags, "--", "x") == execute.FARM_FAILED
    assert "in 0.5 s (nothing listens there" in (error := capfd.readouterr().err)
    assert "start a server there (buildgrid-scheduler serve), or name another with --endpoint" in error


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--endpoint", "localhost:1"], "--endpoint: endpoint 'localhost:1' is not grpc://HOST:PORT"),
        (["--input", "none"], "--input none: there is no such file"),
        (["--input", ".."], "run this in a folder above all inputs"),
        (["--output", "/etc/x"], "outputs go below the current folder"),
    ],
)
async def test_flags_that_cannot_work_are_named_with_the_remedy(
    flags: list[str], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert await run_cli(*flags, "--", "x") == execute.FARM_FAILED
    assert words in capfd.readouterr().err
