"""Whether all that an action needs is in the CAS: the check at Execute, where the configuration asks for it.

It is an early answer, not the only one: a bot that misses an input tells the client the same violations. So
it may believe what it saw within the last minute. Looking also counts as use, so that a storage which evicts
what was used least recently keeps these blobs until they are needed; a minute is short beside the time that
anything survives in a storage of a sensible size, and where it is not, the bot still notices.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import timedelta

from buildgrid_client.digests import digest_key
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Digest

from buildgrid_scheduler.core.errors import MissingBlobs
from buildgrid_scheduler.services.blocking import Blocking
from buildgrid_scheduler.services.input_tree import MAX_ENTRIES, InputTreeWalk
from buildgrid_scheduler.services.input_tree_memory import CompleteDirectories
from buildgrid_scheduler.storage.abc import StorageABC

BELIEVED_FOR = timedelta(minutes=1)

# Bounds on memory: 64 walks of up to 50,000 entries and two of up to a million are about 500 MB at the very
# worst, and a few MB in any real build.
_WALKS = 32
_LARGE_WALKS = 2
_LARGE_WAITING = 32
"""walks that wait to go on as large ones, and let others have their place among all"""
_LARGE_ENTRIES = 50_000


class InputTreeCheck:
    """Used from the event loop. Each call to the storage is a step of its own on the executor's threads, so
    that a large tree neither blocks the loop nor keeps a thread from others, and ends with its caller.
    """

    def __init__(
        self,
        storage: StorageABC,
        blocking: Blocking,
        *,
        max_entries: int = MAX_ENTRIES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._storage = storage
        self._blocking = blocking
        self._max_entries = max_entries
        self._clock = clock
        self._complete = CompleteDirectories()
        self._walks = asyncio.Semaphore(_WALKS)
        self._large_walks = asyncio.Semaphore(_LARGE_WALKS)
        self._large_waiting = asyncio.Semaphore(_LARGE_WAITING)

    async def check(self, command: Digest, input_root: Digest) -> None:
        """Returns when the command and the whole tree are in the CAS; all of it counts as just used.

        Raises MissingBlobs with the keys of the first 1,000 missing blobs (the message counts all that could
        be seen; below a missing directory nothing can), InvalidArgument for a malformed tree or one with more
        than `max_entries` entries in its distinct directories.
        """
        async with AsyncExitStack() as place:
            await place.enter_async_context(self._walks)
            began = self._clock()
            walk = InputTreeWalk(
                input_root, lambda key: self._complete.until(key, began), max_entries=self._max_entries
            )
            walk.want_file(command)
            large = False
            while not walk.done:
                await self._blocking(self._step, walk)
                if walk.entries > _LARGE_ENTRIES and not large:
                    large = True
                    await self._change_place(place)
        if walk.missing_count:
            raise MissingBlobs(_told(walk), walk.missing)
        # Not longer than what was not looked at again.
        until = min(began + BELIEVED_FOR.total_seconds(), walk.known_until)
        await self._blocking(self._complete.add, walk.directories, until)

    async def _change_place(self, place: AsyncExitStack) -> None:
        """From one among all walks to one among the large ones. Meanwhile a small one may have the first."""
        async with self._large_waiting:
            await place.aclose()
            await place.enter_async_context(self._large_walks)

    def _step(self, walk: InputTreeWalk) -> None:
        if directories := walk.unread():
            blobs = self._storage.read_many(directories)
            for digest in directories:
                walk.add(digest, blobs.pop(digest_key(digest), None))
        if files := walk.unasked():
            walk.note(files, self._storage.has_many(files))


def _told(walk: InputTreeWalk) -> str:
    if walk.missing_count == 1:
        return f"input blob {walk.missing[0]} is not in the CAS; upload it and execute again"
    more = walk.missing_count - len(walk.missing)
    unnamed = f" ({more} of them are not named here)" if more else ""
    return (
        f"{walk.missing_count} input blobs{unnamed} are not in the CAS, the first of them {walk.missing[0]}; "
        f"upload them and execute again"
    )
