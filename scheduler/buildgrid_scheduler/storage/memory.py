"""Storage and action cache in memory: for tests, and the shortest statement of what the interfaces mean."""

import threading
from collections.abc import Iterable

from buildgrid_client.digests import EMPTY_HASH, digest_key
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import ActionResult, Digest

from buildgrid_scheduler.storage.abc import (
    MAX_CHUNK_BYTES,
    BlobReader,
    BlobWriter,
    StorageABC,
    check_content,
    check_digest,
    range_size,
    too_much,
)
from buildgrid_scheduler.storage.action_cache_abc import ActionCacheABC

_EMPTY_KEY = f"{EMPTY_HASH}/0"


class MemoryStorage(StorageABC):
    """Unbounded, gone with the process."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {_EMPTY_KEY: b""}

    def has_many(self, digests: Iterable[Digest]) -> set[str]:
        return {key for key in _keys(digests) if key in self._blobs}

    def read_many(self, digests: Iterable[Digest]) -> dict[str, bytes]:
        found = ((key, self._blobs.get(key)) for key in _keys(digests))
        return {key: blob for key, blob in found if blob is not None}

    def stream_read(self, digest: Digest, offset: int = 0, limit: int = 0) -> BlobReader | None:
        size = range_size(digest, offset, limit)
        blob = self.read_one(digest)
        return None if blob is None else _MemoryReader(blob[offset : offset + size])

    def begin_write(self, digest: Digest) -> BlobWriter:
        check_digest(digest)
        return _MemoryWriter(digest, self._blobs)

    def forget(self, digest: Digest) -> None:
        """Loses a blob, as an eviction would."""
        if digest.size_bytes:
            self._blobs.pop(digest_key(digest), None)


class _MemoryReader(BlobReader):
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def __next__(self) -> bytes:
        chunk = self._data[self._position : self._position + MAX_CHUNK_BYTES]
        if not chunk:
            raise StopIteration
        self._position += len(chunk)
        return chunk

    def close(self) -> None:
        self._data = b""


class _MemoryWriter(BlobWriter):
    def __init__(self, digest: Digest, blobs: dict[str, bytes]) -> None:
        self._digest = digest
        self._blobs = blobs
        self._data = bytearray()

    @property
    def committed(self) -> int:
        return len(self._data)

    def write(self, data: bytes) -> None:
        if len(self._data) + len(data) > self._digest.size_bytes:
            raise too_much(self._digest)
        self._data += data

    def commit(self) -> None:
        data = bytes(self._data)
        check_content(self._digest, data)
        self._blobs[digest_key(self._digest)] = data

    def abort(self) -> None:
        self._data.clear()


class MemoryActionCache(ActionCacheABC):
    """Unbounded, gone with the process."""

    def __init__(self, *, allow_updates: bool = True) -> None:
        self._allow_updates = allow_updates
        self._results: dict[tuple[str, str], bytes] = {}
        self._lock = threading.Lock()

    @property
    def allow_updates(self) -> bool:
        return self._allow_updates

    def get_many(self, instance: str, digests: list[Digest]) -> list[ActionResult | None]:
        with self._lock:
            found = [self._results.get((instance, digest_key(digest))) for digest in digests]
        return [None if data is None else ActionResult.FromString(data) for data in found]

    def update_many(self, instance: str, entries: list[tuple[Digest, ActionResult]]) -> None:
        with self._lock:
            for digest, result in entries:
                self._results[instance, digest_key(digest)] = result.SerializeToString()


def _keys(digests: Iterable[Digest]) -> Iterable[str]:
    for digest in digests:
        check_digest(digest)
        yield digest_key(digest)
