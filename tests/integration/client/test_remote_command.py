"""A command with its inputs reaches the farm whole, and its outputs come back."""

from pathlib import Path

import grpc.aio
import pytest
from buildgrid_client.cas import CasClient
from buildgrid_client.digests import digest_key, digest_of
from buildgrid_client.execution import ExecutionClient
from buildgrid_client.execution_errors import ExecutionFailed
from buildgrid_client.remote_command import RemoteCommand, RemoteRunner, prepare_action
from buildgrid_client.tree import RemoteFile
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    ActionResult,
    ExecuteResponse,
)

from tests.integration.client.fake_farm import FakeFarm, done, missing_status


@pytest.fixture
def runner(channel: grpc.aio.Channel) -> RemoteRunner:
    return RemoteRunner(CasClient(channel), ExecutionClient(channel))


async def test_everything_the_action_needs_is_in_the_cas_before_it_is_executed(
    farm: FakeFarm, runner: RemoteRunner, tmp_path: Path
) -> None:
    (tmp_path / "a.c").write_bytes(b"int x;")
    command = RemoteCommand(["cc"], inputs={"src/a.c": tmp_path / "a.c", "src/a.h": b"#define A"})
    prepared = prepare_action(command)
    at_execute: set[str] = set()
    farm.on_execute = lambda: at_execute.update(farm.blobs)
    farm.script = [[done()]]
    await runner.run(command)
    needed = {*prepared.messages, *prepared.tree.blobs, *prepared.tree.files}
    assert at_execute == needed


async def test_what_the_command_said_and_made_comes_back(
    farm: FakeFarm, runner: RemoteRunner, tmp_path: Path
) -> None:
    result = ActionResult(exit_code=2, stdout_raw=b"inline", stderr_digest=farm.store(b"by digest"))
    result.output_files.add(path="out/a.o", digest=farm.store(b"object"))
    result.execution_metadata.worker = "bot-1"
    farm.script = [[done(ExecuteResponse(result=result, cached_result=True, message="look there"))]]
    answer = await runner.run(RemoteCommand(["cc"], output_paths=["out/a.o"]))
    assert (answer.exit_code, answer.stdout, answer.stderr) == (2, b"inline", b"by digest")
    assert (answer.cached, answer.message, answer.metadata.worker) == (True, "look there", "bot-1")
    assert answer.output_file("out/a.o") == RemoteFile(digest_of(b"object"))
    assert await runner.write_outputs(answer, tmp_path) == [tmp_path / "out/a.o"]
    assert (tmp_path / "out/a.o").read_bytes() == b"object"


async def test_blobs_evicted_before_use_are_uploaded_again(farm: FakeFarm, runner: RemoteRunner) -> None:
    command = RemoteCommand(["cc"], inputs={"a.c": b"int x;"})
    key = digest_key(digest_of(b"int x;"))
    farm.script = [[done(ExecuteResponse(status=missing_status(key)))], [done()]]

    def evict_once() -> None:
        del farm.blobs[key]
        farm.on_execute = lambda: None

    farm.on_execute = evict_once
    await runner.run(command)
    assert farm.methods == ["Execute", "Execute"]
    assert farm.blobs[key] == b"int x;"


async def test_blobs_that_nobody_here_holds_are_not_waited_for(farm: FakeFarm, runner: RemoteRunner) -> None:
    farm.script = [[done(ExecuteResponse(status=missing_status("ab/1")))]]
    with pytest.raises(ExecutionFailed, match="ab/1"):
        await runner.run(RemoteCommand(["cc"]))


async def test_a_server_that_never_finds_what_was_uploaded_is_given_up(
    farm: FakeFarm, runner: RemoteRunner
) -> None:
    key = digest_key(digest_of(b"int x;"))
    farm.script = [[done(ExecuteResponse(status=missing_status(key)))] for _ in range(3)]
    with pytest.raises(ExecutionFailed, match="inputs are missing"):
        await runner.run(RemoteCommand(["cc"], inputs={"a.c": b"int x;"}))
    assert farm.methods == ["Execute"] * 3


async def test_inputs_from_earlier_actions_that_are_gone_are_named_before_anything_runs(
    farm: FakeFarm, runner: RemoteRunner
) -> None:
    gone = RemoteFile(digest_of(b"object"))
    with pytest.raises(ExecutionFailed, match="are gone from the CAS; run those actions again") as caught:
        await runner.run(RemoteCommand(["ld"], inputs={"a.o": gone}))
    assert caught.value.missing == (digest_key(gone.digest),)
    assert farm.calls == []
