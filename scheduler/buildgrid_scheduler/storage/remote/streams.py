"""Large blobs through another server's ByteStream: resumed where they broke, plain or ZSTD.

REAPI, ContentAddressableStorage: offsets count uncompressed bytes, to which a write adds what it has sent;
`compressed-blobs` know no read_limit, so a part that ends before the blob does travels plain.
"""

import threading
import uuid
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from typing import IO

import grpc
import zstandard
from buildgrid_client.byte_streams import CHUNK_BYTES, stream_deadline
from buildgrid_client.digests import digest_key
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Digest
from buildgrid_protos.google.bytestream.bytestream_pb2 import (
    QueryWriteStatusRequest,
    ReadRequest,
    ReadResponse,
    WriteRequest,
    WriteResponse,
)

from buildgrid_scheduler.core.errors import Unavailable
from buildgrid_scheduler.storage.outages import Attempts, CallFailed
from buildgrid_scheduler.storage.remote.connection import RemoteConnection, failure_of
from buildgrid_scheduler.storage.zstd import compressed, decompressed

# What servers say to an upload that they do not know of (any more).
_UPLOAD_LOST = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.FAILED_PRECONDITION,
    }
)


class RemoteStreams:
    """Single blobs of one instance."""

    def __init__(self, connection: RemoteConnection, instance_name: str) -> None:
        self._connection = connection
        self._prefix = f"{instance_name}/" if instance_name else ""

    def read(self, digest: Digest, offset: int, size: int, *, zstd: bool) -> Generator[bytes] | None:
        """A range, `size` (at least 1) bytes in all; None if the blob is not there.

        The pieces raise DataLoss when the server has fewer bytes or more, and Unavailable when the blob
        vanishes in the middle.
        """
        pieces = self._read(digest, offset, size, zstd)
        try:
            next(pieces)
        except _Missing:
            return None
        return pieces

    def _read(self, digest: Digest, offset: int, size: int, zstd: bool) -> Generator[bytes]:
        """As `read`, but yields nothing (b"") once it is known that the blob is there, or raises _Missing."""
        attempts = self._connection.outages.attempts(f"read blob {digest_key(digest)}")
        end = offset + size
        zstd = zstd and end == digest.size_bytes
        name = f"{self._prefix}{_blobs(zstd)}/{digest_key(digest)}"
        position = offset
        while True:
            limit = 0 if end == digest.size_bytes else end - position
            request = ReadRequest(resource_name=name, read_offset=position, read_limit=limit)
            attempts.begin()
            try:
                with closing(self._pieces(request, end - position, zstd)) as pieces:
                    for piece in pieces:
                        if position + len(piece) > end:
                            raise CallFailed(grpc.StatusCode.DATA_LOSS, f"more than {size} bytes came")
                        attempts.progressed()
                        if position == offset:
                            yield b""
                        position += len(piece)
                        yield piece
                if position == end:
                    return
                raise CallFailed(grpc.StatusCode.DATA_LOSS, f"it ended {end - position} bytes early")
            except CallFailed as error:
                failure = error
            if failure.code == grpc.StatusCode.NOT_FOUND:
                if position == offset:
                    raise _Missing
                raise Unavailable(f"blob {digest_key(digest)} was evicted while it was read: ask again")
            attempts.failed(failure)

    def _pieces(self, request: ReadRequest, size: int, zstd: bool) -> Generator[bytes]:
        call = self._connection.guarded(
            lambda stubs, metadata: stubs.bytestream.Read(
                request, timeout=stream_deadline(size), metadata=metadata
            )
        )
        try:
            data = _data(call)
            yield from decompressed(data) if zstd else data
        except zstandard.ZstdError as error:
            raise CallFailed(grpc.StatusCode.DATA_LOSS, f"what came is not valid ZSTD: {error}") from error
        finally:
            call.cancel()

    def write(self, digest: Digest, source: IO[bytes], *, zstd: bool) -> None:
        """Stores the blob that the source (seekable) holds."""
        attempts = self._connection.outages.attempts(f"store blob {digest_key(digest)}")
        name = self._new_upload(digest, zstd)
        furthest = 0
        begun = False
        while True:
            attempts.begin()
            offset = 0
            try:
                if begun:
                    offset, complete = self._write_status(name)
                    if complete:
                        return attempts.succeeded()
                    furthest = _note_progress(attempts, furthest, offset)
                begun = True
                self._write(name, digest, source, offset, zstd)
                return attempts.succeeded()
            except CallFailed as error:
                failure = error
            if failure.code == grpc.StatusCode.ALREADY_EXISTS:
                return attempts.succeeded()
            if offset and failure.code in _UPLOAD_LOST:
                # Another replica answers now, or it came back without its memory.
                name, furthest, begun = self._new_upload(digest, zstd), 0, False
                failure = CallFailed(grpc.StatusCode.INTERNAL, failure.details)
            attempts.failed(failure)

    def _new_upload(self, digest: Digest, zstd: bool) -> str:
        return f"{self._prefix}uploads/{uuid.uuid4()}/{_blobs(zstd)}/{digest_key(digest)}"

    def _write(self, name: str, digest: Digest, source: IO[bytes], offset: int, zstd: bool) -> None:
        requests = _WriteRequests(name, source, offset, digest.size_bytes, zstd)
        try:
            response: WriteResponse = self._connection.guarded(
                lambda stubs, metadata: stubs.bytestream.Write(
                    iter(requests), timeout=stream_deadline(digest.size_bytes), metadata=metadata
                )
            )
        finally:
            requests.stop()
        # REAPI: a server that has the blob already answers early, for ZSTD with -1.
        right = {digest.size_bytes, -1, requests.sent} if zstd else {digest.size_bytes}
        if response.committed_size not in right:
            raise CallFailed(grpc.StatusCode.INTERNAL, f"the server took {response.committed_size} bytes")

    def _write_status(self, name: str) -> tuple[int, bool]:
        try:
            status = self._connection.try_call(
                lambda stubs: stubs.bytestream.QueryWriteStatus, QueryWriteStatusRequest(resource_name=name)
            )
        except CallFailed as failure:
            # Nothing has arrived, or uploads cannot be resumed there.
            if failure.code in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED):
                return 0, False
            raise
        return status.committed_size, status.complete


