"""Readers of blobs that come in pieces from elsewhere."""

import hashlib
from collections.abc import Generator

from buildgrid_client.digests import digest_key
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Digest

from buildgrid_scheduler.core.errors import DataLoss
from buildgrid_scheduler.storage.abc import MAX_CHUNK_BYTES, BlobReader


class BytesReader(BlobReader):
    """A range that is in memory already."""

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


class PiecesReader(BlobReader):
    """A range that arrives while it is read: pieces of any size from a generator, handed on in chunks.

    `close` closes the generator.
    """

    def __init__(self, pieces: Generator[bytes]) -> None:
        self._pieces = pieces
        self._left = memoryview(b"")

    def __next__(self) -> bytes:
        while not self._left:
            self._left = memoryview(next(self._pieces))
        chunk, self._left = self._left[:MAX_CHUNK_BYTES], self._left[MAX_CHUNK_BYTES:]
        return bytes(chunk)

    def close(self) -> None:
        self._left = memoryview(b"")
        self._pieces.close()


class VerifiedReader(BlobReader):
    """A whole blob, verified while it passes: the last chunk is held back until the hash is known.

    So nobody ever gets all the bytes of a blob that is not the blob. Raises DataLoss instead.
    """

    def __init__(self, digest: Digest, reader: BlobReader, where: str) -> None:
        self._digest = digest
        self._reader = reader
        self._where = where
        self._hash = hashlib.sha256()
        self._received = 0

    def __next__(self) -> bytes:
        chunk = next(self._reader, b"")
        self._received += len(chunk)
        self._hash.update(chunk)
        if not chunk and self._received == self._digest.size_bytes:
            raise StopIteration  # verified with the chunk before
        if not chunk or self._received >= self._digest.size_bytes:
            actual = f"{self._hash.hexdigest()}/{self._received}"
            if actual != digest_key(self._digest):
                raise damaged(self._digest, self._where, actual)
        return chunk

    def close(self) -> None:
        self._reader.close()


def damaged(digest: Digest, where: str, actual: str) -> DataLoss:
    """The error for a blob whose stored content is another than its digest says."""
    return DataLoss(
        f"blob {digest_key(digest)} is damaged in {where}: its content there is {actual}; delete it there"
    )
