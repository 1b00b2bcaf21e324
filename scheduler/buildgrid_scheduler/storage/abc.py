"""The content-addressable storage, as the rest of the server sees it.

Synchronous and thread-safe: services call it from a thread pool. Blobs are named by SHA-256 digests; results
are keyed `HASH/SIZE` (`digest_key`), because messages are not hashable. Digests that are malformed are an
InvalidArgument from every method. The empty blob exists in every storage, always. What an outage of the
storage means to a caller is Unavailable; that there is no room, ResourceExhausted.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

from buildgrid_client.digests import EMPTY_HASH, digest_key, digest_of, digest_problem
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Digest

from buildgrid_scheduler.core.errors import InvalidArgument, OutOfRange, SchedulerError

# The largest piece that a reader yields, in bytes.
MAX_CHUNK_BYTES = 1024 * 1024


class BlobReader(ABC, Iterator[bytes]):
    """An open blob: chunks of 1 byte to 1 MiB. Stays readable when the blob is evicted meanwhile.

    A context manager; whoever got one closes it. One thread at a time.
    """

    @abstractmethod
    def __next__(self) -> bytes:
        """The next chunk; StopIteration at the end of the range."""

    @abstractmethod
    def close(self) -> None:
        """Lets go of the blob. May be called more than once."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class BlobWriter(ABC):
    """An upload under way: nobody sees the blob before `commit` has verified it.

    Holds memory or a file until `commit` or `abort`, and may wait between two writes for as long as its owner
    likes: that is how an upload is resumed. One thread at a time.
    """

    @property
    @abstractmethod
    def committed(self) -> int:
        """Bytes taken so far."""

    @abstractmethod
    def write(self, data: bytes) -> None:
        """Appends. InvalidArgument when that is more than the digest's size, ResourceExhausted when full.

        After an error the writer can only be aborted.
        """

    @abstractmethod
    def commit(self) -> None:
        """Verifies size and hash and makes the blob visible. Ends the writer, whatever comes of it.

        InvalidArgument when the content is not that of the digest: then nothing is stored.
        """

    @abstractmethod
    def abort(self) -> None:
        """Forgets what was written. Without effect after `commit` or another `abort`."""


class StorageABC(ABC):
    """Blobs by digest."""

    def start(self) -> None:  # noqa: B027 - most storages have nothing to do
        """Makes the storage ready; called once, before anything else."""

    def stop_waiting(self) -> None:  # noqa: B027
        """Ends waits for a storage that is away: the calls that wait, and all that would, raise Unavailable.

        Called from any thread, when the server begins to stop: its calls end, and their clients go elsewhere.
        Everything else goes on as before until `stop`.
        """

    def stop(self) -> None:  # noqa: B027
        """Lets go of threads, files and connections. Ends waits, too."""

    def usage(self) -> tuple[int, int] | None:
        """Bytes of local disk that blobs take and may take; None where there is no such bound."""
        return None

    @abstractmethod
    def has_many(self, digests: Iterable[Digest]) -> set[str]:
        """The keys of those that are here. They count as just used: they are the last to be evicted."""

    @abstractmethod
    def read_many(self, digests: Iterable[Digest]) -> dict[str, bytes]:
        """The contents of those that are here, by key. The caller bounds their sum."""

    def read_one(self, digest: Digest) -> bytes | None:
        """The content of one blob, None if it is not here."""
        return self.read_many([digest]).get(digest_key(digest))

    def read_recent(self, digest: Digest) -> bytes | None:
        """The content of a blob that happens to be in memory, without blocking; None says nothing."""
        return None

    @abstractmethod
    def stream_read(self, digest: Digest, offset: int = 0, limit: int = 0) -> BlobReader | None:
        """The bytes from `offset` on, at most `limit` of them (0: all). None if the blob is not here.

        OutOfRange for an offset that is negative or beyond the end, InvalidArgument for a negative limit.
        An offset at the end yields nothing.
        """

    @abstractmethod
    def begin_write(self, digest: Digest) -> BlobWriter:
        """Starts an upload of a blob, whether or not it is here already."""

    def stream_write(self, digest: Digest, chunks: Iterable[bytes]) -> None:
        """Stores one blob. InvalidArgument when the chunks are not the digest's: nothing is stored then."""
        writer = self.begin_write(digest)
        try:
            for chunk in chunks:
                writer.write(chunk)
            writer.commit()
        finally:
            writer.abort()

    def write_many(self, blobs: list[tuple[Digest, bytes]]) -> list[SchedulerError | None]:
        """Stores each blob by itself: one result each, in order, None for success."""
        results: list[SchedulerError | None] = []
        for digest, data in blobs:
            try:
                self._write_one(digest, data)
            except SchedulerError as error:
                results.append(error)
            else:
                results.append(None)
        return results

    def _write_one(self, digest: Digest, data: bytes) -> None:
        self.stream_write(digest, (data,))


def check_digest(digest: Digest) -> None:
    """Raises InvalidArgument for a digest that cannot name a blob.

    The empty hash with another size is malformed as well, since the empty blob is never looked up.
    """
    if problem := digest_problem(digest):
        raise InvalidArgument(f"digest: {problem}")
    if (digest.hash == EMPTY_HASH) != (digest.size_bytes == 0):
        raise InvalidArgument(f"digest: {digest_key(digest)} pairs a hash and a size that exclude each other")


def check_content(digest: Digest, data: bytes) -> None:
    """Raises InvalidArgument unless the digest is that of the data."""
    check_digest(digest)
    actual = digest_of(data)
    if actual != digest:
        raise wrong_content(digest, digest_key(actual))


def wrong_content(digest: Digest, actual: str) -> InvalidArgument:
    """The error for content whose key is another than promised."""
    return InvalidArgument(f"blob {digest_key(digest)}: the content received is {actual}")


def too_much(digest: Digest) -> InvalidArgument:
    """The error for an upload that went beyond the size in its digest."""
    return InvalidArgument(f"blob {digest_key(digest)}: more than {digest.size_bytes} bytes were sent")


def range_size(digest: Digest, offset: int, limit: int) -> int:
    """How many bytes a read of this range yields; the errors are those of `StorageABC.stream_read`."""
    check_digest(digest)
    if limit < 0:
        raise InvalidArgument(f"read_limit is {limit}, must not be negative; 0 reads to the end")
    if not 0 <= offset <= digest.size_bytes:
        raise OutOfRange(f"read_offset is {offset}, the blob has {digest.size_bytes} bytes")
    rest = digest.size_bytes - offset
    return min(limit, rest) if limit else rest
