"""The bot as a process of its own: from the command line to SIGTERM."""

import asyncio
import signal
import sys
from asyncio.subprocess import Process
from pathlib import Path

import grpc
from buildgrid_protos.google.devtools.remoteworkers.v1test2 import bots_pb2

from tests.integration.bot.fake_farm import FakeFarm, result_of


async def launch(farm: FakeFarm, cache_dir: Path, *more: str) -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "buildgrid_bot", "run", "--endpoint", farm.endpoint),
        *("--cache-dir", str(cache_dir), "--bot-id", "mine", "--property", "Pool=test", *more),
        stderr=asyncio.subprocess.PIPE,
    )


async def test_sigterm_lets_running_actions_finish(farm: FakeFarm, tmp_path: Path) -> None:
    bot = await launch(farm, tmp_path / "cache", "--slots", "2", "--capacity-class", "spot")
    job = await farm.submit(farm.shell("sleep 0.4; echo finished"))
    await farm.active(job)

    bot.send_signal(signal.SIGTERM)
    lease = await farm.finished(job)
    _, log = await asyncio.wait_for(bot.communicate(), 20)

    assert bot.returncode == 0
    assert result_of(lease).stdout_raw == b"finished\n"
    session = farm.bots.updates[0]
    properties = {p.key: p.value for p in session.worker.devices[0].properties}
    assert session.bot_id == "mine"
    assert properties["Pool"] == "test" and properties["OSFamily"] == "linux" and properties["ISA"]
    assert ("capacity-class", "spot") in [(p.key, p.value) for p in session.worker.properties]
    assert [line for line in log.decode().splitlines() if "lease job-1 exit 0 status 0" in line]


async def test_a_second_sigterm_stops_them(farm: FakeFarm, tmp_path: Path) -> None:
    bot = await launch(farm, tmp_path / "cache")
    job = await farm.submit(farm.shell("trap 'exit 0' TERM; while :; do sleep 0.05; done"))
    await farm.active(job)

    bot.send_signal(signal.SIGTERM)
    await farm.until(lambda: farm.bots.updates[-1].status == bots_pb2.BOT_TERMINATING)
    bot.send_signal(signal.SIGTERM)
    await asyncio.wait_for(bot.communicate(), 20)

    assert bot.returncode == 128 + signal.SIGTERM
    assert job.done is None
    assert not list((tmp_path / "cache" / "work").iterdir())


IMPATIENT = """
import functools, sys
from buildgrid_bot import cli
cli.BotSession = functools.partial(cli.BotSession, refused_for=0.3)
sys.exit(cli.main(sys.argv[1:]))
"""


async def test_a_wrong_instance_ends_the_bot_with_the_reason_and_the_remedy(
    farm: FakeFarm, tmp_path: Path
) -> None:
    farm.bots.refusal = (grpc.StatusCode.INVALID_ARGUMENT, "instance_name 'typo' is not known here")
    bot = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", IMPATIENT, "run", "--endpoint", farm.endpoint, "--instance", "typo"),
        *("--cache-dir", str(tmp_path / "cache")),
        stderr=asyncio.subprocess.PIPE,
    )

    _, log = await asyncio.wait_for(bot.communicate(), 30)

    assert bot.returncode == 1
    said = [line for line in log.decode().splitlines() if "'typo' is not known" in line]
    assert "WARNING" in said[0] and "ERROR" in said[-1]
    assert all("check --instance" in line for line in said)
    assert "Traceback" not in log.decode()
