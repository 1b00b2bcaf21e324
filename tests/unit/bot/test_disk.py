"""What a bot makes of a disk that fills up: how much is counted, and what follows."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from buildgrid_bot.cache import FileCache
from buildgrid_bot.disk import DiskWatch, Step, cache_share, step, used_bytes
from buildgrid_client.digests import digest_of
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Digest

from tests.farm.waiting import eventually

KB = 1024
LIMIT = 1000 * KB


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[FileCache]:
    cache = FileCache(tmp_path / "cache", cache_share(LIMIT), link_from=KB)
    yield cache
    cache.close()


def fill(path: Path, kilobytes: int) -> Path:
    """A file that takes so much."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(kilobytes * KB))
    return path


def watch(cache: FileCache, tmp_path: Path, *, running: int = 1) -> tuple[DiskWatch, list[bool]]:
    said: list[bool] = []
    for name in ("work", "temporary"):
        (tmp_path / name).mkdir(exist_ok=True)
    made = DiskWatch(
        LIMIT,
        cache,
        tmp_path / "work",
        tmp_path / "temporary",
        running=lambda: running,
        take_work=said.append,
        look_every=0.01,
    )
    return made, said


def add(cache: FileCache, kilobytes: int) -> Digest:
    data = os.urandom(kilobytes * KB)
    cache.add_bytes(digest_of(data), False, data)
    return digest_of(data)


@pytest.mark.parametrize(
    ("percent", "holding", "idle", "expected"),
    [
        (84, False, True, Step.GO_ON),
        (85, False, True, Step.HOLD),
        (99, False, False, Step.HOLD),
        (84, True, False, Step.GO_ON),
        (80, True, True, Step.GO_ON),
        (79, True, False, Step.RESUME),
        (90, True, False, Step.GO_ON),
        (90, True, True, Step.LEAVE),
    ],
)
def test_what_follows_from_a_look(percent: int, holding: bool, idle: bool, expected: Step) -> None:
    assert step(percent * KB, 100 * KB, holding=holding, idle=idle) is expected


def test_the_cache_may_take_seventy_percent() -> None:
    assert cache_share(100 * KB) == 70 * KB


def test_files_are_counted_once_and_as_what_they_take(tmp_path: Path) -> None:
    big = fill(tmp_path / "a" / "b" / "big", 64)
    (tmp_path / "again").hardlink_to(big)
    (tmp_path / "link").symlink_to("/usr")
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(1 << 30)
    assert 64 * KB <= used_bytes(tmp_path) <= 80 * KB


def test_what_is_somebody_elses_is_not_counted(tmp_path: Path) -> None:
    linked = fill(tmp_path / "cache" / "file", 64)
    fill(tmp_path / "cache" / "deeper" / "file", 64)
    (tmp_path / "input").hardlink_to(linked)
    fill(tmp_path / "output", 8)
    inodes = frozenset({linked.stat().st_ino})
    assert 8 * KB <= used_bytes(tmp_path, besides=[tmp_path / "cache"], linked=inodes) < 32 * KB
    assert used_bytes(tmp_path, besides=[tmp_path / "cache"]) >= 72 * KB


def test_a_folder_that_is_gone_holds_nothing(tmp_path: Path) -> None:
    assert used_bytes(tmp_path / "none") == 0


def test_a_look_ends_when_the_bot_leaves(tmp_path: Path) -> None:
    for number in range(3):
        fill(tmp_path / str(number) / "file", 8)
    looks = iter([False, False, True])
    assert used_bytes(tmp_path, stopped=lambda: next(looks)) < used_bytes(tmp_path)


async def test_a_full_disk_is_said_until_actions_have_ended(cache: FileCache, tmp_path: Path) -> None:
    made, said = watch(cache, tmp_path)
    output = fill(tmp_path / "work" / "1" / "root" / "out", 900)
    task = asyncio.create_task(made.run())
    await eventually(lambda: said == [False], 30)
    output.unlink()
    await eventually(lambda: said == [False, True], 30)
    task.cancel()


async def test_cached_inputs_go_before_an_action_is_refused(cache: FileCache, tmp_path: Path) -> None:
    made, said = watch(cache, tmp_path)
    digests = [add(cache, 100) for _ in range(6)]
    fill(tmp_path / "work" / "out", 300)
    task = asyncio.create_task(made.run())
    await eventually(lambda: cache.size_bytes == 400 * KB, 30)
    task.cancel()
    assert said == []
    assert [cache.has(digest) for digest in digests] == [False] * 2 + [True] * 4


async def test_inputs_that_an_action_needs_stay_and_count_once(cache: FileCache, tmp_path: Path) -> None:
    made, said = watch(cache, tmp_path)
    digest = add(cache, 600)
    with cache.pinned([digest]):
        placement = cache.place(digest, False, tmp_path / "work" / "input")
        assert placement is not None
        assert used_bytes(tmp_path / "work", linked=cache.inodes()) == 0
        fill(tmp_path / "temporary" / "x", 300)
        task = asyncio.create_task(made.run())
        await eventually(lambda: said == [False], 30)
        assert cache.has(digest)
        assert cache.release([placement]) == []
    await eventually(lambda: said == [False, True], 30)
    task.cancel()
    assert not cache.has(digest)


async def test_what_stays_though_nothing_runs_ends_the_bot(
    cache: FileCache, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made, said = watch(cache, tmp_path, running=0)
    fill(tmp_path / "temporary" / "left", 900)
    await asyncio.wait_for(made.run(), 30)
    assert said == [False]
    assert f"what is left is in {tmp_path / 'temporary'}: leaving" in caplog.text
