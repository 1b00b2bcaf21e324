"""A bot whose disk is full: its troubles are not the action's, and they pass."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from buildgrid_bot import cache
from buildgrid_bot.sandbox import Sandbox
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Action
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2 import Lease

from tests.farm.small_disk import small_disk
from tests.integration.bot.conftest import Bot, StartBot
from tests.integration.bot.fake_farm import FakeFarm, result_of

# One of the codes with which the scheduler tries a job again, on another bot if there is one.
UNAVAILABLE = 14
MB = 1 << 20


@pytest.fixture(params=["best", "none"])
def sandbox(request: pytest.FixtureRequest, best_sandbox: Sandbox) -> Sandbox:
    return best_sandbox if request.param == "best" else Sandbox()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """The bot's disk, of 8 MB: its cache and the directories of its actions are on it."""
    with small_disk(tmp_path / "cache", megabytes=8) as folder:
        yield folder


async def failure(farm: FakeFarm, action: Action) -> Lease:
    """The lease of an action that fails for the disk, once the bot has shown that it goes on."""
    lease = await farm.finished(await farm.submit(action))
    assert lease.status.code == UNAVAILABLE
    assert not lease.HasField("result")
    after = await farm.finished(
        await farm.submit(farm.shell("cat x; head -c 1000000 /dev/zero > y", files={"x": "x"}))
    )
    assert (after.status.code, after.status.message, result_of(after).exit_code) == (0, "", 0)
    return lease


def assert_clean(bot: Bot) -> None:
    assert list((bot.cache_dir / "work").iterdir()) == []
    assert [path.name for path in (bot.cache_dir / "files").iterdir() if path.is_file()] == []


@pytest.mark.parametrize("size", [200_000, 9 * MB], ids=["many small", "one large"])
async def test_inputs_for_which_there_is_no_room_make_the_action_be_tried_again(
    farm: FakeFarm, start_bot: StartBot, disk: Path, size: int
) -> None:
    bot = await start_bot()
    files: dict[str, bytes | str] = {f"{n}": os.urandom(size) for n in range(12 * MB // size)}

    lease = await failure(farm, farm.shell("true", files=files))

    assert os.strerror(errno.ENOSPC) in lease.status.message
    assert_clean(bot)


@pytest.mark.parametrize(
    "script",
    ["head -c 20000000 /dev/zero > out", "head -c 20000000 /dev/zero > out || true", "yes"],
    ids=["that fails", "that does not notice", "that writes to standard output"],
)
async def test_a_command_that_fills_the_disk_is_tried_again(
    farm: FakeFarm, start_bot: StartBot, disk: Path, sandbox: Sandbox, script: str
) -> None:
    bot = await start_bot(sandbox=sandbox)

    lease = await failure(farm, farm.shell(script, outputs=["out"]))

    assert "disk was full when the command ended" in lease.status.message
    assert_clean(bot)


async def test_a_cache_that_has_filled_the_disk_makes_room_for_the_next_action(
    farm: FakeFarm, start_bot: StartBot, disk: Path
) -> None:
    bot = await start_bot(cache_bytes=1 << 30)
    for _ in range(2):
        lease = await farm.finished(await farm.submit(farm.shell("true", files={"f": os.urandom(3 * MB)})))
        assert lease.status.code == 0
    assert bot.cache.size_bytes == 6 * MB

    action = farm.shell("wc -c < f", files={"f": os.urandom(3 * MB)})
    lease = await failure(farm, action)
    again = await farm.finished(await farm.submit(action))

    assert os.strerror(errno.ENOSPC) in lease.status.message
    assert result_of(again).stdout_raw.strip() == b"%d" % (3 * MB)
    assert_clean(bot)


async def test_a_simulated_full_disk_is_the_bots_trouble_too(
    farm: FakeFarm, start_bot: StartBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    bot = await start_bot()
    really_copy = cache.copy_file
    refusals = 1

    def copy_file(*args: Any) -> None:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        really_copy(*args)

    monkeypatch.setattr(cache, "copy_file", copy_file)
    await failure(farm, farm.shell("true", files={"f": "content"}))
    assert_clean(bot)
