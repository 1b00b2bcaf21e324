"""How much of its disk a bot uses, and what follows.

Kubernetes evicts a pod that writes more than its limit, with whatever it runs. The cache takes its share of
the limit and no more; what actions write is theirs. So the bot looks: from 85 % on it lets go of cached
inputs, and where that is not enough, it takes no more actions until some have ended and their files are gone.
What stays though nothing runs is somebody's left-over in the directory of temporary files: then the bot
leaves, so that another one begins with an empty disk.
"""

import asyncio
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from enum import Enum
from pathlib import Path

from buildgrid_bot.cache import FileCache
from buildgrid_bot.threads import in_thread

_log = logging.getLogger(__name__)

LOOK_EVERY = 5.0
"""seconds"""
_MOST_OF_THE_TIME = 20
"""Looking takes one part in so many of the time, however many files there are."""
_BLOCK = 512
"""of st_blocks, stat(2)"""


def cache_share(disk_bytes: int) -> int:
    """How much of it the cache may take: 70 %."""
    return disk_bytes * 70 // 100


class Step(Enum):
    """What follows from a look."""

    GO_ON = "go on"
    HOLD = "hold"
    """take no more actions"""
    RESUME = "resume"
    LEAVE = "leave"


def step(used: int, disk_bytes: int, *, holding: bool, idle: bool) -> Step:
    """Pure. `used` of `disk_bytes` is full; `idle`: nothing ran since before it was looked at."""
    if not holding:
        return Step.HOLD if used >= full_from(disk_bytes) else Step.GO_ON
    if used < disk_bytes * 80 // 100:
        return Step.RESUME
    return Step.LEAVE if idle and used >= full_from(disk_bytes) else Step.GO_ON


def full_from(disk_bytes: int) -> int:
    """From here on the disk is too full for another action: 85 %."""
    return disk_bytes * 85 // 100


class DiskWatch:
    """Looks again and again. `work` is where actions run, `temporary` where they leave what they like."""

    def __init__(
        self,
        disk_bytes: int,
        cache: FileCache,
        work: Path,
        temporary: Path,
        *,
        running: Callable[[], int],
        take_work: Callable[[bool], None],
        look_every: float = LOOK_EVERY,
    ) -> None:
        """`running`: how many actions the bot has. `take_work`: whether it may get more, from now on."""
        self._disk_bytes = disk_bytes
        self._cache = cache
        self._work = work
        self._temporary = temporary
        self._running = running
        self._take_work = take_work
        self._look_every = look_every
        self._holding = False
        self._stopped = False

    def stop(self) -> None:
        """Looks no longer, in the middle of a look, too, so that a cancelled `run` ends at once."""
        self._stopped = True

    async def run(self) -> None:
        """Returns when the bot should leave."""
        while True:
            idle = self._running() == 0
            began = time.monotonic()
            used = await in_thread(self._used)
            if used >= full_from(self._disk_bytes):
                await in_thread(self._cache.give_back, used - cache_share(self._disk_bytes))
                used = await in_thread(self._used)
            took = time.monotonic() - began
            if self._follow(step(used, self._disk_bytes, holding=self._holding, idle=idle), used):
                return
            await asyncio.sleep(max(self._look_every, _MOST_OF_THE_TIME * took))

    def _follow(self, what: Step, used: int) -> bool:
        """Whether the bot should leave."""
        if what is Step.GO_ON:
            return False
        told = f"{used} of {self._disk_bytes} bytes are used ({used * 100 // self._disk_bytes} %)"
        match what:
            case Step.HOLD:
                _log.warning("the disk is nearly full, no more actions are taken: %s", told)
            case Step.RESUME:
                _log.info("the disk has room again, actions are taken: %s", told)
            case Step.LEAVE:
                _log.error(
                    "the disk is nearly full though nothing runs: %s; what is left is in %s: leaving",
                    *(told, self._temporary),
                )
                return True
        self._holding = what is Step.HOLD
        self._take_work(not self._holding)
        return False

    def _used(self) -> int:
        def stopped() -> bool:
            return self._stopped

        linked = self._cache.inodes()
        of_work = used_bytes(self._work, linked=linked, stopped=stopped)
        besides = (self._cache.directory,)
        of_others = used_bytes(self._temporary, besides=besides, linked=linked, stopped=stopped)
        return self._cache.disk_bytes() + of_work + of_others


def used_bytes(
    folder: Path,
    *,
    besides: Sequence[Path] = (),
    linked: frozenset[int] = frozenset(),
    stopped: Callable[[], bool] = lambda: False,
) -> int:
    """How much of its file system all that is below a folder takes, each file counted once.

    `besides`: folders below that do not count. `linked`: inodes that are somebody else's. What goes away
    meanwhile, or may not be read, counts for nothing. Once it is `stopped` the answer is of no use.
    """
    apart = {os.fspath(path) for path in besides}
    seen: set[int] = set()
    total = 0
    for status in _all_below(os.fspath(folder), apart, stopped):
        if status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            if status.st_ino in linked or status.st_ino in seen:
                continue
            seen.add(status.st_ino)
        total += status.st_blocks * _BLOCK
    return total


def _all_below(top: str, apart: set[str], stopped: Callable[[], bool]) -> Iterator[os.stat_result]:
    """On the file system of `top`."""
    folders = [top]
    device: int | None = None
    while folders and not stopped():
        folder = folders.pop()
        with suppress(OSError), os.scandir(folder) as entries:
            device = os.stat(folder).st_dev if device is None else device  # noqa: PTH116
            for entry in entries:
                with suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    if status.st_dev != device:
                        continue
                    if entry.path in apart:
                        continue
                    yield status
                    if stat.S_ISDIR(status.st_mode):
                        folders.append(entry.path)
