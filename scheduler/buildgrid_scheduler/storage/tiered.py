"""A small disk in front of a storage that is elsewhere.

The storage behind is the truth. The disk holds copies of what passed, so that inputs that many bots want
cross the network once: writes go to both, reads fill it. It never says that a blob is there, since other
replicas could not read what only this one has; and when it is full or broken, everything goes on without it.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TypeVar

from buildgrid_client.digests import digest_key
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Digest

from buildgrid_scheduler.core.errors import InvalidArgument, SchedulerError
from buildgrid_scheduler.storage.abc import BlobReader, BlobWriter, StorageABC, check_digest, range_size
from buildgrid_scheduler.storage.confirmed import ConfirmedBlobs

DEFAULT_CONFIRMED = timedelta(seconds=30)
# A tier that fails is told once in so many seconds, not for each blob.
_LOG_INTERVAL = 60.0

T = TypeVar("T")
_log = logging.getLogger(__name__)


class TieredStorage(StorageABC):
    """`tier` before `behind`. Both are started and stopped with this one.

    What `behind` has said to hold is believed for `confirmed_for` without asking again; within that time a
    blob that is evicted there is missed, and no use of it is noted there. Zero: it is always asked.
    """

    def __init__(
        self,
        tier: StorageABC,
        behind: StorageABC,
        *,
        confirmed_for: timedelta = DEFAULT_CONFIRMED,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tier = tier
        self._behind = behind
        self._confirmed = ConfirmedBlobs(confirmed_for, clock=clock)
        self._clock = clock
        self._log_lock = threading.Lock()
        self._log_at = float("-inf")

    def start(self) -> None:
        self._tier.start()
        try:
            self._behind.start()
        except BaseException:
            self._tier.stop()
            raise

    def stop(self) -> None:
        self._behind.stop()
        self._tier.stop()

    def stop_waiting(self) -> None:
        self._behind.stop_waiting()

    def usage(self) -> tuple[int, int] | None:
        return self._tier.usage()

    def has_many(self, digests: Iterable[Digest]) -> set[str]:
        asked: dict[str, Digest] = {}
        for digest in digests:
            check_digest(digest)
            asked[digest_key(digest)] = digest
        present = self._confirmed.among(asked)
        rest = [digest for key, digest in asked.items() if key not in present]
        if rest:
            found = self._behind.has_many(rest)
            self._confirmed.add(found)
            present |= found
        return present

    def read_many(self, digests: Iterable[Digest]) -> dict[str, bytes]:
        asked = {digest_key(digest): digest for digest in digests}
        blobs = self._from_tier(lambda: self._tier.read_many(asked.values())) or {}
        rest = [digest for key, digest in asked.items() if key not in blobs]
        if rest:
            found = self._behind.read_many(rest)
            self._noted(rest, found.keys())
            copies = [(asked[key], blob) for key, blob in found.items()]
            self._to_tier(lambda: self._tier.write_many(copies))
            blobs.update(found)
        return blobs

    def stream_read(self, digest: Digest, offset: int = 0, limit: int = 0) -> BlobReader | None:
        size = range_size(digest, offset, limit)
        reader = self._from_tier(lambda: self._tier.stream_read(digest, offset, limit))
        if reader is not None:
            return reader
        reader = self._behind.stream_read(digest, offset, limit)
        self._noted([digest], () if reader is None else (digest_key(digest),))
        if reader is None or size < digest.size_bytes or not size:
            return reader
        writer = self._from_tier(lambda: self._tier.begin_write(digest))
        return reader if writer is None else _FillingReader(reader, writer, self._failed)

    def begin_write(self, digest: Digest) -> BlobWriter:
        writer = self._behind.begin_write(digest)
        copy = self._from_tier(lambda: self._tier.begin_write(digest))
        return _BothWriter(writer, copy, self._failed, lambda: self._confirmed.add((digest_key(digest),)))

    def write_many(self, blobs: list[tuple[Digest, bytes]]) -> list[SchedulerError | None]:
        results = self._behind.write_many(blobs)
        stored = [blob for blob, error in zip(blobs, results, strict=True) if error is None]
        self._confirmed.add(digest_key(digest) for digest, _ in stored)
        self._to_tier(lambda: self._tier.write_many(stored))
        return results

    def _noted(self, asked: Iterable[Digest], found: Iterable[str]) -> None:
        here = set(found)
        self._confirmed.add(here)
        for digest in asked:
            if digest_key(digest) not in here:
                self._confirmed.discard(digest_key(digest))

    def _from_tier(self, call: Callable[[], T | None]) -> T | None:
        """What the tier has; None when it has nothing, or fails."""
        try:
            return call()
        except InvalidArgument:
            raise
        except (SchedulerError, OSError) as error:
            self._failed(error)
            return None

    def _to_tier(self, call: Callable[[], list[SchedulerError | None]]) -> None:
        errors = self._from_tier(call) or []
        for error in errors:
            if error is not None:
                self._failed(error)
                return

    def _failed(self, error: Exception) -> None:
        with self._log_lock:
            if self._clock() - self._log_at < _LOG_INTERVAL:
                return
            self._log_at = self._clock()
        _log.warning("the disk tier is passed by, blobs come from the storage behind: %s", error)


class _Copy:
    """An upload to the tier, beside something more important: it may fail at any time, and is silent then."""

    def __init__(self, writer: BlobWriter | None, failed: Callable[[Exception], None]) -> None:
        self._writer = writer
        self._failed = failed

    def write(self, data: bytes) -> None:
        self._attempt(lambda writer: writer.write(data))

    def commit(self) -> None:
        self._attempt(lambda writer: writer.commit())
        self._writer = None

    def abort(self) -> None:
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.abort()

    def _attempt(self, call: Callable[[BlobWriter], None]) -> None:
        if self._writer is None:
            return
        try:
            call(self._writer)
        except (SchedulerError, OSError) as error:
            self._failed(error)
            self.abort()


class _FillingReader(BlobReader):
    """Hands on what is read from behind, and keeps a copy of it if it is read to its end."""

    def __init__(self, reader: BlobReader, writer: BlobWriter, failed: Callable[[Exception], None]) -> None:
        self._reader = reader
        self._copy = _Copy(writer, failed)

    def __next__(self) -> bytes:
        try:
            chunk = next(self._reader)
        except StopIteration:
            self._copy.commit()
            raise
        self._copy.write(chunk)
        return chunk

    def close(self) -> None:
        self._reader.close()
        self._copy.abort()


class _BothWriter(BlobWriter):
    """Writes to the storage behind, which decides; the tier gets a copy."""

    def __init__(
        self,
        writer: BlobWriter,
        copy: BlobWriter | None,
        failed: Callable[[Exception], None],
        stored: Callable[[], None],
    ) -> None:
        self._writer = writer
        self._copy = _Copy(copy, failed)
        self._stored = stored

    @property
    def committed(self) -> int:
        return self._writer.committed

    def write(self, data: bytes) -> None:
        try:
            self._writer.write(data)
        except BaseException:
            self._copy.abort()
            raise
        self._copy.write(data)

    def commit(self) -> None:
        try:
            self._writer.commit()
        except BaseException:
            self._copy.abort()
            raise
        self._stored()
        self._copy.commit()

    def abort(self) -> None:
        self._writer.abort()
        self._copy.abort()
