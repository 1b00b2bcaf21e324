"""Input files on the local disk, by content: bounded, least recently used goes first.

How a file gets from the cache into an action's directory is a matter of trust. Actions run as the same user
as the bot, so they can chmod and write whatever they hold a hard link to, and with it the cache. Therefore
small files are copied, which costs no more than a link and its check. Large files, where a copy would hurt,
are hard links; after the action each of them is checked, and one that was touched is read again and thrown
away if it changed. Files are 0444 or 0555 either way, so that honest actions fail at once.
"""

import errno
import fcntl
import hashlib
import logging
import os
import threading
import uuid
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from buildgrid_client.digests import digest_key, parse_digest
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Digest

_log = logging.getLogger(__name__)

# From here on a link and its later check cost less CPU than a copy (measured: 45 us, against 34 us for 1 kB
# and 52 us for 50 kB).
LINK_FROM_BYTES = 64 << 10
# The same time for every input, 2000-01-01: what a command writes into its outputs must not depend on when
# the bot fetched its inputs.
INPUT_MTIME = 946_684_800


class Placement(NamedTuple):
    """A hard link from the cache in an action's directory."""

    digest: Digest
    executable: bool
    path: Path
    inode: int


class _Name(NamedTuple):
    key: str
    executable: bool


@dataclass
class _Entry:
    size: int
    # st_ctime_ns after our own last link or unlink. It cannot be set by utimes(2): another value means that
    # somebody else wrote, changed the mode, or removed a link.
    ctime: int
    inode: int