class _Missing(Exception):
    pass


class _WriteRequests:
    """The messages of one try. gRPC asks for them on a thread of its own, and may do so after its call ended;
    after `stop` the source is not touched any more.
    """

    def __init__(self, name: str, source: IO[bytes], offset: int, size: int, zstd: bool) -> None:
        self.sent = offset
        self._name = name
        self._source = source
        self._size = size
        self._zstd = zstd
        self._stopped = False
        self._lock = threading.Lock()

    def stop(self) -> None:
        with self._lock:
            self._stopped = True

    def __iter__(self) -> Iterator[WriteRequest]:
        pieces = self._wire_pieces()
        piece = next(pieces, b"")
        # REAPI: only the first message needs the name.
        name = self._name
        while not self._stopped:
            following = next(pieces, b"")
            yield WriteRequest(
                resource_name=name, write_offset=self.sent, data=piece, finish_write=not following
            )
            self.sent += len(piece)
            if not following:
                return
            name, piece = "", following

    def _wire_pieces(self) -> Iterator[bytes]:
        """What travels, from the offset on."""
        offset = self.sent
        pieces = self._source_pieces(offset)
        yield from compressed(pieces, self._size - offset) if self._zstd else pieces

    def _source_pieces(self, position: int) -> Iterator[bytes]:
        while True:
            with self._lock:
                if self._stopped:
                    return
                self._source.seek(position)
                piece = self._source.read(CHUNK_BYTES)
            if not piece:
                return
            position += len(piece)
            yield piece


def _data(call: Iterable[ReadResponse]) -> Iterator[bytes]:
    try:
        for response in call:
            if response.data:
                yield response.data
    except grpc.RpcError as error:
        raise failure_of(error) from error


def _note_progress(attempts: Attempts, furthest: int, offset: int) -> int:
    if offset > furthest:
        attempts.progressed()
    return max(furthest, offset)


def _blobs(zstd: bool) -> str:
    return "compressed-blobs/zstd" if zstd else "blobs"
