"""From the CAS into an action's directory: fetch what the cache lacks, then put everything in its place."""

import asyncio
import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from buildgrid_client.batching import plan_batches
from buildgrid_client.cas import CasClient
from buildgrid_client.digests import digest_key
from buildgrid_client.errors import BlobsMissing
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Digest

from buildgrid_bot.cache import FileCache, Placement
from buildgrid_bot.errors import InvalidAction
from buildgrid_bot.input_tree import InputFile, InputTree
from buildgrid_bot.paths import MAX_PATH_BYTES, follow, inside
from buildgrid_bot.threads import in_thread


@dataclass(frozen=True)
class _Wanted:
    digest: Digest
    executable: bool


class InputFetcher:
    """Fills the cache. Actions that want the same blob at the same time fetch it once."""

    def __init__(self, cas: CasClient, cache: FileCache) -> None:
        self._cas = cas
        self._cache = cache
        self._arriving: dict[str, asyncio.Future[None]] = {}

    async def ensure(self, files: Iterable[InputFile]) -> None:
        """Returns when every file is in the cache; the caller pinned them.

        Raises BlobsMissing with the keys of all that the CAS does not have.
        """
        wanted = {digest_key(file.digest): _Wanted(file.digest, file.executable) for file in files}
        while True:
            mine: list[_Wanted] = []
            others: list[asyncio.Future[None]] = []
            for key, want in wanted.items():
                if key in self._arriving:
                    others.append(self._arriving[key])
                elif not self._cache.has(want.digest):
                    mine.append(want)
            if not mine and not others:
                return
            await self._fetch(mine)
            if others:
                await asyncio.wait(others)
            # Around again: another action may have failed to fetch what this one waited for.

    async def _fetch(self, wanted: list[_Wanted]) -> None:
        if not wanted:
            return
        arrived = asyncio.get_running_loop().create_future()
        by_key = {digest_key(want.digest): want for want in wanted}
        for key in by_key:
            self._arriving[key] = arrived
        try:
            batches, large = plan_batches(want.digest for want in wanted)
            outcomes = await asyncio.gather(
                *(self._fetch_batch(batch, by_key) for batch in batches),
                *(self._fetch_large(by_key[digest_key(digest)]) for digest in large),
                return_exceptions=True,
            )
        finally:
            for key in by_key:
                del self._arriving[key]
            arrived.set_result(None)
        missing: set[str] = set()
        for outcome in outcomes:
            if isinstance(outcome, BlobsMissing):
                missing.update(outcome.keys)
            elif isinstance(outcome, BaseException):
                raise outcome
        if missing:
            raise BlobsMissing(missing)

    async def _fetch_batch(self, batch: list[Digest], wanted: dict[str, _Wanted]) -> None:
        blobs = await self._cas.read_blobs(batch)
        await in_thread(self._store, blobs, wanted)

    def _store(self, blobs: dict[str, bytes], wanted: dict[str, _Wanted]) -> None:
        for key, data in blobs.items():
            self._cache.add_bytes(wanted[key].digest, wanted[key].executable, data)

    async def _fetch_large(self, want: _Wanted) -> None:
        partial_path = self._cache.partial_path()
        try:
            await self._cas.download_file(want.digest, partial_path)
            await in_thread(self._cache.add_file, want.digest, want.executable, partial_path)
        finally:
            partial_path.unlink(missing_ok=True)


async def stage(
    fetcher: InputFetcher,
    cache: FileCache,
    tree: InputTree,
    root: Path,
    extra_directories: Iterable[str],
    linked: list[Placement],
    *,
    chroot: bool = False,
) -> None:
    """The tree below `root` (which exists and is empty), and further directories, each relative to it.

    `chroot`: the root will be the command's `/`. Then its files are the command's to change, as a system's
    are, and its absolute symlinks start at the root. Hard links are added to `linked` as they are made, so
    that the caller can release them whatever happens.

    Raises BlobsMissing, and InvalidAction where a directory to be made lies beyond a symlink out of the root,
    or a path is too long.
    """
    room = MAX_PATH_BYTES - len(os.fsencode(root)) - 1
    if tree.longest_path > room:
        raise InvalidAction(
            f"an input path is {tree.longest_path} bytes long; this bot has room for {room}, since its own "
            f"directory for actions is a part of each path"
        )
    await fetcher.ensure(tree.files)
    await in_thread(_make_directories, tree, root)
    left = tree.files
    while left:
        # What vanished from the cache meanwhile (changed by an action, cleaned by hand) is fetched again.
        left = await in_thread(_place_files, cache, left, root, linked, chroot)
        await fetcher.ensure(left)
    await in_thread(_finish, tree, root, list(extra_directories), chroot)


def _make_directories(tree: InputTree, root: Path) -> None:
    for path in tree.directories:
        (root / path).mkdir()


def _place_files(
    cache: FileCache, files: list[InputFile], root: Path, linked: list[Placement], writable: bool
) -> list[InputFile]:
    absent = []
    for file in files:
        try:
            placement = cache.place(file.digest, file.executable, root / file.path, writable=writable)
        except KeyError:
            absent.append(file)
        else:
            if placement is not None:
                linked.append(placement)
    return absent


def _finish(tree: InputTree, root: Path, extra_directories: list[str], chroot: bool) -> None:
    for path, target in tree.symlinks:
        (root / path).symlink_to(target)
    for path in extra_directories:
        # Followed beforehand, nothing is left that could lead out of the root.
        make_directory(root, follow(root, path) if chroot else path)


def make_directory(root: Path, path: str) -> None:
    """`path` below `root` with its parents.

    Raises InvalidAction where a symlink leads out, a file is in the way, or the path is too long.
    """
    so_far = ""
    for part in path.split("/") if path else ():
        so_far = f"{so_far}/{part}" if so_far else part
        place = f"{root}/{so_far}"  # not a Path, which is slow where there are a thousand parts
        # What is above was looked at before.
        if os.path.islink(place) and inside(root, so_far + "/.") is None:  # noqa: PTH114
            raise InvalidAction(
                f"directory {path!r} lies outside of the input root or nowhere: {so_far!r} is a symlink"
            )
        try:
            os.mkdir(place)  # noqa: PTH102
        except FileExistsError as error:
            if not os.path.isdir(place):  # noqa: PTH112
                raise InvalidAction(
                    f"directory {path!r} cannot be made: an input {so_far!r} is in the way"
                ) from error
        except OSError as error:
            if error.errno not in (errno.ENAMETOOLONG, errno.ELOOP):
                raise
            raise InvalidAction(f"directory {path[:200]!r} cannot be made: {error.strerror}") from error
