"""A bot that may use so much of the disk and no more: what it tells the server, and when it leaves."""

import asyncio
import os
import sys
from pathlib import Path

import pytest
from buildgrid_bot.disk import DiskWatch
from buildgrid_bot.sandbox import Sandbox
from buildgrid_protos.google.devtools.remoteworkers.v1test2 import bots_pb2

from tests.integration.bot.conftest import Bot, StartBot
from tests.integration.bot.fake_farm import FakeFarm, result_of

MB = 1 << 20
WATCHFUL = """
import functools, sys
from buildgrid_bot import cli
cli.DiskWatch = functools.partial(cli.DiskWatch, look_every=0.1)
sys.exit(cli.main(sys.argv[1:]))
"""


def watch(bot: Bot, temporary: Path) -> asyncio.Task[None]:
    temporary.mkdir()
    made = DiskWatch(
        10 * MB,
        bot.cache,
        bot.cache_dir / "work",
        temporary,
        running=lambda: bot.session.running,
        take_work=bot.session.take_work,
        look_every=0.05,
    )
    return asyncio.create_task(made.run())


async def test_while_an_action_fills_the_disk_no_other_is_taken(
    farm: FakeFarm, start_bot: StartBot, tmp_path: Path
) -> None:
    bot = await start_bot(slots=2, sandbox=Sandbox())
    task = watch(bot, tmp_path / "temporary")
    filling = f"head -c {9 * MB} /dev/urandom > big; while ! test -e {tmp_path}/go; do sleep 0.02; done"
    first = await farm.submit(farm.shell(filling))
    await farm.active(first)
    await farm.until(lambda: farm.bots.updates[-1].status == bots_pb2.UNHEALTHY)

    second = await farm.submit(farm.shell("echo second"))
    told = len(farm.bots.updates)
    await farm.until(lambda: len(farm.bots.updates) >= told + 3)
    assert not second.sent and first.done is None
    (tmp_path / "go").touch()

    assert result_of(await farm.finished(first)).exit_code == 0
    assert result_of(await farm.finished(second)).stdout_raw == b"second\n"
    assert farm.bots.updates[-1].status == bots_pb2.OK
    assert farm.bots.sessions == 1 and not task.done()
    task.cancel()


async def test_a_bot_that_leaves_goes_on_leaving_when_there_is_room_again(
    farm: FakeFarm, start_bot: StartBot
) -> None:
    bot = await start_bot()
    await farm.until(lambda: farm.bots.held == 1)
    bot.session.terminate()
    bot.session.take_work(True)
    await asyncio.wait_for(bot.task, 20)
    assert farm.bots.updates[-1].status == bots_pb2.BOT_TERMINATING


@pytest.mark.parametrize(("left", "code"), [(9 * MB, 1), (0, 0)], ids=["full", "empty"])
async def test_leftovers_that_fill_the_disk_end_the_bot(
    farm: FakeFarm, tmp_path: Path, left: int, code: int
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    (temporary / "left").write_bytes(os.urandom(left))
    bot = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", WATCHFUL, "run", "--endpoint", farm.endpoint, "--sandbox", "none"),
        *("--cache-dir", str(tmp_path / "cache")),
        env={**os.environ, "TMPDIR": str(temporary), "BUILDGRID_BOT_DISK_BYTES": str(10 * MB)},
        stderr=asyncio.subprocess.PIPE,
    )
    if not left:
        await farm.until(lambda: farm.bots.held == 1)
        bot.terminate()

    _, log = await asyncio.wait_for(bot.communicate(), 60)

    assert bot.returncode == code, log.decode()
    assert (f"what is left is in {temporary}: leaving" in log.decode()) is bool(left)
    assert f"cache {7 * MB} bytes" in log.decode()
    assert "Traceback" not in log.decode()
