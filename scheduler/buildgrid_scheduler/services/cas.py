"""ContentAddressableStorage (REAPI): small blobs in batches, and directory trees.

All instances share the blobs: a digest is a proof of its content, so sharing costs no tenant anything.
"""

from collections.abc import AsyncIterator, Iterable
from concurrent.futures import Executor

from buildgrid_client.digests import digest_key
from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as reapi
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2_grpc import (
    ContentAddressableStorageServicer,
)
from google.rpc import code_pb2, status_pb2

from buildgrid_scheduler.auth.policy import Right
from buildgrid_scheduler.core.errors import InvalidArgument, SchedulerError, Unimplemented
from buildgrid_scheduler.services.blocking import Blocking
from buildgrid_scheduler.services.digest_function import check_digest_function
from buildgrid_scheduler.services.errors import Context, rpc, status_of, streaming_rpc
from buildgrid_scheduler.services.instances import Instances
from buildgrid_scheduler.services.limits import MAX_BATCH_BYTES
from buildgrid_scheduler.services.tree import TreeWalk
from buildgrid_scheduler.storage.abc import StorageABC
from buildgrid_scheduler.storage.zstd import compress_if_smaller, decompress

_NO_CHUNKING = "splitting and splicing blobs is not offered: see CacheCapabilities"


class CasService(ContentAddressableStorageServicer):
    """Storage calls, hashing and compression run on the executor's threads."""

    def __init__(self, storage: StorageABC, instances: Instances, executor: Executor) -> None:
        self._storage = storage
        self._instances = instances
        self._blocking = Blocking(executor)

    @rpc
    async def FindMissingBlobs(
        self, request: reapi.FindMissingBlobsRequest, context: Context
    ) -> reapi.FindMissingBlobsResponse:
        """Each missing digest once, in the order of the request."""
        self._check(Right.CACHE_READ, request.instance_name, request.digest_function)
        asked = {digest_key(digest): digest for digest in request.blob_digests}
        present = await self._blocking(self._storage.has_many, asked.values())
        missing = [digest for key, digest in asked.items() if key not in present]
        return reapi.FindMissingBlobsResponse(missing_blob_digests=missing)

    @rpc
    async def BatchUpdateBlobs(
        self, request: reapi.BatchUpdateBlobsRequest, context: Context
    ) -> reapi.BatchUpdateBlobsResponse:
        """One status per blob, in the order of the request."""
        self._check(Right.CAS_WRITE, request.instance_name, request.digest_function)
        check_batch_size(item.digest for item in request.requests)
        statuses = await self._blocking(self._update, list(request.requests))
        return reapi.BatchUpdateBlobsResponse(
            responses=[
                reapi.BatchUpdateBlobsResponse.Response(digest=item.digest, status=status)
                for item, status in zip(request.requests, statuses, strict=True)
            ]
        )

    @rpc
    async def BatchReadBlobs(
        self, request: reapi.BatchReadBlobsRequest, context: Context
    ) -> reapi.BatchReadBlobsResponse:
        """One answer per digest, in the order of the request; NOT_FOUND for those that are not here."""
        self._check(Right.CACHE_READ, request.instance_name, request.digest_function)
        check_batch_size(request.digests)
        zstd = reapi.Compressor.ZSTD in request.acceptable_compressors
        return await self._blocking(self._read, list(request.digests), zstd)

    @streaming_rpc
    async def GetTree(
        self, request: reapi.GetTreeRequest, context: Context
    ) -> AsyncIterator[reapi.GetTreeResponse]:
        """The directories below a root, each once, in pages; see `tree` for the order and the tokens."""
        self._check(Right.CACHE_READ, request.instance_name, request.digest_function)
        walk = TreeWalk(self._storage, request.root_digest, request.page_size, request.page_token)
        while (page := await self._blocking(walk.next_page)) is not None:
            yield page

    @rpc
    async def SplitBlob(self, request: reapi.SplitBlobRequest, context: Context) -> reapi.SplitBlobResponse:
        """Not offered."""
        raise Unimplemented(_NO_CHUNKING)

    @rpc
    async def SpliceBlob(
        self, request: reapi.SpliceBlobRequest, context: Context
    ) -> reapi.SpliceBlobResponse:
        """Not offered."""
        raise Unimplemented(_NO_CHUNKING)

    @streaming_rpc
    async def GetChunkMapping(
        self, request: reapi.GetChunkMappingRequest, context: Context
    ) -> AsyncIterator[reapi.GetChunkMappingResponse]:
        """Not offered."""
        chunks: list[reapi.GetChunkMappingResponse] = []
        for chunk in chunks:  # makes it the generator that a streaming answer must be
            yield chunk
        raise Unimplemented(_NO_CHUNKING)

    @rpc
    async def RegisterChunkMapping(
        self, request_iterator: AsyncIterator[reapi.RegisterChunkMappingRequest], context: Context
    ) -> reapi.RegisterChunkMappingResponse:
        """Not offered."""
        raise Unimplemented(_NO_CHUNKING)

    def _check(
        self, right: Right, instance_name: str, digest_function: "reapi.DigestFunction.Value.ValueType"
    ) -> None:
        self._instances.check(instance_name, right)
        check_digest_function(digest_function)

    def _update(self, items: list[reapi.BatchUpdateBlobsRequest.Request]) -> list[status_pb2.Status]:
        errors: list[SchedulerError | None] = [None] * len(items)
        blobs: list[tuple[reapi.Digest, bytes]] = []
        places: list[int] = []
        for place, item in enumerate(items):
            try:
                blobs.append((item.digest, _uncompressed(item)))
                places.append(place)
            except SchedulerError as error:
                errors[place] = error
        for place, outcome in zip(places, self._storage.write_many(blobs), strict=True):
            errors[place] = outcome
        return [status_pb2.Status() if error is None else status_of(error) for error in errors]

    def _read(self, digests: list[reapi.Digest], zstd: bool) -> reapi.BatchReadBlobsResponse:
        blobs = self._storage.read_many(digests)
        answer = reapi.BatchReadBlobsResponse()
        for digest in digests:
            response = answer.responses.add(digest=digest)
            data = blobs.get(digest_key(digest))
            if data is None:
                response.status.code = code_pb2.NOT_FOUND
                response.status.message = f"blob {digest_key(digest)} is not here"
                continue
            frame = compress_if_smaller(data) if zstd else None
            if frame is None:
                response.data = data
            else:
                response.data = frame
                response.compressor = reapi.Compressor.ZSTD
        return answer


def check_batch_size(digests: Iterable[reapi.Digest]) -> None:
    """Raises InvalidArgument when the blobs together are more than one message may carry.

    By the sizes in the digests: these bound what is read, and what compressed data may become.
    """
    total = sum(max(digest.size_bytes, 0) for digest in digests)
    if total > MAX_BATCH_BYTES:
        raise InvalidArgument(
            f"the blobs of this batch have {total} bytes, more than max_batch_total_size_bytes "
            f"({MAX_BATCH_BYTES}): use smaller batches, and ByteStream for large blobs"
        )


def _uncompressed(item: reapi.BatchUpdateBlobsRequest.Request) -> bytes:
    if item.compressor == reapi.Compressor.IDENTITY:
        return item.data
    if item.compressor == reapi.Compressor.ZSTD:
        return decompress(item.data, max(item.digest.size_bytes, 0))
    raise InvalidArgument(
        f"blob {digest_key(item.digest)}: compressor {item.compressor} is not offered, only IDENTITY and ZSTD"
    )
