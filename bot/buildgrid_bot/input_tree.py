"""The input tree of an action: its Directory messages, and the flat list of what to put where."""

from collections import OrderedDict
from dataclasses import dataclass, field

from buildgrid_client.cas import CasClient
from buildgrid_client.digests import digest_key, digest_problem
from buildgrid_client.errors import BlobsMissing
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Digest, Directory
from google.protobuf.message import DecodeError

from buildgrid_bot.errors import InvalidAction
from buildgrid_bot.paths import MAX_PATH_BYTES, check_node_name

# Shared subtrees let a small message describe a huge tree; beyond this it is an attack or a mistake. With the
# paths, which in deep trees outweigh all else, a tree takes a GB of memory at the very worst.
MAX_NODES = 1_000_000
MAX_BYTES_OF_PATHS = 512 << 20
# A Directory with some 300,000 entries. Messages are read and parsed whole.
MAX_MESSAGE_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class InputFile:
    """A regular file at `path`, relative to the root."""

    path: str
    digest: Digest
    executable: bool


@dataclass
class InputTree:
    """Everything below the root; parents come before their children in `directories`.

    `longest_path` is in bytes.
    """

    directories: list[str] = field(default_factory=list)
    files: list[InputFile] = field(default_factory=list)
    symlinks: list[tuple[str, str]] = field(default_factory=list)
    longest_path: int = 0


class SmallBlobs:
    """Blobs that many actions share (Directory and Command messages), in memory; the least recently used go.

    `read` fetches those that are not here in one go. `max_bytes` counts their contents.
    """

    def __init__(self, cas: CasClient, max_bytes: int = 64 << 20) -> None:
        self._cas = cas
        self._max_bytes = max_bytes
        self._blobs: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0

    async def read(self, digests: list[Digest]) -> dict[str, bytes]:
        """Blobs by key.

        Raises BlobsMissing, and InvalidAction for a malformed digest or one of more than MAX_MESSAGE_BYTES.
        """
        for digest in digests:
            if problem := digest_problem(digest):
                raise InvalidAction(f"the action names a blob with a malformed digest: {problem}")
            if digest.size_bytes > MAX_MESSAGE_BYTES:
                raise InvalidAction(
                    f"the action names {digest_key(digest)} as a Directory or Command, which may have "
                    f"{MAX_MESSAGE_BYTES} bytes at most"
                )
        found: dict[str, bytes] = {}
        absent: list[Digest] = []
        for digest in digests:
            key = digest_key(digest)
            if key in self._blobs:
                self._blobs.move_to_end(key)
                found[key] = self._blobs[key]
            else:
                absent.append(digest)
        if absent:
            fetched = await self._cas.read_blobs(absent)
            found.update(fetched)
            for key, data in fetched.items():
                self._keep(key, data)
        return found

    def _keep(self, key: str, data: bytes) -> None:
        if key not in self._blobs:
            self._blobs[key] = data
            self._bytes += len(data)
        while self._bytes > self._max_bytes and self._blobs:
            _, dropped = self._blobs.popitem(last=False)
            self._bytes -= len(dropped)


async def read_directories(blobs: SmallBlobs, root: Digest) -> dict[str, Directory]:
    """Every Directory of the tree by key, level by level: one call per level at most.

    Raises BlobsMissing with all that is missing of a level, InvalidAction for what is not a Directory.
    """
    directories: dict[str, Directory] = {}
    level = {digest_key(root): root}
    missing: set[str] = set()
    while level:
        try:
            data = await blobs.read(list(level.values()))
        except BlobsMissing as error:
            # The rest of the level is still looked at, so that the client hears of everything at once.
            missing.update(error.keys)
            data = await blobs.read([digest for key, digest in level.items() if key not in missing])
        below: dict[str, Digest] = {}
        for key, blob in data.items():
            directories[key] = _parse_directory(key, blob)
            for node in directories[key].directories:
                below[digest_key(node.digest)] = node.digest
        level = {
            key: digest for key, digest in below.items() if key not in directories and key not in missing
        }
        if len(directories) + len(level) > MAX_NODES:
            raise InvalidAction(f"the input tree holds more than {MAX_NODES} distinct directories")
    if missing:
        raise BlobsMissing(missing)
    return directories


