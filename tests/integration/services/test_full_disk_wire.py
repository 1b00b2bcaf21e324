"""A storage server whose disk is smaller than its max_bytes: what clients are told, and what is left."""

import asyncio
import os
from collections.abc import Awaitable, Iterator
from pathlib import Path

import grpc
import pytest
import zstandard
from buildgrid_client.digests import digest_key, digest_of
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    BatchReadBlobsRequest,
    BatchUpdateBlobsRequest,
    FindMissingBlobsRequest,
)
from buildgrid_protos.google.bytestream.bytestream_pb2 import QueryWriteStatusRequest, WriteRequest
from google.rpc import code_pb2

from tests.farm.small_disk import small_disk
from tests.integration.services.storage_server import StorageServer

MB = 1 << 20
PIECE = 64 * 1024


@pytest.fixture(autouse=True)
def disk(tmp_path: Path) -> Iterator[Path]:
    """8 MB below the server's CAS, which believes that it may take 64."""
    with small_disk(tmp_path / "cas", megabytes=8) as folder:
        yield folder


def name_of(data: bytes, blobs: str = "blobs") -> str:
    return f"uploads/some-uuid/{blobs}/{digest_key(digest_of(data))}"


def pieces(name: str, data: bytes) -> Iterator[WriteRequest]:
    for offset in range(0, len(data), PIECE):
        part = data[offset : offset + PIECE]
        finish = offset + PIECE >= len(data)
        yield WriteRequest(resource_name=name, write_offset=offset, data=part, finish_write=finish)


async def write(server: StorageServer, data: bytes, *, zstd: bool = False) -> None:
    sent = zstandard.ZstdCompressor().compress(data) if zstd else data
    name = name_of(data, "compressed-blobs/zstd" if zstd else "blobs")
    while True:
        try:
            await server.bytestream.Write(pieces(name, sent))
        except grpc.aio.AioRpcError as error:
            # Now and then grpc.aio loses the status of a call that the server ends while it is being sent.
            if error.details() == "Internal error from Core":
                continue
            raise
        return


async def assert_refused(call: Awaitable[None], disk: Path) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    message = str(raised.value.details())
    assert str(disk) in message and "is full" in message and "max_bytes" in message


def free(disk: Path) -> int:
    status = os.statvfs(disk)
    return status.f_bfree * status.f_frsize


async def has(server: StorageServer, *blobs: bytes) -> bool:
    request = FindMissingBlobsRequest(blob_digests=[digest_of(blob) for blob in blobs])
    return not (await server.cas.FindMissingBlobs(request)).missing_blob_digests


@pytest.mark.parametrize("zstd", [False, True], ids=["plain", "zstd"])
async def test_a_stream_that_does_not_fit_is_refused_and_leaves_nothing(
    server: StorageServer, disk: Path, zstd: bool
) -> None:
    kept, large = os.urandom(2 * MB), os.urandom(7 * MB)
    await write(server, kept)
    before = free(disk)
    await assert_refused(write(server, large, zstd=zstd), disk)

    assert free(disk) == before
    assert await has(server, kept) and not await has(server, large)
    status = await server.bytestream.QueryWriteStatus(QueryWriteStatusRequest(resource_name=name_of(large)))
    assert (status.committed_size, status.complete) == (0, False)


async def test_it_goes_on_once_there_is_room(server: StorageServer, disk: Path) -> None:
    filler = disk / "somebody-elses"
    filler.write_bytes(bytes(6 * MB))
    data = os.urandom(4 * MB)
    await assert_refused(write(server, data), disk)
    filler.unlink()
    await write(server, data)
    assert await has(server, data)


async def test_blobs_of_a_batch_that_do_not_fit_are_refused_one_by_one(
    server: StorageServer, disk: Path
) -> None:
    (disk / "somebody-elses").write_bytes(bytes(6 * MB))
    blobs = [os.urandom(MB), os.urandom(MB), os.urandom(MB), b"small"]
    request = BatchUpdateBlobsRequest()
    for blob in blobs:
        request.requests.add(digest=digest_of(blob), data=blob)
    answer = await server.cas.BatchUpdateBlobs(request)

    codes = [response.status.code for response in answer.responses]
    assert code_pb2.RESOURCE_EXHAUSTED in codes
    refused = [response for response in answer.responses if response.status.code]
    assert all("is full" in response.status.message for response in refused)
    stored = [blob for blob, code in zip(blobs, codes, strict=True) if code == code_pb2.OK]
    assert len(stored) + len(refused) == 4
    assert await has(server, *stored)
    read = await server.cas.BatchReadBlobs(
        BatchReadBlobsRequest(digests=[digest_of(blob) for blob in stored])
    )
    assert [response.data for response in read.responses] == stored


async def test_streams_that_fill_the_disk_together_end_with_whole_blobs_only(
    server: StorageServer, disk: Path
) -> None:
    blobs = [os.urandom(3 * MB) for _ in range(4)]
    outcomes = await asyncio.gather(*(write(server, blob) for blob in blobs), return_exceptions=True)
    failed = [outcome for outcome in outcomes if outcome is not None]
    assert failed
    for error in failed:
        assert isinstance(error, grpc.aio.AioRpcError)
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    stored = [blob for blob, outcome in zip(blobs, outcomes, strict=True) if outcome is None]
    assert await has(server, *stored)
    assert free(disk) >= 8 * MB - len(stored) * 3 * MB - 64 * 1024
    one_more = os.urandom(MB)
    await write(server, one_more)
    assert await has(server, one_more)
