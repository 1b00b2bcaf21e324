"""ByteStream for blobs (REAPI, ContentAddressableStorage): streams in both directions, plain or ZSTD."""

from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Executor

from buildgrid_protos.google.bytestream.bytestream_pb2 import (
    QueryWriteStatusRequest,
    QueryWriteStatusResponse,
    ReadRequest,
    ReadResponse,
    WriteRequest,
    WriteResponse,
)
from buildgrid_protos.google.bytestream.bytestream_pb2_grpc import ByteStreamServicer

from buildgrid_scheduler.auth.policy import Right
from buildgrid_scheduler.core.errors import InvalidArgument, NotFound
from buildgrid_scheduler.services.blocking import Blocking
from buildgrid_scheduler.services.errors import Context, rpc, streaming_rpc
from buildgrid_scheduler.services.instances import Instances
from buildgrid_scheduler.services.limits import STREAM_CHUNK_BYTES
from buildgrid_scheduler.services.resource_names import (
    UploadName,
    parse_blob_name,
    parse_upload_name,
)
from buildgrid_scheduler.services.uploads import Upload, Uploads
from buildgrid_scheduler.storage.abc import StorageABC, range_size
from buildgrid_scheduler.storage.zstd import compressed


class ByteStreamService(ByteStreamServicer):
    """Storage calls, hashing and compression run on the executor's threads.

    What a stream holds is bounded, however large the blob and slow the peer (see `STREAM_CHUNK_BYTES`): the
    next chunk is read from disk, or from the network, when gRPC has taken the one before.
    """

    def __init__(
        self,
        storage: StorageABC,
        instances: Instances,
        executor: Executor,
        *,
        upload_idle_seconds: float = 600,
    ) -> None:
        self._storage = storage
        self._instances = instances
        self._blocking = Blocking(executor)
        self._uploads = Uploads(storage, self._blocking, upload_idle_seconds)

    def close(self) -> None:
        """Forgets uploads that wait to be resumed.

        Call it on the event loop, when the server has stopped and the executor has not.
        """
        self._uploads.drop_parked()

    @streaming_rpc
    async def Read(self, request: ReadRequest, context: Context) -> AsyncIterator[ReadResponse]:
        """The blob, or a range of it; the offset counts uncompressed bytes, compressed ones know no limit."""
        name = parse_blob_name(request.resource_name)
        self._instances.check(name.instance, Right.CACHE_READ)
        offset, limit = request.read_offset, request.read_limit
        if limit and name.zstd:
            raise InvalidArgument(f"read_limit is {limit}, must be 0 for compressed-blobs")
        size = range_size(name.digest, offset, limit)
        reader = await self._blocking(self._storage.stream_read, name.digest, offset, limit)
        if reader is None:
            raise NotFound(f"blob {name.key} is not here")
        with reader:
            chunks: Iterator[bytes] = compressed(reader, size) if name.zstd else reader
            while (chunk := await self._blocking(next, chunks, None)) is not None:
                answer = ReadResponse(data=chunk)
                del chunk  # a peer that does not read leaves us waiting here
                yield answer

    @rpc
    async def Write(self, request_iterator: AsyncIterator[WriteRequest], context: Context) -> WriteResponse:
        """Stores a blob. Ends early, without reading on, when it is here already."""
        first = await anext(aiter(request_iterator), None)
        if first is None:
            raise InvalidArgument("the stream holds no WriteRequest")
        name = parse_upload_name(first.resource_name)
        self._instances.check(name.blob.instance, Right.CAS_WRITE)
        if await self._is_here(name):
            # REAPI: -1 for compressed uploads, whose size we cannot know.
            return WriteResponse(committed_size=-1 if name.blob.zstd else name.blob.size)
        upload = await self._uploads.open(name, first.write_offset)
        try:
            return WriteResponse(committed_size=await self._receive(upload, first, request_iterator))
        finally:
            self._uploads.put_back(upload)

    @rpc
    async def QueryWriteStatus(
        self, request: QueryWriteStatusRequest, context: Context
    ) -> QueryWriteStatusResponse:
        """How much of the blob has arrived, uncompressed.

        0 for an upload that we know nothing of, from where it can always start.
        """
        name = parse_upload_name(request.resource_name)
        self._instances.check(name.blob.instance, Right.CAS_WRITE)
        if await self._is_here(name):
            return QueryWriteStatusResponse(committed_size=name.blob.size, complete=True)
        return QueryWriteStatusResponse(committed_size=self._uploads.committed(name) or 0)

    async def _receive(self, upload: Upload, first: WriteRequest, rest: AsyncIterator[WriteRequest]) -> int:
        """Writes what comes, and stores the blob when the client says that this was all.

        Returns the offset after the last byte. For ZSTD that is, as REAPI has it, where in the blob this call
        began plus the compressed bytes that it took; and where to go on, when the blob is not complete.

        Clients send pieces of 16 KiB and up: they are gathered into chunks, since each write is a hop to a
        thread. What is still being gathered when the stream breaks is not committed, and sent again.
        """
        gathered: list[bytes] = []
        size = 0
        expected = first.write_offset
        request: WriteRequest | None = first
        named = first.resource_name
        while request is not None:
            if request.resource_name not in ("", named):
                raise InvalidArgument("resource_name differs from that of the stream's first WriteRequest")
            if request.write_offset != expected:
                raise InvalidArgument(f"write_offset is {request.write_offset}, must be {expected}")
            if request.data:
                gathered.append(request.data)
                size += len(request.data)
                expected += len(request.data)
            if size >= STREAM_CHUNK_BYTES or request.finish_write:
                await self._write(upload, gathered, finish=request.finish_write)
                gathered, size = [], 0
            if request.finish_write:
                return expected
            request = await anext(rest, None)
        await self._write(upload, gathered, finish=False)
        return upload.writer.committed

    async def _write(self, upload: Upload, data: list[bytes], *, finish: bool) -> None:
        def write() -> None:
            try:
                upload.writer.write(b"".join(data))
                if finish:
                    upload.writer.commit()
                    upload.is_over = True
            except BaseException:
                # Too much, or not what the digest says, or no room: nothing to resume.
                upload.is_over = True
                raise

        await self._blocking(write)

    async def _is_here(self, name: UploadName) -> bool:
        return bool(await self._blocking(self._storage.has_many, [name.blob.digest]))
