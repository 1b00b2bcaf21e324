"""`execute` on a real server: bounded waiting, and answers for programs."""

import asyncio
import json
from pathlib import Path

import grpc
import pytest
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import ActionResult

from tests.farm.bots import HELD, completed, failed
from tests.integration.cli.conftest import Cli, Farm


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def endpoint(farm: Farm) -> list[str]:
    return ["--endpoint", f"grpc://{farm.replica.endpoint}", "--instance", farm.instance]


async def test_waiting_for_a_bot_is_bounded_and_leaves_nothing_behind(farm: Farm, cli: Cli) -> None:
    flags = [*endpoint(farm), "--property", "Pool=none", "--wait", "0.5", "--json"]
    code, out, err = await asyncio.to_thread(cli, "execute", *flags, "--", "true", instance=None)
    assert code == 125
    told = json.loads(out)
    assert told["exit_code"] == 125
    assert "no bot has taken it within --wait 0.5; it is cancelled" in told["error"]["message"]
    assert "buildgrid-bot run --endpoint" in err and "--property Pool=none" in err
    assert await farm.client.unfinished() == []


async def test_a_bot_that_comes_in_time_is_not_bounded(farm: Farm, cli: Cli) -> None:
    flags = [*endpoint(farm), "--wait", "30"]
    running = asyncio.ensure_future(asyncio.to_thread(cli, "execute", *flags, "--", "true", instance=None))
    bot = farm.bot("bot")
    leases = await bot.open(timeout=HELD) or await bot.update(timeout=HELD)
    await bot.update(completed(leases[0], ActionResult(exit_code=3)))
    assert (await running)[0] == 3


async def test_an_output_that_is_missing_fails_a_command_that_succeeded(farm: Farm, cli: Cli) -> None:
    flags = [*endpoint(farm), "--output", "made", "--json"]
    running = asyncio.ensure_future(asyncio.to_thread(cli, "execute", *flags, "--", "true", instance=None))
    bot = farm.bot("bot")
    leases = await bot.open(timeout=HELD) or await bot.update(timeout=HELD)
    await bot.update(completed(leases[0], ActionResult(stdout_raw=b"hi")))
    code, out, err = await running
    assert code == 1
    told = json.loads(out)
    assert (told["exit_code"], told["command_exit_code"], told["missing_outputs"]) == (1, 0, ["made"])
    assert told["error"] == {"message": "--output made: the command did not make it", "status": None}
    assert "--output made: the command did not make it" in err


async def test_a_failure_of_the_farm_is_json_too(farm: Farm, cli: Cli) -> None:
    flags = [*endpoint(farm), "--json"]
    running = asyncio.ensure_future(asyncio.to_thread(cli, "execute", *flags, "--", "true", instance=None))
    bot = farm.bot("bot")
    leases = await bot.open(timeout=HELD) or await bot.update(timeout=HELD)
    await bot.update(failed(leases[0], grpc.StatusCode.PERMISSION_DENIED, "not here"))
    code, out, _ = await running
    assert code == 125
    error = json.loads(out)["error"]
    assert (error["status"], "not here" in error["message"]) == ("PERMISSION_DENIED", True)
