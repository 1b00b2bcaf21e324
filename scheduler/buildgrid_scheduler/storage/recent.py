"""Small blobs that were written or read just now, kept in memory in front of a slower storage.

An Action and its Command are uploaded a moment before Execute reads them, and read by a bot a moment after:
this saves a hop to a thread for the one and the files for the other.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterable

from buildgrid_client.digests import digest_key
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Digest

from buildgrid_scheduler.core.errors import SchedulerError
from buildgrid_scheduler.storage.abc import BlobReader, BlobWriter, StorageABC

LARGEST = 16 * 1024  # bytes; above this a read is not dominated by opening the file
MEMORY = 64 * 1024**2  # bytes of contents, and some 200 more for each


class RecentStorage(StorageABC):
    """Answers `has_many` from the storage behind it, always: what was evicted there is missing."""

    def __init__(self, behind: StorageABC, *, max_bytes: int = MEMORY) -> None:
        self._behind = behind
        self._max_bytes = max_bytes
        self._blobs: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def start(self) -> None:
        """See StorageABC."""
        self._behind.start()

    def stop(self) -> None:
        """See StorageABC."""
        self._behind.stop()

    def stop_waiting(self) -> None:
        """See StorageABC."""
        self._behind.stop_waiting()

    def usage(self) -> tuple[int, int] | None:
        """See StorageABC."""
        return self._behind.usage()

    def has_many(self, digests: Iterable[Digest]) -> set[str]:
        """See StorageABC."""
        return self._behind.has_many(digests)

    def read_recent(self, digest: Digest) -> bytes | None:
        """See StorageABC."""
        key = digest_key(digest)
        with self._lock:
            blob = self._blobs.get(key)
            if blob is not None:
                self._blobs.move_to_end(key)
            return blob

    def read_many(self, digests: Iterable[Digest]) -> dict[str, bytes]:
        """See StorageABC."""
        found: dict[str, bytes] = {}
        rest: list[Digest] = []
        for digest in digests:
            blob = self.read_recent(digest)
            if blob is None:
                rest.append(digest)
            else:
                found[digest_key(digest)] = blob
        if rest:
            read = self._behind.read_many(rest)
            for key, blob in read.items():
                self._remember(key, blob)
            found.update(read)
        return found

    def stream_read(self, digest: Digest, offset: int = 0, limit: int = 0) -> BlobReader | None:
        """See StorageABC."""
        return self._behind.stream_read(digest, offset, limit)

    def begin_write(self, digest: Digest) -> BlobWriter:
        """See StorageABC."""
        return self._behind.begin_write(digest)

    def write_many(self, blobs: list[tuple[Digest, bytes]]) -> list[SchedulerError | None]:
        """See StorageABC."""
        results = self._behind.write_many(blobs)
        for (digest, blob), error in zip(blobs, results, strict=True):
            if error is None:
                self._remember(digest_key(digest), blob)
        return results

    def _remember(self, key: str, blob: bytes) -> None:
        if len(blob) > LARGEST:
            return
        with self._lock:
            if key not in self._blobs:
                self._blobs[key] = blob
                self._bytes += len(blob) + 200
            while self._bytes > self._max_bytes:
                _, oldest = self._blobs.popitem(last=False)
                self._bytes -= len(oldest) + 200
