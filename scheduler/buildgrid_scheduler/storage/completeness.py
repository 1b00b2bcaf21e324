"""Whether all that an action result promises is in the CAS.

REAPI, GetActionResult: a client that gets a result builds on it without downloading it, so every output file,
stdout, stderr, Tree, and every file in each Tree must be there, and stay for a while: looking refreshes them.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress

from buildgrid_client.digests import digest_key
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    ActionResult,
    Digest,
    Directory,
    OutputDirectory,
    Tree,
)
from google.protobuf.message import DecodeError

from buildgrid_scheduler.core.errors import InvalidArgument
from buildgrid_scheduler.storage.abc import StorageABC, check_digest

# Trees and directories are read in groups of about this size, in bytes: a bound on memory, not on results.
_GROUP_BYTES = 16 * 1024 * 1024

MAX_TREE_BYTES = 64 * 1024 * 1024
"""of a Tree, some 500,000 files; and of a Directory. A result that names a larger one is never complete: any
blob can be named as a Tree, and all of it would be in memory at once."""

_Needed = dict[str, Digest]


def missing_outputs(storage: StorageABC, result: ActionResult) -> set[str]:
    """The keys of the blobs that the result needs and that are not in the storage; the rest is refreshed.

    A Tree that is missing, or is no Tree, is named itself; what it would have named is not known.
    """
    return _missing(storage, [result])[0]


def incomplete(storage: StorageABC, results: list[ActionResult]) -> list[bool]:
    """For each result whether something is missing; one round of questions to the storage for all."""
    return [bool(missing) for missing in _missing(storage, results)]


def _missing(storage: StorageABC, results: list[ActionResult]) -> list[set[str]]:
    needs: list[_Needed] = [{} for _ in results]
    broken: set[str] = set()
    files_of = _files_of_trees(storage, results)
    for result, needed in zip(results, needs, strict=True):
        for digest in _direct(result):
            needed[digest_key(digest)] = digest
        for directory in result.output_directories:
            if _has_tree(directory):
                key = digest_key(directory.tree_digest)
                needed[key] = directory.tree_digest
                needed.update(files_of.get(key, {}))
                if key not in files_of:
                    broken.add(key)
            if directory.root_directory_digest.hash:
                _add_directories(storage, directory.root_directory_digest, needed, broken)
    asked: _Needed = {}
    for needed in needs:
        asked.update(needed)
    # A result may come from a client, and hold anything.
    well_formed = [digest for digest in asked.values() if not _is_malformed(digest)]
    present = storage.has_many(well_formed) - broken
    return [needed.keys() - present for needed in needs]


def _direct(result: ActionResult) -> Iterator[Digest]:
    for file in result.output_files:
        yield file.digest
    if result.stdout_digest.hash:
        yield result.stdout_digest
    if result.stderr_digest.hash:
        yield result.stderr_digest


def _has_tree(directory: OutputDirectory) -> bool:
    """One that has neither a Tree nor a root Directory is malformed: its missing Tree makes it incomplete."""
    return bool(directory.tree_digest.hash) or not directory.root_directory_digest.hash


def _files_of_trees(storage: StorageABC, results: list[ActionResult]) -> dict[str, _Needed]:
    """The files in each Tree, by the Tree's key; without those that are missing or malformed."""
    trees: _Needed = {}
    for result in results:
        for directory in result.output_directories:
            if _has_tree(directory) and _is_readable(directory.tree_digest):
                trees[digest_key(directory.tree_digest)] = directory.tree_digest
    files_of: dict[str, _Needed] = {}
    for group in groups(trees.values()):
        for key, data in storage.read_many(group).items():
            with suppress(DecodeError):
                tree = Tree.FromString(data)
                files_of[key] = {}
                for part in (tree.root, *tree.children):
                    _add_files(part, files_of[key])
    return files_of


def _add_directories(storage: StorageABC, root: Digest, needed: _Needed, broken: set[str]) -> None:
    """Adds a directory, its files, and all below it, level by level."""
    level: _Needed = {digest_key(root): root}
    seen: set[str] = set()
    while level:
        seen |= level.keys()
        needed.update(level)
        broken.update(key for key, digest in level.items() if digest.size_bytes > MAX_TREE_BYTES)
        below: _Needed = {}
        for group in groups(digest for digest in level.values() if _is_readable(digest)):
            for key, data in storage.read_many(group).items():
                try:
                    directory = Directory.FromString(data)
                except DecodeError:
                    broken.add(key)
                    continue
                _add_files(directory, needed)
                for node in directory.directories:
                    below[digest_key(node.digest)] = node.digest
        level = {key: digest for key, digest in below.items() if key not in seen}


def _add_files(directory: Directory, needed: _Needed) -> None:
    for node in directory.files:
        needed[digest_key(node.digest)] = node.digest


def groups(digests: Iterable[Digest], limit: int = _GROUP_BYTES) -> Iterator[list[Digest]]:
    """Cuts a list so that the blobs of each part have at most `limit` bytes together, or are a single one."""
    group: list[Digest] = []
    size = 0
    for digest in digests:
        if group and size + digest.size_bytes > limit:
            yield group
            group, size = [], 0
        group.append(digest)
        size += digest.size_bytes
    if group:
        yield group


def _is_readable(digest: Digest) -> bool:
    return digest.size_bytes <= MAX_TREE_BYTES and not _is_malformed(digest)


def _is_malformed(digest: Digest) -> bool:
    try:
        check_digest(digest)
    except InvalidArgument:
        return True
    return False
