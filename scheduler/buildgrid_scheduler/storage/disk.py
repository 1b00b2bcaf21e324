"""The CAS on a local disk: bounded, evicting the least recently used, safe against kill -9.

See `disk_layout` for the folder and for what survives which crash. Concurrency: blobs are immutable files, so
reading takes no lock at all, and an evicted blob that is being read stays readable (its file is unlinked, not
emptied). The index has one lock for dictionary operations. One lock for each of the 256 folders orders the
rename that publishes a blob and the unlink that evicts it, so that a blob never vanishes in the moment it is
stored; nothing else is done under these.

Several processes may share a folder. Lookups ask the disk, not the index, so they see each other's blobs
and evictions at once; each learns from time to time (`rescan_seconds`) how much the others have stored, and
spares what another has used (its atime is newer than the index thinks). Two that evict at the same time may
evict more than they need, and one may evict what another is just storing again; both cost an upload, nothing
else.
"""

# FindMissingBlobs names thousands of blobs, and a Path costs more than the stat call that follows.
# ruff: noqa: PTH105, PTH108, PTH110, PTH116

import errno
import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from buildgrid_client.digests import digest_key
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Digest

from buildgrid_scheduler.core.errors import InvalidArgument, ResourceExhausted, Unavailable
from buildgrid_scheduler.storage.abc import (
    MAX_CHUNK_BYTES,
    BlobReader,
    BlobWriter,
    StorageABC,
    check_content,
    check_digest,
    range_size,
    too_much,
    wrong_content,
)
from buildgrid_scheduler.storage.disk_index import DiskIndex, Victim, footprint
from buildgrid_scheduler.storage.disk_layout import DiskLayout

# A use is noted on disk at most this often per blob: after a restart the order is right to within this much,
# and a build that asks for the same inputs all the time does not write an inode each time.
REFRESH_SECONDS = 300
# Clocks of the kernel's timestamps and of ours may differ by a tick.
_SLACK_SECONDS = 2
# A full disk refuses every upload, and is told once in so many seconds.
_FULL_LOG_SECONDS = 60

_log = logging.getLogger(__name__)


