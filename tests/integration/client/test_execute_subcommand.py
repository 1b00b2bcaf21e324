"""`buildgrid-scheduler execute` behaves like the command it runs, and says what to do where it cannot."""

import argparse
import asyncio
import json
from collections.abc import AsyncIterator
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

from tests.credentials.certificates import Authority
from tests.integration.client.fake_farm import Abort, FakeFarm, done, serve


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
    assert error.count("start ") == error.count("name another") == 1


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--endpoint", "localhost:1"], "--endpoint: endpoint 'localhost:1' is not grpc://HOST:PORT"),
        (["--cas-endpoint", "here"], "--cas-endpoint: endpoint 'here' is not grpc://HOST:PORT"),
        (["--token-file", "none"], "--token-file: none cannot be read"),
        (["--input", "none"], "--input none: there is no such file"),
        (["--input", ".."], "run this in a folder above all inputs"),
        (["--output", "/etc/x"], "outputs go below the current folder"),
    ],
)
async def test_flags_that_cannot_work_are_named_with_the_remedy(
    flags: list[str], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert await run_cli(*flags, "--", "x") == execute.WRONG_USAGE == 2
    assert words in capfd.readouterr().err
    assert await run_cli(*flags, "--json", "--", "x") == 2
    assert json.loads(capfd.readouterr().out)["exit_code"] == 2


@pytest.fixture
async def storage() -> AsyncIterator[tuple[FakeFarm, str]]:
    """Another server that stores, and its endpoint."""
    farm = FakeFarm()
    server, port = await serve(farm)
    yield farm, f"grpc://127.0.0.1:{port}"
    await server.stop(grace=None)


async def test_a_storage_of_its_own_has_a_flag_of_its_own(
    farm: FakeFarm,
    endpoint: str,
    storage: tuple[FakeFarm, str],
    folder: Path,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    stores, cas_endpoint = storage
    result = ActionResult(stdout_digest=stores.store(b"said"))
    result.output_files.add(path="out", digest=stores.store(b"made"))
    farm.script = [[done(ExecuteResponse(result=result))]]
    flags = ["--endpoint", endpoint, "--cas-endpoint", cas_endpoint, "--output", "out"]
    assert await run_cli(*flags, "--", "x") == 0
    assert capfdbinary.readouterr().out == b"said"
    assert (folder / "out").read_bytes() == b"made"
    assert len(stores.blobs) > 2 and not farm.blobs


async def test_a_scheduler_without_a_storage_asks_for_it(capfd: pytest.CaptureFixture[str]) -> None:
    server, port = await serve(FakeFarm(), stores=False)
    try:
        flags = ["--endpoint", f"grpc://127.0.0.1:{port}"]
        assert await run_cli(*flags, "--", "x") == execute.FARM_FAILED
        assert f"127.0.0.1:{port} has no CAS: " in (error := capfd.readouterr().err)
        assert "name that with --cas-endpoint grpc://HOST:PORT (its storage.endpoint)" in error
        same = ["--cas-endpoint", f"grpc://127.0.0.1:{port}"]
        assert await run_cli(*flags, *same, "--", "x") == execute.FARM_FAILED
    finally:
        await server.stop(grace=None)


async def test_a_storage_that_is_not_there_is_named_by_its_flag(
    endpoint: str, capfd: pytest.CaptureFixture[str]
) -> None:
    flags = ["--endpoint", endpoint, "--cas-endpoint", "grpc://127.0.0.1:1", "--connect-timeout", "0.5"]
    assert await run_cli(*flags, "--", "x") == execute.FARM_FAILED
    assert "no answer from grpc://127.0.0.1:1 in 0.5 s" in (error := capfd.readouterr().err)
    assert "name another with --cas-endpoint" in error


@pytest.mark.parametrize(
    ("instance", "words", "remedy"),
    [
        (
            "anonymous",
            "wants to know who calls: UNAUTHENTICATED: the call",
            "; say who calls with --token-file",
        ),
        (
            "denied",
            "does not let this caller in: PERMISSION_DENIED: jo",
            "; ask an administrator for the right",
        ),
        ("alien", "does not speak the Remote Execution API (name another with --endpoint)", ""),
    ],
)
async def test_a_refusal_of_the_caller_is_not_blamed_on_the_instance(
    endpoint: str, instance: str, words: str, remedy: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert await run_cli("--endpoint", endpoint, "--instance", instance, "--", "x") == execute.FARM_FAILED
    assert f"{endpoint} {words}" in (error := capfd.readouterr().err)
    assert remedy in error
    assert "--instance" not in error


async def test_a_token_that_is_not_taken_is_named(
    endpoint: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "token").write_text("abc")
    flags = ["--endpoint", endpoint, "--instance", "anonymous", "--token-file", "token"]
    assert await run_cli(*flags, "--", "x") == execute.FARM_FAILED
    assert "does not take the credentials: UNAUTHENTICATED" in (error := capfd.readouterr().err)
    assert "put a token that the server takes into --token-file token" in error


async def test_a_server_that_wants_a_certificate_is_not_told_to_be_started(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    authority, stranger = Authority(), Authority()
    ours = authority.server()
    (folder / "ca.pem").write_bytes(authority.pem)
    certificate, key = stranger.client("jo").write(folder)
    server = grpc.aio.server()
    pairs = [(ours.key, ours.certificate)]
    port = server.add_secure_port(
        "127.0.0.1:0", grpc.ssl_server_credentials(pairs, authority.pem, require_client_auth=True)
    )
    await server.start()
    try:
        flags = ["--endpoint", f"grpcs://127.0.0.1:{port}", "--tls-ca", "ca.pem", "--connect-timeout", "1"]
        assert await run_cli(*flags, "--", "x") == execute.FARM_FAILED
        error = capfd.readouterr().err
        assert "; perhaps it wants a certificate (--tls-certificate, --tls-key)" in error
        assert "start a server" not in error
        flags += ["--tls-certificate", str(certificate), "--tls-key", str(key)]
        assert await run_cli(*flags, "--", "x") == execute.FARM_FAILED
        error = capfd.readouterr().err
        assert f"perhaps it does not take --tls-certificate {certificate}: show one" in error
        assert "start a server" not in error
    finally:
        await server.stop(grace=None)
