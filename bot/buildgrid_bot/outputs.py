"""What a command left: output files, directories as Trees, symlinks, standard output and error."""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from buildgrid_client.digests import digest_key, digest_of, digest_of_message
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    ActionResult,
    Command,
    Digest,
    Directory,
    OutputSymlink,
    Tree,
)

from buildgrid_bot.errors import InvalidAction
from buildgrid_bot.paths import MAX_PATH_BYTES, inside, resolve

# A disk with less is one on which writes fail, or did a moment ago.
_ROOM_BYTES = 64 << 10
# Up to here standard output and error travel within the result: one blob less to store and to fetch.
INLINE_BYTES = 32 << 10


@dataclass(frozen=True)
class DeclaredOutput:
    """An output as the client wrote it, and relative to the root. `kind`: any, file or directory."""

    path: str
    root_path: str
    kind: str


@dataclass
class Collected:
    """A result whose blobs are still to be uploaded: `files` by key, `blobs` from memory."""

    result: ActionResult = field(default_factory=ActionResult)
    files: dict[str, tuple[Digest, Path]] = field(default_factory=dict)
    blobs: list[bytes] = field(default_factory=list)


def declared_outputs(command: Command) -> list[DeclaredOutput]:
    """The outputs that the command names: output_paths, or before API 2.1 the two older lists.

    Raises InvalidAction for a path that is absolute or leaves the root.
    """
    if command.output_paths:
        lists = [("any", command.output_paths)]
    else:
        lists = [("file", command.output_files), ("directory", command.output_directories)]
    return [
        DeclaredOutput(path, resolve(command.working_directory, path, "output path"), kind)
        for kind, paths in lists
        for path in paths
    ]


def collect(root: Path, command: Command, stdout: Path, stderr: Path, *, chroot: bool = False) -> Collected:
    """Reads the outputs below `root`. Those that are not there are simply not in the result.

    `chroot`: the root was the command's `/`, and so is where its absolute symlinks start.
    The command's processes are gone. Sockets, pipes and devices are left out. Raises InvalidAction for names
    that are not UTF-8, which the protocol cannot carry, and paths that are too long; OSError (ENOSPC) when
    the disk is full: whatever the command wrote last may be cut off, and whether it noticed is not known.
    """
    _check_room(root)
    collected = Collected()
    for output in declared_outputs(command):
        where = inside(root, output.root_path, chroot=chroot)
        if where is None:
            continue
        with suppress(FileNotFoundError, NotADirectoryError):
            _collect_output(collected, output, where, command.output_directory_format)
    raw, digest = _stream(collected, stdout)
    collected.result.stdout_raw = raw
    if digest is not None:
        collected.result.stdout_digest.CopyFrom(digest)
    raw, digest = _stream(collected, stderr)
    collected.result.stderr_raw = raw
    if digest is not None:
        collected.result.stderr_digest.CopyFrom(digest)
    return collected


def _collect_output(
    collected: Collected,
    output: DeclaredOutput,
    where: Path,
    directory_format: Command.OutputDirectoryFormat.ValueType,
) -> None:
    try:
        status = where.lstat()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return  # nothing can be there
    result = collected.result
    if stat.S_ISLNK(status.st_mode):
        link = OutputSymlink(path=output.path, target=_utf8(os.readlink(where), output.path))  # noqa: PTH115
        result.output_symlinks.append(link)
        # Clients of API 2.0 look only at the list that fits their request.
        if output.kind == "file":
            result.output_file_symlinks.append(link)
        elif output.kind == "directory":
            result.output_directory_symlinks.append(link)
    elif stat.S_ISREG(status.st_mode):
        digest = _add_file(collected, where, status.st_mode)
        result.output_files.add(path=output.path, digest=digest, is_executable=bool(status.st_mode & 0o111))
    elif stat.S_ISDIR(status.st_mode):
        tree, directories = read_tree(collected, where)
        entry = result.output_directories.add(path=output.path)
        if directory_format != Command.DIRECTORY_ONLY:
            entry.tree_digest.CopyFrom(_add_blob(collected, tree.SerializeToString(deterministic=True)))
            entry.is_topologically_sorted = True
        if directory_format != Command.TREE_ONLY:
            for directory in directories:
                _add_blob(collected, directory.SerializeToString(deterministic=True))
            entry.root_directory_digest.CopyFrom(digest_of_message(tree.root))