class FileCache:
    """Thread-safe. One process at a time: a second one on the same directory gets BlockingIOError.

    `max_bytes` bounds the files; those of running actions are never evicted, so that it may be exceeded while
    one action needs more. `link_from` is the size in bytes from which files are linked and not copied.
    """

    def __init__(self, directory: Path, max_bytes: int, *, link_from: int = LINK_FROM_BYTES) -> None:
        self.directory = directory
        """where all of it is; there may be more in it that is not the cache's"""
        self._files = directory / "files"
        self._files.mkdir(parents=True, exist_ok=True)
        self._lock_file = (directory / "lock").open("wb")
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock_file.close()
            raise
        self._max_bytes = max_bytes
        self._link_from = link_from
        self._lock = threading.RLock()
        self._entries: OrderedDict[_Name, _Entry] = OrderedDict()
        self._pins: Counter[str] = Counter()
        self._bytes = 0
        self._load()

    def close(self) -> None:
        """Lets another process have the directory."""
        self._lock_file.close()

    @property
    def size_bytes(self) -> int:
        """The sum of the sizes of all files."""
        return self._bytes

    def disk_bytes(self) -> int:
        """What all files take, those included that have not arrived yet."""
        arriving = 0
        with os.scandir(self._files) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    if entry.is_file(follow_symlinks=False):
                        arriving += entry.stat(follow_symlinks=False).st_size
        return self._bytes + arriving

    def inodes(self) -> frozenset[int]:
        """Of the files that may be linked into actions' directories."""
        with self._lock:
            return frozenset(each.inode for each in self._entries.values() if each.size >= self._link_from)

    def give_back(self, wanted: int) -> None:
        """Evicts so many bytes, or what no running action needs if that is less."""
        with self._lock:
            before = self._bytes
            for name in list(self._entries):
                if before - self._bytes >= wanted:
                    return
                if not self._pins[name.key]:
                    self._forget(name)

    def has(self, digest: Digest) -> bool:
        """Whether the blob is here, executable or not."""
        key = digest_key(digest)
        with self._lock:
            return _Name(key, False) in self._entries or _Name(key, True) in self._entries

    @contextmanager
    def pinned(self, digests: Iterable[Digest]) -> Iterator[None]:
        """Nothing of this is evicted within."""
        keys = {digest_key(digest) for digest in digests}
        with self._lock:
            self._pins.update(keys)
        try:
            yield
        finally:
            with self._lock:
                self._pins.subtract(keys)
                self._pins += Counter()  # forgets what came down to zero
                self._evict()

    def add_bytes(self, digest: Digest, executable: bool, data: bytes) -> None:
        """Stores a blob that the caller verified."""
        partial = self.partial_path()
        try:
            partial.write_bytes(data)
            self.add_file(digest, executable, partial)
        finally:
            partial.unlink(missing_ok=True)

    def partial_path(self) -> Path:
        """A new name in the cache's file system, for `add_file`."""
        return self._files / f"partial-{uuid.uuid4().hex}"

    def add_file(self, digest: Digest, executable: bool, partial: Path) -> None:
        """Takes over a file that the caller verified."""
        name = _Name(digest_key(digest), executable)
        partial.chmod(0o555 if executable else 0o444)
        os.utime(partial, (INPUT_MTIME, INPUT_MTIME))
        with self._lock:
            if name in self._entries:
                return
            path = self._path(name)
            partial.rename(path)
            status = os.stat(path)  # noqa: PTH116
            self._entries[name] = _Entry(digest.size_bytes, status.st_ctime_ns, status.st_ino)
            self._bytes += digest.size_bytes
            self._evict(spare=name)

    def place(
        self, digest: Digest, executable: bool, target: Path, *, writable: bool = False
    ) -> Placement | None:
        """Puts the blob at `target`. The placement when it is a hard link, for `release`; None for a copy.

        A `writable` one, for its owner, is always a copy. Raises KeyError when the blob is not here (any
        more).
        """
        name = _Name(digest_key(digest), executable)
        mode = (0o555 if executable else 0o444) | (0o200 if writable else 0)
        if digest.size_bytes >= self._link_from and not writable:
            with self._lock:
                if name not in self._entries:
                    self._add_variant(digest, executable)
                if self._link(name, target):
                    return Placement(digest, executable, target, self._entries[name].inode)
        for _ in range(2):
            source = self._any_variant(name)
            if digest.size_bytes >= self._link_from and not self._still_intact(source):
                continue  # an action that it was linked for changed it
            try:
                copy_file(self._path(source), target, mode)
            except FileNotFoundError:
                self._forget(source)  # somebody cleaned the directory by hand
                continue
            return None
        raise KeyError(name.key)

    def release(self, placements: Iterable[Placement]) -> list[str]:
        """Takes an action's links back, once none of its processes is left.

        Returns the keys of those files that changed while another action held them too; what that one read
        cannot be trusted. Changed files leave the cache in any case.
        """
        disturbed = []
        for digest, executable, path, inode in placements:
            name = _Name(digest_key(digest), executable)
            with self._lock:
                entry = self._entries.get(name)
                if entry is None or entry.inode != inode:
                    # Another action's release found it changed, and perhaps a new copy has come since.
                    disturbed.append(name.key)
                    continue
                intact = self._intact(name, entry)
                with suppress(OSError):
                    path.unlink()
                if intact:
                    entry.ctime = os.stat(self._path(name)).st_ctime_ns  # noqa: PTH116
                    continue
                _log.warning("an action changed its input %s; it leaves the cache", name.key)
                self._forget(name)
                if self._pins[name.key] > 1:
                    disturbed.append(name.key)
        return disturbed

    def make_room(self) -> None:
        """Evicts all that no running action needs, whatever the bound: the disk turned out to be smaller."""
        with self._lock:
            before = self._bytes
            for name in list(self._entries):
                if not self._pins[name.key]:
                    self._forget(name)
            _log.warning("the disk is full: %d bytes of cached inputs were removed", before - self._bytes)

    def _link(self, name: _Name, target: Path) -> bool:
        entry = self._entries[name]
        if not self._intact(name, entry):
            self._forget(name)
            raise KeyError(name.key)
        path = Path(self._path(name))
        try:
            target.hardlink_to(path)
        except FileNotFoundError:
            self._forget(name)
            raise KeyError(name.key) from None
        except OSError as error:
            if error.errno in (errno.EMLINK, errno.EXDEV, errno.EPERM, errno.ENOTSUP):
                return False
            raise
        entry.ctime = path.stat().st_ctime_ns
        self._entries.move_to_end(name)
        return True

    def _intact(self, name: _Name, entry: _Entry) -> bool:
        path = Path(self._path(name))
        try:
            now = path.stat()
            if now.st_ctime_ns == entry.ctime:
                return True
            # Perhaps only a link was removed: an action may do that with its inputs.
            expected = 0o555 if name.executable else 0o444
            if now.st_ino != entry.inode or now.st_size != entry.size or now.st_mode & 0o7777 != expected:
                return False
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != parse_digest(name.key).hash:
                    return False
        except FileNotFoundError:
            return False
        entry.ctime = now.st_ctime_ns
        return True

    def _still_intact(self, name: _Name) -> bool:
        with self._lock:
            entry = self._entries.get(name)
            if entry is not None and self._intact(name, entry):
                return True
            self._forget(name)
            return False

    def _any_variant(self, wanted: _Name) -> _Name:
        with self._lock:
            for name in (wanted, _Name(wanted.key, not wanted.executable)):
                if name in self._entries:
                    self._entries.move_to_end(name)
                    return name
        raise KeyError(wanted.key)

    def _add_variant(self, digest: Digest, executable: bool) -> None:
        other = self._any_variant(_Name(digest_key(digest), executable))
        if not self._intact(other, self._entries[other]):
            self._forget(other)
            raise KeyError(other.key)
        partial = self.partial_path()
        try:
            copy_file(self._path(other), partial, 0o600)
            self.add_file(digest, executable, partial)
        finally:
            partial.unlink(missing_ok=True)

    def _evict(self, spare: _Name | None = None) -> None:
        if self._bytes <= self._max_bytes:
            return
        for name in list(self._entries):
            if name != spare and not self._pins[name.key]:
                self._forget(name)
                if self._bytes <= self._max_bytes:
                    return

    def _forget(self, name: _Name) -> None:
        with self._lock:
            entry = self._entries.pop(name, None)
            if entry is not None:
                self._bytes -= entry.size
                Path(self._path(name)).unlink(missing_ok=True)

    def _path(self, name: _Name) -> str:
        return f"{self._files}/{name.key[:2]}/{name.key.replace('/', '-')}{'.x' if name.executable else ''}"

    def _load(self) -> None:
        """What an earlier run left, oldest use first; half-written files go."""
        found: list[tuple[int, _Name, int, int]] = []
        for number in range(256):
            (self._files / f"{number:02x}").mkdir(exist_ok=True)
        for path in self._files.glob("partial-*"):
            path.unlink()
        for folder in self._files.iterdir():
            for item in os.scandir(folder):
                stem = item.name.removesuffix(".x")
                try:
                    digest = parse_digest(stem.replace("-", "/"))
                except ValueError:
                    digest = Digest(size_bytes=-1)
                status = item.stat(follow_symlinks=False)
                if status.st_size != digest.size_bytes:
                    Path(item.path).unlink()
                    continue
                name = _Name(digest_key(digest), stem != item.name)
                # A link is taken at every use, which sets the change time. It is not kept as the entry's:
                # whatever was touched while no bot ran is read again before it is used.
                found.append((status.st_ctime_ns, name, status.st_size, status.st_ino))
        for _, name, size, inode in sorted(found):
            self._entries[name] = _Entry(size, -1, inode)
            self._bytes += size
        self._evict()


def copy_file(source: str, target: Path, mode: int) -> None:
    """The bytes of `source` as a new file; large ones share blocks where the file system can (XFS, btrfs).

    An action may have thousands of small inputs: this makes as few system calls as it can.
    """
    reader = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        writer = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            left = os.fstat(reader).st_size
            if left >= LINK_FROM_BYTES:
                left -= _clone(reader, writer, left)
            # Follows the offset that the clone moved, so that this goes on where that stopped.
            while left > 0 and (chunk := os.read(reader, min(left, 1 << 20))):
                left -= len(chunk)
                while chunk:
                    chunk = chunk[os.write(writer, chunk) :]
            os.fchmod(writer, mode)  # whatever the umask
            os.utime(writer, (INPUT_MTIME, INPUT_MTIME))
        finally:
            os.close(writer)
    finally:
        os.close(reader)


def _clone(reader: int, writer: int, size: int) -> int:
    """Bytes copied within the kernel; fewer than `size` where it cannot."""
    done = 0
    try:
        while done < size and (copied := os.copy_file_range(reader, writer, size - done)):
            done += copied
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
            raise
    return done
