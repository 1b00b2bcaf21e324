"""Input trees: from files on disk, from memory, or from blobs that the farm already holds.

The same inputs give the same root digest on every machine (REAPI, message Directory: names unique, each list
sorted by name), whatever the order in which they were named or a folder was listed.
"""

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Digest, Directory

from buildgrid_client.digests import digest_key, digest_of


@dataclass(frozen=True)
class MemoryFile:
    """A file that exists only in this process."""

    data: bytes
    is_executable: bool = False


@dataclass(frozen=True)
class RemoteFile:
    """A file whose content is in the CAS already, for example an output of an earlier action."""

    digest: Digest
    is_executable: bool = False


@dataclass(frozen=True)
class Symlink:
    """A symbolic link. `target` is kept as it is; where it leads is known only where the action runs."""

    target: str


@dataclass(frozen=True)
class EmptyDirectory:
    """A directory that exists even when nothing is in it."""


# A bare `bytes` is a file without the executable bit. A `Path` is a file or a folder with all below it.
Input: TypeAlias = bytes | Path | MemoryFile | RemoteFile | Symlink | EmptyDirectory


@dataclass(frozen=True)
class InputTree:
    """A tree and what must be in the CAS before an action can run in it. Keys are `HASH/SIZE`."""

    root_digest: Digest
    # Directory messages and files from memory.
    blobs: dict[str, bytes]
    # Files on disk, each content once.
    files: dict[str, tuple[Digest, Path]]
    # In the CAS since before; the client cannot upload them.
    remote: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _File:
    digest: Digest
    is_executable: bool


@dataclass
class _Folder:
    entries: dict[str, "_File | Symlink | _Folder"] = field(default_factory=dict)


def build_tree(inputs: Mapping[str, Input]) -> InputTree:
    """The tree that holds each input at its path.

    Paths are relative, with `/` between names; `.` is the root itself. A folder that is named twice (as
    itself and through something inside it) is merged; an input that is named twice must be the same both
    times. A `Path` that is a symlink is followed, symlinks further down stay symlinks. Reads every file once,
    to hash it.

    Raises ValueError for a path that leaves the tree or collides with another, FileNotFoundError and other
    OSErrors from reading.
    """
    builder = _Builder()
    for path, value in sorted(inputs.items()):
        builder.add(path, value)
    return builder.finish()


def split_path(path: str) -> list[str]:
    """The names in a relative path; [] for `.` and the empty path.

    Raises ValueError for a path that is absolute, leaves the tree, or holds a NUL.
    """
    if path.startswith("/"):
        raise ValueError(f"path {path!r} is absolute; paths in a tree are relative to its root")
    names = [name for name in path.split("/") if name not in ("", ".")]
    if ".." in names:
        raise ValueError(f"path {path!r} leaves the tree ('..')")
    if "\0" in path:
        raise ValueError(f"path {path!r} holds a NUL")
    return names


class _Builder:
    def __init__(self) -> None:
        self._root = _Folder()
        self._blobs: dict[str, bytes] = {}
        self._files: dict[str, tuple[Digest, Path]] = {}
        self._remote: set[str] = set()

    def add(self, path: str, value: Input) -> None:
        names = split_path(path)
        match value:
            case Path() if value.is_dir():
                self._add_folder(names, value)
            case Path():
                self._put(names, self._disk_file(value, value.stat()))
            case bytes():
                self._put(names, self._memory_file(MemoryFile(value)))
            case MemoryFile():
                self._put(names, self._memory_file(value))
            case RemoteFile():
                self._remote.add(digest_key(value.digest))
                self._put(names, _File(value.digest, value.is_executable))
            case Symlink():
                self._put(names, value)
            case EmptyDirectory():
                self._folder(names)

    def finish(self) -> InputTree:
        root = self._directory(self._root)
        known = self._blobs.keys() | self._files.keys()
        return InputTree(root, self._blobs, self._files, frozenset(self._remote - known))

    def _add_folder(self, names: list[str], folder: Path) -> None:
        self._folder(names)
        with os.scandir(folder) as entries:
            for entry in entries:
                below = [*names, _utf8(entry.name, entry.path)]
                if entry.is_symlink():
                    # Path.readlink would tidy up the target, which is part of the digest.
                    self._put(below, Symlink(_utf8(os.readlink(entry.path), entry.path)))  # noqa: PTH115
                elif entry.is_dir():
                    self._add_folder(below, Path(entry.path))
                else:
                    self._put(below, self._disk_file(Path(entry.path), entry.stat()))

    def _disk_file(self, path: Path, status: os.stat_result) -> _File:
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path} is neither a file nor a folder; leave sockets, pipes and devices out")
        with path.open("rb") as file:
            hash_ = hashlib.file_digest(file, "sha256").hexdigest()
            # The size of what was hashed: the file may have grown since it was listed.
            digest = Digest(hash=hash_, size_bytes=file.tell())
        self._files.setdefault(digest_key(digest), (digest, path))
        return _File(digest, bool(status.st_mode & stat.S_IXUSR))

    def _memory_file(self, value: MemoryFile) -> _File:
        digest = digest_of(value.data)
        self._blobs[digest_key(digest)] = value.data
        return _File(digest, value.is_executable)

    def _folder(self, names: list[str]) -> _Folder:
        folder = self._root
        for depth, name in enumerate(names, 1):
            below = folder.entries.setdefault(name, _Folder())
            if isinstance(below, _File | Symlink):
                raise _collision(names[:depth], "is both a folder and something else")
            folder = below
        return folder

    def _put(self, names: list[str], node: _File | Symlink) -> None:
        if not names:
            raise ValueError("the root of the tree must be a folder")
        there = self._folder(names[:-1]).entries.setdefault(names[-1], node)
        if there != node:
            raise _collision(names, "is named twice with different content")

    def _directory(self, folder: _Folder) -> Digest:
        message = Directory()
        for name, node in sorted(folder.entries.items()):
            match node:
                case _File():
                    message.files.add(name=name, digest=node.digest, is_executable=node.is_executable)
                case Symlink():
                    message.symlinks.add(name=name, target=node.target)
                case _Folder():
                    message.directories.add(name=name, digest=self._directory(node))
        data = message.SerializeToString(deterministic=True)
        digest = digest_of(data)
        self._blobs[digest_key(digest)] = data
        return digest


def _collision(names: list[str], how: str) -> ValueError:
    return ValueError(f"input {'/'.join(names)!r} {how}")


def _utf8(name: str, path: str) -> str:
    """Protocol strings are UTF-8; a file name on disk may be any bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{os.fsencode(path)!r} is not UTF-8; rename it or leave it out") from None
    return name