def read_tree(collected: Collected, where: Path) -> tuple[Tree, list[Directory]]:
    """The directory as a Tree, parents before their children and each directory once; and all of these.

    Same contents, same bytes: entries are sorted by name, directories by the first path that leads to them.
    """
    finished: dict[str, Directory] = {}
    # Not a recursion: a command may nest directories deeper than Python can call.
    open_ = [_OpenDirectory("", _entries(where))]
    while True:
        current = open_[-1]
        node = current.node
        for name, path, status in current.entries:
            if stat.S_ISLNK(status.st_mode):
                # Path.readlink would tidy the target up.
                node.symlinks.add(name=name, target=_utf8(os.readlink(path), str(path)))  # noqa: PTH115
            elif stat.S_ISDIR(status.st_mode):
                open_.append(_OpenDirectory(name, _entries(path)))
                break
            elif stat.S_ISREG(status.st_mode):
                digest = _add_file(collected, path, status.st_mode)
                node.files.add(name=name, digest=digest, is_executable=bool(status.st_mode & 0o111))
        else:
            digest = digest_of_message(node)
            finished.setdefault(digest_key(digest), node)
            open_.pop()
            if not open_:
                root_digest = digest
                break
            open_[-1].node.directories.add(name=current.name, digest=digest)
    # Children finish before their parents, and a directory that is met again is not finished again: backwards
    # this is the topological order that OutputDirectory.is_topologically_sorted asks for.
    ordered = list(reversed(finished.values()))
    tree = Tree(root=finished[digest_key(root_digest)], children=ordered[1:])
    return tree, ordered


@dataclass
class _OpenDirectory:
    """One whose entries are being read."""

    name: str
    entries: Iterator[tuple[str, Path, os.stat_result]]
    node: Directory = field(default_factory=Directory)


def _entries(directory: Path) -> Iterator[tuple[str, Path, os.stat_result]]:
    _make_readable(directory, directory.lstat().st_mode, 0o500)
    for path in sorted(directory.iterdir(), key=os.fsencode):
        if len(os.fsencode(path)) > MAX_PATH_BYTES:
            raise InvalidAction(
                f"an output directory is nested too deeply: a path in it has more than {MAX_PATH_BYTES} bytes"
            )
        yield _utf8(path.name, str(directory)), path, path.lstat()


def _add_file(collected: Collected, path: Path, mode: int) -> Digest:
    _make_readable(path, mode, 0o400)
    with path.open("rb") as file:
        hash_ = hashlib.file_digest(file, "sha256").hexdigest()
        digest = Digest(hash=hash_, size_bytes=os.fstat(file.fileno()).st_size)
    collected.files[digest_key(digest)] = (digest, path)
    return digest


def _add_blob(collected: Collected, data: bytes) -> Digest:
    collected.blobs.append(data)
    return digest_of(data)


def _stream(collected: Collected, path: Path) -> tuple[bytes, Digest | None]:
    size = path.stat().st_size
    if size <= INLINE_BYTES:
        return path.read_bytes(), None
    return b"", _add_file(collected, path, 0o600)


def _check_room(root: Path) -> None:
    disk = os.statvfs(root)
    blocks = disk.f_bfree if os.geteuid() == 0 else disk.f_bavail
    # A file system without a fixed number of blocks, or of files, says so with a zero.
    if (disk.f_blocks and blocks * disk.f_frsize < _ROOM_BYTES) or (disk.f_files and not disk.f_ffree):
        what = "the disk was full when the command ended, its outputs may be cut off"
        raise OSError(errno.ENOSPC, what, str(root))


def _make_readable(path: Path, mode: int, needed: int) -> None:
    # A command may leave outputs that their owner cannot read; they are outputs all the same.
    if mode & needed != needed:
        path.chmod(stat.S_IMODE(mode) | needed)


def _utf8(name: str, where: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InvalidAction(
            f"output {os.fsencode(name)!r} in {os.fsencode(where)!r}: not UTF-8, which REAPI cannot carry"
        ) from error
    return name
