"""Blobs that are too large for a batch, through ByteStream: verified, and resumed after an interruption."""

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import BinaryIO

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

Retrying = Callable[[str, Callable[[], Awaitable[None]]], Awaitable[None]]


def stream_deadline(size_bytes: int) -> float:
    """Seconds that moving so many bytes may take."""
    return 60.0 + size_bytes / SLOWEST_BYTES_PER_SECOND


class ByteStreams:
    """Reads and writes of single blobs. `retrying(what, call)` repeats a call as the owner's policy says."""

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

        await self._retrying(f"read blob {key}", attempt)
        if received != digest.size_bytes or hasher.hexdigest() != digest.hash:
            raise BlobCorrupt(f"blob {key} came with {received} bytes of hash {hasher.hexdigest()}")

    async def write(self, digest: Digest, source: BinaryIO) -> None:
        """Sends the blob that `source` (seekable) holds. A retry goes on where the server says it stopped."""
        name = f"{self._prefix}uploads/{uuid.uuid4()}/blobs/{digest_key(digest)}"
        started = False

        async def attempt() -> None:
            nonlocal started
            offset = await self._committed(name) if started else 0
            started = True
            if offset == digest.size_bytes and offset:
                return
            response = await self._stub.Write(
                _write_requests(name, source, offset, digest.size_bytes),
                timeout=stream_deadline(digest.size_bytes),
            )
            # A server that has the blob already answers early; -1 is what some say for compressed streams.
            if response.committed_size not in (digest.size_bytes, -1):
                raise BlobCorrupt(
                    f"the server took {response.committed_size} bytes of blob {digest_key(digest)}"
                )

        await self._retrying(f"write blob {digest_key(digest)}", attempt)

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


async def _write_requests(
    name: str, source: BinaryIO, offset: int, size_bytes: int
) -> AsyncIterator[WriteRequest]:
    source.seek(offset)
    while True:
        data = await asyncio.to_thread(source.read, CHUNK_BYTES)
        finish = offset + len(data) >= size_bytes or not data
        yield WriteRequest(resource_name=name, write_offset=offset, data=data, finish_write=finish)
        if finish:
            return
        # REAPI: the name is needed only in the first message.
        name = ""
        offset += len(data)