def flatten(directories: dict[str, Directory], root: Digest, max_nodes: int = MAX_NODES) -> InputTree:
    """Where each file, directory and symlink belongs.

    Pure. Raises InvalidAction for names that are no names, and for trees that are too large or too deep: that
    is found out before they are unfolded.
    """
    extent = _extent(directories, digest_key(root))
    if extent.nodes > max_nodes:
        raise InvalidAction(f"the input tree holds more than {max_nodes} files, directories and symlinks")
    if extent.longest_path > MAX_PATH_BYTES:
        raise InvalidAction(
            f"an input path is {extent.longest_path} bytes long, more than the {MAX_PATH_BYTES} that a path "
            f"may have"
        )
    if extent.bytes_of_paths > MAX_BYTES_OF_PATHS:
        raise InvalidAction(f"the paths in the input tree take more than {MAX_BYTES_OF_PATHS} bytes together")
    tree = InputTree(longest_path=extent.longest_path)
    pending = [("", digest_key(root))]
    while pending:
        path, key = pending.pop()
        directory = directories[key]
        prefix = f"{path}/" if path else ""
        names: set[str] = set()
        for name in _names(directory):
            check_node_name(name, path)
            if name in names:
                raise InvalidAction(f"input directory {path or '.'!r} holds {name!r} twice")
            names.add(name)
        for file in directory.files:
            if problem := digest_problem(file.digest):
                raise InvalidAction(f"input file {prefix}{file.name!r} has a malformed digest: {problem}")
            tree.files.append(InputFile(prefix + file.name, file.digest, file.is_executable))
        for link in directory.symlinks:
            if not link.target or "\0" in link.target:
                raise InvalidAction(f"input symlink {prefix}{link.name!r} has no usable target")
            if len(link.target.encode()) > MAX_PATH_BYTES:
                raise InvalidAction(
                    f"the target of input symlink {prefix}{link.name!r} is longer than {MAX_PATH_BYTES} bytes"
                )
            tree.symlinks.append((prefix + link.name, link.target))
        for child in directory.directories:
            tree.directories.append(prefix + child.name)
            pending.append((prefix + child.name, digest_key(child.digest)))
    return tree


@dataclass(frozen=True, slots=True)
class _Extent:
    """What a directory is when unfolded: all that is below it, paths relative to it, sizes in bytes."""

    nodes: int
    longest_path: int
    bytes_of_paths: int


def _extent(directories: dict[str, Directory], root: str) -> _Extent:
    """In time that is linear in the messages, however often they are shared and however deep they are."""
    known: dict[str, _Extent] = {}
    pending = [root]
    while pending:
        key = pending[-1]
        children = [digest_key(node.digest) for node in directories[key].directories]
        if unknown := {child for child in children if child not in known}:
            pending += unknown
            continue
        pending.pop()
        if key not in known:
            known[key] = _extent_of(directories[key], [known[child] for child in children])
    return known[root]


def _extent_of(directory: Directory, below: list[_Extent]) -> _Extent:
    nodes = longest = total = 0
    names = [*(node.name for node in directory.files), *(node.name for node in directory.symlinks)]
    for length in (len(name.encode()) for name in names):
        nodes += 1
        longest = max(longest, length)
        total += length
    for child, extent in zip(directory.directories, below, strict=True):
        length = len(child.name.encode())
        nodes += 1 + extent.nodes
        longest = max(longest, length + (1 + extent.longest_path if extent.nodes else 0))
        total += length + extent.bytes_of_paths + extent.nodes * (length + 1)
    return _Extent(nodes, longest, total)


def _names(directory: Directory) -> list[str]:
    return [
        *(node.name for node in directory.files),
        *(node.name for node in directory.directories),
        *(node.name for node in directory.symlinks),
    ]


def _parse_directory(key: str, blob: bytes) -> Directory:
    try:
        return Directory.FromString(blob)
    except DecodeError as error:
        raise InvalidAction(f"blob {key} is not a Directory") from error
