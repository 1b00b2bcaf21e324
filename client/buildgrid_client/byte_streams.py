"""Blobs that are too large for a batch, through ByteStream: verified, and resumed after an interruption."""

import asyncio
import hashlib
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import BinaryIO, Protocol

import grpc
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Digest
from buildgrid_protos.google.bytestream.bytestream_pb2 import (
    QueryWriteStatusRequest,
    ReadRequest,
    WriteRequest,
)
from buildgrid_protos.google.bytestream.bytestream_pb2_grpc import ByteStreamStub

from buildgrid_client.digests import digest_key
from buildgrid_client.errors import BlobCorrupt, BlobsMissing

CHUNK_BYTES = 1 << 20
# A stream that moves less than this many bytes a second is taken for dead.
SLOWEST_BYTES_PER_SECOND = 256 << 10

# What servers say to an upload that they do not know of (any more).
_UPLOAD_LOST = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.FAILED_PRECONDITION,
    }
)


class Retrying(Protocol):
    """Repeats a call as the owner's policy says; `progress` counts what has got through, in bytes."""

    def __call__(
        self, what: str, call: Callable[[], Awaitable[None]], progress: Callable[[], int], /
    ) -> Awaitable[None]: ...


def stream_deadline(size_bytes: int) -> float:
    """Seconds that moving so many bytes may take."""
    return 60.0 + size_bytes / SLOWEST_BYTES_PER_SECOND


class ByteStreams:
    """Reads and writes of single blobs."""

    def __init__(self, channel: grpc.aio.Channel, instance_name: str, retrying: Retrying) -> None:
        self._stub = ByteStreamStub(channel)
        self._prefix = f"{instance_name}/" if instance_name else ""
        self._retrying = retrying

    async def read(self, digest: Digest, sink: BinaryIO) -> None:
        """Appends the blob to `sink`. Raises BlobsMissing; BlobCorrupt when its bytes are others."""
        key = digest_key(digest)
        hasher = hashlib.sha256()
        received = 0

        async def attempt() -> None:
            nonlocal received
            if received and received == digest.size_bytes:
                return
            request = ReadRequest(resource_name=f"{self._prefix}blobs/{key}", read_offset=received)
            call = self._stub.Read(request, timeout=stream_deadline(digest.size_bytes - received))
            try:
                async for response in call:
                    received += len(response.data)
                    if received > digest.size_bytes:
                        raise BlobCorrupt(f"blob {key} came with more than {digest.size_bytes} bytes")
                    # Hashing and writing release the interpreter for chunks of this size, but still take
                    # a millisecond that the event loop should not lose.
                    await asyncio.to_thread(_consume, hasher.update, sink, response.data)
            except grpc.aio.AioRpcError as error:
                if error.code() == grpc.StatusCode.NOT_FOUND:
                    raise BlobsMissing([key]) from error
                raise
            finally:
                call.cancel()

        await self._retrying(f"read blob {key}", attempt, lambda: received)
        if received != digest.size_bytes or hasher.hexdigest() != digest.hash:
            raise BlobCorrupt(f"blob {key} came with {received} bytes of hash {hasher.hexdigest()}")

    async def write(self, digest: Digest, source: BinaryIO) -> None:
        """Sends the blob that `source` (seekable) holds. A retry goes on where the server says it stopped."""
        name = self._new_upload(digest)
        pieces = _Pieces(source)
        started = False
        furthest = 0

        async def attempt() -> None:
            nonlocal name, started, furthest
            offset = await self._committed(name) if started else 0
            furthest = max(furthest, offset)
            started = True
            if offset == digest.size_bytes and offset:
                return
            try:
                await send(offset)
            except grpc.aio.AioRpcError as error:
                if not offset or error.code() not in _UPLOAD_LOST:
                    raise
                # Another replica answers than the one that told the offset: from the beginning, then.
                name = self._new_upload(digest)
                await send(0)

        async def send(offset: int) -> None:
            response = await self._stub.Write(
                _write_requests(name, pieces, offset, digest.size_bytes),
                timeout=stream_deadline(digest.size_bytes),
            )
            # A server that has the blob already answers early; -1 is what some say for compressed streams.
            if response.committed_size not in (digest.size_bytes, -1):
                raise BlobCorrupt(
                    f"the server took {response.committed_size} bytes of blob {digest_key(digest)}"
                )

        try:
            await self._retrying(f"write blob {digest_key(digest)}", attempt, lambda: furthest)
        finally:
            pieces.stop()

    def _new_upload(self, digest: Digest) -> str:
        return f"{self._prefix}uploads/{uuid.uuid4()}/blobs/{digest_key(digest)}"

    async def _committed(self, name: str) -> int:
        try:
            status = await self._stub.QueryWriteStatus(
                QueryWriteStatusRequest(resource_name=name), timeout=60
            )
        except grpc.aio.AioRpcError as error:
            # Nothing arrived, another replica answers that has no part of it, or uploads cannot be resumed.
            if error.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED):
                return 0
            raise
        return status.committed_size


async def download_to(streams: ByteStreams, digest: Digest, path: Path) -> None:
    """The blob as a file, which appears whole or not at all."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with partial.open("xb") as sink:
            await streams.read(digest, sink)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _consume(update: Callable[[bytes], None], sink: BinaryIO, data: bytes) -> None:
    update(data)
    sink.write(data)


class _Pieces:
    """Reads a source for several tries of one upload.

    gRPC may go on to ask for the messages of a call that has failed, for a moment: neither may that move the
    position at which the next try reads, nor touch the source when its owner has closed it.
    """

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._stopped = False

    def read(self, offset: int) -> bytes:
        """Up to a chunk from the offset on; nothing once stopped."""
        with self._lock:
            if self._stopped:
                return b""
            self._source.seek(offset)
            return self._source.read(CHUNK_BYTES)

    def stop(self) -> None:
        """The source belongs to its owner again."""
        with self._lock:
            self._stopped = True


async def _write_requests(
    name: str, pieces: _Pieces, offset: int, size_bytes: int
) -> AsyncIterator[WriteRequest]:
    while True:
        data = await asyncio.to_thread(pieces.read, offset)
        finish = offset + len(data) >= size_bytes or not data
        yield WriteRequest(resource_name=name, write_offset=offset, data=data, finish_write=finish)
        if finish:
            return
        # REAPI: the name is needed only in the first message.
        name = ""
        offset += len(data)
