"""A ByteStream service that breaks where a test wants it to."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import zstandard
from buildgrid_protos.google.bytestream.bytestream_pb2 import (
    QueryWriteStatusRequest,
    QueryWriteStatusResponse,
    ReadRequest,
    ReadResponse,
    WriteRequest,
    WriteResponse,
)
from buildgrid_protos.google.bytestream.bytestream_pb2_grpc import ByteStreamServicer

Context = grpc.aio.ServicerContext[Any, Any]
PIECE = 100_000


class BreakingByteStream(ByteStreamServicer):
    """`sent` is what reads send: at most `cuts[0]` bytes of it, then the stream breaks, while there are cuts.

    Writes are collected by name in `uploads`, uncompressed; each takes at most `cuts[0]` bytes more,
    likewise. `forget`: at the next resumption, another replica answers that knows nothing of the upload.
    """

    def __init__(self, sent: bytes = b"", cuts: tuple[int, ...] = ()) -> None:
        self.sent = sent
        self.cuts = list(cuts)
        self.forget = False
        self.reads: list[ReadRequest] = []
        self.write_offsets: list[int] = []
        self.uploads: dict[str, bytearray] = {}
        self.finished: dict[str, bytes] = {}
        self.committed_size: int | None = None

    async def Read(  # noqa: N802
        self, request: ReadRequest, context: Context
    ) -> AsyncIterator[ReadResponse]:
        self.reads.append(request)
        data = self.sent[request.read_offset :]
        if request.read_limit:
            data = data[: request.read_limit]
        left = self.cuts.pop(0) if self.cuts else None
        for start in range(0, len(data), PIECE):
            if left is not None and start >= left:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
            yield ReadResponse(data=data[start : start + PIECE])

    async def Write(  # noqa: N802
        self, requests: AsyncIterator[WriteRequest], context: Context
    ) -> WriteResponse:
        name, end, left = "", 0, self.cuts.pop(0) if self.cuts else None
        async for request in requests:
            if not name:
                name = request.resource_name
                self.write_offsets.append(request.write_offset)
                if request.write_offset and self.forget:
                    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "write_offset must be 0")
                upload = self.uploads.setdefault(name, bytearray())
                end = len(upload)
                frame = zstandard.ZstdDecompressor().decompressobj()  # each call brings one of its own
                unpack = frame.decompress if "/zstd/" in name else bytes
            if request.write_offset != end:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"must be {end}")
            upload += unpack(request.data)
            end += len(request.data)
            if left is not None and len(upload) >= left:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "cut")
            if request.finish_write:
                self.finished[name] = bytes(upload)
        size = end if self.committed_size is None else self.committed_size
        return WriteResponse(committed_size=size)

    async def QueryWriteStatus(  # noqa: N802
        self, request: QueryWriteStatusRequest, context: Context
    ) -> QueryWriteStatusResponse:
        upload = self.uploads.get(request.resource_name)
        if upload is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such upload")
        return QueryWriteStatusResponse(committed_size=len(upload or b""))
