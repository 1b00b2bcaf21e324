"""Outputs: what an ActionResult names, written to a folder on disk.

The result comes from outside: no name in it may lead out of the folder, neither by itself nor through a
symlink, so everything is planned (and refused) before anything is written, and symlinks come last.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Protocol

from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    ActionResult,
    Digest,
    Directory,
    Tree,
)
from google.protobuf.message import DecodeError

from buildgrid_client.digests import EMPTY_HASH, digest_key, digest_of_message
from buildgrid_client.tree import split_path

# Below this size files are fetched together, in one message; above it one by one, straight to disk.
_TOGETHER_BYTES = 128 * 1024
_TOGETHER_TOTAL_BYTES = 16 * 1024 * 1024
_PARALLEL_DOWNLOADS = 8


class BlobReader(Protocol):
    """The part of `CasClient` that outputs are read through."""

    async def read_blobs(self, digests: list[Digest], /) -> dict[str, bytes]: ...

    async def download_file(self, digest: Digest, path: Path, /) -> None: ...


@dataclass(frozen=True)
class PlannedFile:
    digest: Digest
    is_executable: bool
    # None when it is to be fetched from the CAS.
    contents: bytes | None = None


@dataclass
class OutputPlan:
    """What to write, by path relative to the folder, with `/` between names."""

    directories: set[str] = field(default_factory=set)
    files: dict[str, PlannedFile] = field(default_factory=dict)
    symlinks: dict[str, str] = field(default_factory=dict)

    def paths(self) -> list[str]:
        """Files and symlinks, sorted."""
        return sorted([*self.files, *self.symlinks])


def plan_outputs(
    result: ActionResult, trees: Mapping[str, Tree], *, max_entries: int = 1_000_000
) -> OutputPlan:
    """Where everything in the result goes. `trees` are those that its output directories name, by
    `HASH/SIZE`.

    Raises ValueError for paths that leave the folder, names that are no names, paths that collide, and Trees
    that are absent, incomplete, or unfold to more than `max_entries`.
    """
    plan = OutputPlan()
    for file in result.output_files:
        # An inlined empty file and one that was not inlined look the same, and both are right as empty.
        inline = file.contents if file.contents or file.digest.hash == EMPTY_HASH else None
        plan.files[_claim(plan, file.path)] = PlannedFile(file.digest, file.is_executable, inline)
    for directory in result.output_directories:
        tree = trees.get(digest_key(directory.tree_digest))
        if tree is None:
            raise ValueError(
                f"output directory {directory.path!r}: no Tree {digest_key(directory.tree_digest)}"
            )
        children = {digest_key(digest_of_message(child)): child for child in tree.children}
        _plan_directory(plan, "/".join(split_path(directory.path)), tree.root, children, max_entries)
    # Old servers name symlinks in the two older fields, and some fill in both the old and the new.
    for link in (*result.output_symlinks, *result.output_file_symlinks, *result.output_directory_symlinks):
        path = "/".join(split_path(link.path))
        if plan.symlinks.get(path) != link.target:
            plan.symlinks[_claim(plan, link.path)] = link.target
    _refuse_nested(plan)
    return plan


async def write_outputs(result: ActionResult, folder: Path, cas: BlobReader) -> list[Path]:
    """Write the outputs of a result below `folder`, replacing files that are there; returns what was written,
    sorted.

    Raises ValueError as `plan_outputs` does and for a parent that is a symlink out of the folder; errors of
    the CAS client when a blob is gone.
    """
    digests = [directory.tree_digest for directory in result.output_directories]
    blobs = await cas.read_blobs(digests) if digests else {}
    try:
        plan = plan_outputs(result, {key: Tree.FromString(blob) for key, blob in blobs.items()})
    except DecodeError as error:
        raise ValueError(f"an output directory is described by a blob that is no Tree: {error}") from None
    await write_plan(plan, folder, cas)
    return [folder / path for path in plan.paths()]


async def write_plan(plan: OutputPlan, folder: Path, cas: BlobReader) -> None:
    """Write what was planned; see `write_outputs`."""
    home = folder.resolve()
    for path in sorted(plan.directories):
        _folder(home, path).mkdir(parents=True, exist_ok=True)
    for path in plan.paths():
        _folder(home, str(PurePosixPath(path).parent)).mkdir(parents=True, exist_ok=True)
        # Also breaks hard links, and does not write through a symlink that an earlier run left here.
        (home / path).unlink(missing_ok=True)
    async for path, contents in _together(plan, cas):
        _write(home / path, contents, plan.files[path].is_executable)
    gate = asyncio.Semaphore(_PARALLEL_DOWNLOADS)

    async def download(path: str, file: PlannedFile) -> None:
        async with gate:
            await cas.download_file(file.digest, home / path)
        (home / path).chmod(0o755 if file.is_executable else 0o644)

    try:
        async with asyncio.TaskGroup() as group:
            for path, file in plan.files.items():
                if file.contents is None and file.digest.size_bytes > _TOGETHER_BYTES:
                    group.create_task(download(path, file))
    except ExceptionGroup as failures:
        # Callers expect the error itself; the others are the same outage, or cancelled.
        raise failures.exceptions[0] from None
    for path, target in plan.symlinks.items():
        (home / path).symlink_to(target)


async def _together(plan: OutputPlan, cas: BlobReader) -> AsyncIterator[tuple[str, bytes]]:
    """Files that are small, in groups: one message each, and no need for all to fit into memory at once."""
    group: dict[str, Digest] = {}
    group_bytes = 0

    async def fetch() -> dict[str, bytes]:
        blobs = await cas.read_blobs(list({digest_key(digest): digest for digest in group.values()}.values()))
        found = {path: blobs[digest_key(digest)] for path, digest in group.items()}
        group.clear()
        return found

    for path, file in plan.files.items():
        if file.contents is not None:
            yield path, file.contents
        elif file.digest.size_bytes <= _TOGETHER_BYTES:
            group[path] = file.digest
            group_bytes += file.digest.size_bytes
            if group_bytes > _TOGETHER_TOTAL_BYTES:
                group_bytes = 0
                for item in (await fetch()).items():
                    yield item
    if group:
        for item in (await fetch()).items():
            yield item


def _write(path: Path, contents: bytes, is_executable: bool) -> None:
    path.write_bytes(contents)
    path.chmod(0o755 if is_executable else 0o644)


def _folder(home: Path, path: str) -> Path:
    folder = (home / path).resolve()
    if not folder.is_relative_to(home):
        raise ValueError(f"output {path!r} leads out of {home}, through a symlink to {folder}")
    return folder


def _plan_directory(
    plan: OutputPlan, path: str, directory: Directory, children: Mapping[str, Directory], max_entries: int
) -> None:
    plan.directories.add(path)
    # A few kilobytes of Tree can name the same child so often that it unfolds to billions of files.
    if len(plan.directories) + len(plan.files) > max_entries:
        raise ValueError(f"output directory {path!r}: the result unfolds to more than {max_entries} files")
    for file in directory.files:
        node = PlannedFile(file.digest, file.is_executable, b"" if file.digest.hash == EMPTY_HASH else None)
        plan.files[_claim(plan, _below(path, file.name))] = node
    for link in directory.symlinks:
        plan.symlinks[_claim(plan, _below(path, link.name))] = link.target
    for node_ in directory.directories:
        key = digest_key(node_.digest)
        child = children.get(key)
        if child is None:
            raise ValueError(f"output directory {path!r}: the Tree lacks its child {node_.name!r} ({key})")
        _plan_directory(plan, _below(path, node_.name), child, children, max_entries)


def _below(path: str, name: str) -> str:
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise ValueError(f"output directory {path!r} holds {name!r}, which is not a file name")
    return f"{path}/{name}" if path else name


def _claim(plan: OutputPlan, path: str) -> str:
    clean = "/".join(split_path(path))
    if not clean:
        raise ValueError(f"output {path!r} names the folder itself")
    if clean in plan.files or clean in plan.symlinks:
        raise ValueError(f"output {clean!r} is in the result twice")
    return clean


def _refuse_nested(plan: OutputPlan) -> None:
    """No output may lie below a file or a symlink of the same result."""
    leaves = plan.files.keys() | plan.symlinks.keys()
    for path in [*leaves, *plan.directories]:
        names = path.split("/")
        for depth in range(1, len(names)):
            if (above := "/".join(names[:depth])) in leaves:
                raise ValueError(f"output {path!r} lies below {above!r}, which is not a directory")
    if both := leaves & plan.directories:
        raise ValueError(f"output {min(both)!r} is both a directory and something else")
