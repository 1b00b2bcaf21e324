"""What storages across the network have in common: uploads are spooled, reads verified."""

import io
from abc import abstractmethod
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import IO

from buildgrid_client.digests import digest_key, digest_of
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Digest

from buildgrid_scheduler.storage.abc import (
    MAX_CHUNK_BYTES,
    BlobReader,
    BlobWriter,
    StorageABC,
    check_content,
    check_digest,
    range_size,
)
from buildgrid_scheduler.storage.outages import Outages
from buildgrid_scheduler.storage.readers import BytesReader, PiecesReader, VerifiedReader, damaged
from buildgrid_scheduler.storage.spool import SpoolWriter


class NetworkStorage(StorageABC):
    """Implementations get digests that are well-formed, distinct, and not that of the empty blob.

    Blobs of up to 1 MiB (`MAX_CHUNK_BYTES`) are read whole and verified before anybody sees a byte, larger
    ones while they pass, and parts of larger ones not at all: whoever asks for a part knows that. `spool` is
    the folder for uploads under way, made if need be; None: the system's folder for temporary files.
    """

    def __init__(self, outages: Outages, spool: Path | None) -> None:
        self._outages = outages
        self._spool = spool

    def start(self) -> None:
        if self._spool is not None:
            self._spool.mkdir(parents=True, exist_ok=True)
        self._outages.start()

    def stop_waiting(self) -> None:
        self._outages.stop_waiting()

    def stop(self) -> None:
        self._outages.stop()

    @abstractmethod
    def _present(self, digests: list[Digest]) -> set[str]:
        """The keys of those that are there, refreshed."""

    @abstractmethod
    def _contents(self, digests: list[Digest]) -> dict[str, bytes]:
        """The contents of those that are there, by key, verified."""

    @abstractmethod
    def _pieces(self, digest: Digest, offset: int, size: int) -> Generator[bytes] | None:
        """A range of a blob of more than 1 MiB, None if that is not there.

        A generator: closing it ends the transfer. Never more than `size` bytes (at least 1) in all, and
        fewer only with an error.
        """

    @abstractmethod
    def _send(self, digest: Digest, source: IO[bytes]) -> None:
        """Stores a blob; the source (seekable) is at its beginning, and was verified."""

    def has_many(self, digests: Iterable[Digest]) -> set[str]:
        asked, found = _distinct(digests)
        if asked:
            found |= self._present(asked)
        return found

    def read_many(self, digests: Iterable[Digest]) -> dict[str, bytes]:
        asked, empty = _distinct(digests)
        blobs = dict.fromkeys(empty, b"")
        if asked:
            blobs.update(self._contents(asked))
        return blobs

    def stream_read(self, digest: Digest, offset: int = 0, limit: int = 0) -> BlobReader | None:
        size = range_size(digest, offset, limit)
        if digest.size_bytes <= MAX_CHUNK_BYTES:
            blob = self.read_one(digest)
            return None if blob is None else BytesReader(blob[offset : offset + size])
        if not size:
            return BytesReader(b"") if self.has_many([digest]) else None
        pieces = self._pieces(digest, offset, size)
        if pieces is None:
            return None
        reader = PiecesReader(pieces)
        return VerifiedReader(digest, reader, self._outages.name) if size == digest.size_bytes else reader

    def begin_write(self, digest: Digest) -> BlobWriter:
        return SpoolWriter(digest, self._send, self._spool)

    def _write_one(self, digest: Digest, data: bytes) -> None:
        check_content(digest, data)
        if data:
            self._send(digest, io.BytesIO(data))

    def _check_received(self, digest: Digest, data: bytes) -> None:
        """Raises DataLoss unless the storage has sent what the digest says."""
        actual = digest_of(data)
        if actual != digest:
            raise damaged(digest, self._outages.name, digest_key(actual))


def _distinct(digests: Iterable[Digest]) -> tuple[list[Digest], set[str]]:
    """Those to ask for, and the key of the empty blob if it is among them."""
    asked: dict[str, Digest] = {}
    for digest in digests:
        check_digest(digest)
        asked[digest_key(digest)] = digest
    empty = {key for key, digest in asked.items() if not digest.size_bytes}
    return [digest for key, digest in asked.items() if key not in empty], empty