class DiskStorage(StorageABC):
    """Blobs under `root`, at most `max_bytes` of disk for them and for the uploads under way.

    `fsync` makes each blob durable before it counts as stored, at the price of a disk flush per blob; off by
    default, since a blob that is lost is uploaded again and a damaged one is found (`disk_layout`).
    `rescan_seconds` 0: the folder is ours alone. `clock` tells seconds since the epoch.
    """

    def __init__(
        self,
        root: Path,
        max_bytes: int,
        *,
        fsync: bool = False,
        rescan_seconds: float = 600,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.root = root
        self.max_bytes = max_bytes
        self._fsync = fsync
        self._clock = clock
        self._layout = DiskLayout(root)
        self._index = DiskIndex(max_bytes)
        self._folder_locks = [threading.Lock() for _ in range(256)]
        self._rescan_seconds = rescan_seconds
        self._stopping = threading.Event()
        self._rescanner: threading.Thread | None = None
        self._full_lock = threading.Lock()
        self._full_logged_at = float("-inf")

    def start(self) -> None:
        with self._no_space_explained():
            self._layout.open()
            self._index.load(self._layout.scan())
        self._make_room(0)
        _log.info(
            "%s: %d blobs, %d of %d bytes", self.root, len(self._index), self.used_bytes, self.max_bytes
        )
        if self._rescan_seconds > 0:
            self._stopping.clear()
            self._rescanner = threading.Thread(target=self._rescan_loop, name="disk-rescan", daemon=True)
            self._rescanner.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._rescanner is not None:
            self._rescanner.join()
            self._rescanner = None
        self._layout.close()

    def usage(self) -> tuple[int, int]:
        return self.used_bytes, self.max_bytes

    @property
    def used_bytes(self) -> int:
        """Disk taken by the blobs that this process knows of and by its uploads under way."""
        return self._index.used_bytes

    def has_many(self, digests: Iterable[Digest]) -> set[str]:
        return {digest_key(digest) for digest in digests if self._has(digest)}

    def read_many(self, digests: Iterable[Digest]) -> dict[str, bytes]:
        blobs: dict[str, bytes] = {}
        for digest in digests:
            reader = self.stream_read(digest)
            if reader is not None:
                with reader:
                    blobs[digest_key(digest)] = b"".join(reader)
        return blobs

    def stream_read(self, digest: Digest, offset: int = 0, limit: int = 0) -> BlobReader | None:
        size = range_size(digest, offset, limit)
        if not digest.size_bytes:
            return _EmptyReader()
        try:
            descriptor = os.open(self._layout.path(digest.hash), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            self._forget_if_gone(digest.hash)
            return None
        stat = os.fstat(descriptor)
        if stat.st_size != digest.size_bytes:
            os.close(descriptor)
            return None
        self._note_use(digest.hash, stat)
        return _DiskReader(digest, descriptor, offset, size)

    def begin_write(self, digest: Digest) -> BlobWriter:
        check_digest(digest)
        if footprint(digest.size_bytes) > self.max_bytes:
            raise ResourceExhausted(
                f"blob {digest_key(digest)} is larger than the whole storage in {self.root}, "
                f"which is limited to {self.max_bytes} bytes: raise its max_bytes"
            )
        return _DiskWriter(digest, self)

    def _write_one(self, digest: Digest, data: bytes) -> None:
        # Clients often send what is here already; a stat call is cheaper than a file.
        check_content(digest, data)
        if not self._has(digest):
            self.stream_write(digest, (data,))

    def _has(self, digest: Digest) -> bool:
        check_digest(digest)
        if not digest.size_bytes:
            return True
        try:
            stat = os.stat(self._layout.path(digest.hash))
        except FileNotFoundError:
            self._forget_if_gone(digest.hash)
            return False
        return stat.st_size == digest.size_bytes and self._note_use(digest.hash, stat)

    def _note_use(self, hash_: str, stat: os.stat_result) -> bool:
        """Makes a blob that was just seen on disk the last to be evicted. False if it has gone since."""
        now = self._clock()
        path = self._layout.path(hash_)
        if not self._index.touch(hash_, int(now)):
            # Another process stored it, or a thread of ours is about to evict it: with the lock we are either
            # early enough for it to see the entry and stop, or too late, and see that the file is gone.
            with self._folder_lock(hash_):
                if not os.path.exists(path):
                    return False
                self._index.admit(hash_, stat.st_size, int(now))
        if now - max(stat.st_atime, stat.st_mtime) > REFRESH_SECONDS:
            with suppress(OSError):  # evicted meanwhile, or the file of another user: only the order suffers
                os.utime(path, ns=(int(now * 1e9), stat.st_mtime_ns))
        return True

    def _forget_if_gone(self, hash_: str) -> None:
        """Drops an index entry whose file another process evicted, unless it was stored again just now."""
        if hash_ in self._index:
            with self._folder_lock(hash_):
                if not os.path.exists(self._layout.path(hash_)):
                    self._index.discard(hash_)

    def _make_room(self, room: int) -> None:
        """Reserves room, evicting what it takes."""
        while not self._index.reserve(room):
            victim = self._index.pop_oldest()
            if victim is None:
                raise ResourceExhausted(
                    f"the uploads under way fill the storage in {self.root}, which is limited to "
                    f"{self.max_bytes} bytes: try again later, or raise its max_bytes"
                )
            self._evict(victim)

    def _evict(self, victim: Victim) -> None:
        path = self._layout.path(victim.hash)
        with self._folder_lock(victim.hash):
            if victim.hash in self._index:
                return  # used or stored again since it was chosen
            try:
                stat = os.stat(path)
            except FileNotFoundError:
                return  # another process was first
            if stat.st_atime > victim.used_at + _SLACK_SECONDS:
                # Another process used it.
                self._index.admit(victim.hash, stat.st_size, int(stat.st_atime))
                return
            with suppress(FileNotFoundError):
                os.unlink(path)

    def _publish(self, digest: Digest, temporary: str, reserved: int) -> None:
        with self._folder_lock(digest.hash):
            os.replace(temporary, self._layout.path(digest.hash))
            self._index.admit(digest.hash, digest.size_bytes, int(self._clock()), reserved=reserved)

    def _folder_lock(self, hash_: str) -> threading.Lock:
        return self._folder_locks[int(hash_[:2], 16)]

    def _rescan_loop(self) -> None:
        while not self._stopping.wait(self._rescan_seconds):
            try:
                self.rescan()
            except Exception:  # noqa: BLE001 - the next round may succeed, and lookups do not need it
                _log.exception("cannot look through %s", self.root)

    def rescan(self) -> None:
        """Learns what other processes have stored and evicted, and evicts what is too much."""
        known = set(self._index.hashes())
        for hash_ in self._layout.names():
            if hash_ in known:
                known.discard(hash_)
            else:
                self._adopt(hash_)
            if self._stopping.is_set():
                return
        for hash_ in known:
            self._forget_if_gone(hash_)
        self._make_room(0)

    def _adopt(self, hash_: str) -> None:
        with self._folder_lock(hash_), suppress(FileNotFoundError):
            stat = os.stat(self._layout.path(hash_))
            if hash_ not in self._index:
                self._index.admit(hash_, stat.st_size, int(max(stat.st_atime, stat.st_mtime)))

    @contextmanager
    def _no_space_explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            full = ResourceExhausted(
                f"the disk that holds {self.root} is full ({error.strerror}): free some space there, or "
                f"lower the storage's max_bytes ({self.max_bytes}) below what the disk can hold"
            )
            self._log_full(full)
            raise full from error

    def _log_full(self, full: ResourceExhausted) -> None:
        """Clients are told, and so is whoever looks after the disk."""
        with self._full_lock:
            now = self._clock()
            if now - self._full_logged_at < _FULL_LOG_SECONDS:
                return
            self._full_logged_at = now
        _log.warning("%s; uploads are refused", full)


class _DiskWriter(BlobWriter):
    """Writes into a temporary file, hashing as it goes."""

    def __init__(self, digest: Digest, storage: DiskStorage) -> None:
        self._digest = digest
        self._storage = storage
        self._hash = hashlib.sha256()
        self._committed = 0
        self._reserved = 0
        self._temporary = storage._layout.temporary_path(digest.hash)
        self._descriptor = -1
        self._ended = False

    @property
    def committed(self) -> int:
        return self._committed

    def write(self, data: bytes) -> None:
        if self._ended:
            raise InvalidArgument(f"the upload of {digest_key(self._digest)} has ended")
        try:
            self._append(data)
        except BaseException:
            # At once: a disk that is full needs the room back.
            self.abort()
            raise

    def _append(self, data: bytes) -> None:
        if not data:
            return
        total = self._committed + len(data)
        if total > self._digest.size_bytes:
            raise too_much(self._digest)
        more = footprint(total) - self._reserved
        if more:
            self._storage._make_room(more)
            self._reserved += more
        self._hash.update(data)
        with self._storage._no_space_explained():
            if self._descriptor < 0:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                self._descriptor = os.open(self._temporary, flags, 0o644)
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        self._committed = total

    def commit(self) -> None:
        if self._ended:
            raise InvalidArgument(f"the upload of {digest_key(self._digest)} has ended")
        try:
            actual = f"{self._hash.hexdigest()}/{self._committed}"
            if actual != digest_key(self._digest):
                raise wrong_content(self._digest, actual)
            if self._committed:
                self._publish()
        finally:
            self.abort()

    def _publish(self) -> None:
        with self._storage._no_space_explained():
            if self._storage._fsync:
                os.fsync(self._descriptor)
            # Network file systems tell here, not earlier, that there is no space.
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)
            self._storage._publish(self._digest, self._temporary, self._reserved)
        self._reserved = 0

    def abort(self) -> None:
        if self._ended:
            return
        self._ended = True
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        with suppress(FileNotFoundError):
            os.unlink(self._temporary)
        self._storage._index.release(self._reserved)
        self._reserved = 0


class _DiskReader(BlobReader):
    """Reads from an open file, which eviction does not take away."""

    def __init__(self, digest: Digest, descriptor: int, offset: int, size: int) -> None:
        self._digest = digest
        self._descriptor = descriptor
        self._offset = offset
        self._rest = size

    def __next__(self) -> bytes:
        if not self._rest or self._descriptor < 0:
            raise StopIteration
        chunk = os.pread(self._descriptor, min(self._rest, MAX_CHUNK_BYTES), self._offset)
        if not chunk:
            raise Unavailable(f"blob {digest_key(self._digest)} became shorter on disk while it was read")
        self._offset += len(chunk)
        self._rest -= len(chunk)
        return chunk

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class _EmptyReader(BlobReader):
    def __next__(self) -> bytes:
        raise StopIteration

    def close(self) -> None:
        pass
