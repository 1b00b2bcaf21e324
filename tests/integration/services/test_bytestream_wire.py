"""ByteStream over the wire."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Iterator

import grpc
import pytest
import zstandard
from buildgrid_client.digests import digest_key, digest_of
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Digest
from buildgrid_protos.google.bytestream.bytestream_pb2 import (
    QueryWriteStatusRequest,
    ReadRequest,
    WriteRequest,
    WriteResponse,
)

from tests.integration.services.storage_server import StorageServer

# Neither a multiple of the chunk size nor compressible, and larger than one gRPC message.
BLOB = os.urandom(5_000_000)
DIGEST = digest_of(BLOB)
TEXT = b"text that compresses well " * 200_000
PIECE = 64 * 1024


async def refused(call: Awaitable[object]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value


def upload_name(digest: Digest, uuid: str = "a-uuid", prefix: str = "", blobs: str = "blobs") -> str:
    return f"{prefix}uploads/{uuid}/{blobs}/{digest_key(digest)}"


def pieces(name: str, data: bytes, start: int = 0, *, finish: bool = True) -> Iterator[WriteRequest]:
    for offset in range(start, max(len(data), start + 1), PIECE):
        part = data[offset : offset + PIECE]
        last = offset + PIECE >= len(data)
        yield WriteRequest(
            # As REAPI clients do, only the first piece is named.
            resource_name=name if offset == start else "",
            write_offset=offset,
            data=part,
            finish_write=finish and last,
        )


async def write(server: StorageServer, name: str, data: bytes) -> int:
    while True:
        try:
            answer: WriteResponse = await server.bytestream.Write(pieces(name, data))
        except grpc.aio.AioRpcError as error:
            # Now and then grpc.aio loses the status of a call that the server ends while it is being sent.
            if error.details() == "Internal error from Core":
                continue
            raise
        return answer.committed_size


async def read(server: StorageServer, name: str, offset: int = 0, limit: int = 0) -> bytes:
    request = ReadRequest(resource_name=name, read_offset=offset, read_limit=limit)
    return b"".join([answer.data async for answer in server.bytestream.Read(request)])


async def status(server: StorageServer, name: str) -> tuple[int, bool]:
    answer = await server.bytestream.QueryWriteStatus(QueryWriteStatusRequest(resource_name=name))
    return answer.committed_size, answer.complete


async def interrupted_upload(server: StorageServer, name: str, data: bytes) -> int:
    """Sends data without saying that it is all; returns what the server has kept."""
    answer = await server.bytestream.Write(pieces(name, data, finish=False))
    return answer.committed_size


# Read


async def test_a_blob_is_read_whole(server: StorageServer) -> None:
    server.storage.stream_write(DIGEST, [BLOB])
    assert await read(server, f"blobs/{digest_key(DIGEST)}") == BLOB


@pytest.mark.parametrize(
    ("offset", "limit"), [(0, 10), (1_500_000, 0), (1_500_000, 2_000_000), (5_000_000, 0)]
)
async def test_a_range_of_a_blob_is_read(server: StorageServer, offset: int, limit: int) -> None:
    server.storage.stream_write(digest_of(TEXT), [TEXT])
    expected = TEXT[offset : offset + limit] if limit else TEXT[offset:]
    assert await read(server, f"blobs/{digest_key(digest_of(TEXT))}", offset, limit) == expected


@pytest.mark.parametrize("offset", [0, 1_500_000, 5_000_000])
async def test_offsets_of_compressed_reads_count_uncompressed_bytes(
    server: StorageServer, offset: int
) -> None:
    server.storage.stream_write(digest_of(TEXT), [TEXT])
    frame = await read(server, f"compressed-blobs/zstd/{digest_key(digest_of(TEXT))}", offset)
    assert zstandard.ZstdDecompressor().decompress(frame) == TEXT[offset:]
    assert len(frame) < max(len(TEXT[offset:]), 20)


@pytest.mark.parametrize("name", ["main/team/blobs/", "blobs/sha256/", "main/team/blobs/sha256/"])
async def test_names_may_hold_an_instance_and_the_digest_function(server: StorageServer, name: str) -> None:
    server.storage.stream_write(digest_of(b"x"), [b"x"])
    assert await read(server, name + digest_key(digest_of(b"x"))) == b"x"


async def test_the_empty_blob_can_always_be_read(server: StorageServer) -> None:
    key = digest_key(digest_of(b""))
    assert await read(server, f"blobs/{key}") == b""
    frame = await read(server, f"compressed-blobs/zstd/{key}")
    assert zstandard.ZstdDecompressor().decompress(frame) == b""


async def test_a_missing_blob_is_not_found(server: StorageServer) -> None:
    error = await refused(read(server, f"blobs/{digest_key(DIGEST)}"))
    assert error.code() == grpc.StatusCode.NOT_FOUND
    assert digest_key(DIGEST) in str(error.details())


@pytest.mark.parametrize(
    ("name", "offset", "limit", "code"),
    [
        ("blobs/HERE", 2, 0, grpc.StatusCode.OUT_OF_RANGE),
        ("blobs/HERE", -1, 0, grpc.StatusCode.OUT_OF_RANGE),
        ("blobs/HERE", 0, -1, grpc.StatusCode.INVALID_ARGUMENT),
        ("nowhere/blobs/HERE", 0, 0, grpc.StatusCode.INVALID_ARGUMENT),
        ("blobs/../../etc/passwd", 0, 0, grpc.StatusCode.INVALID_ARGUMENT),
        ("compressed-blobs/brotli/HERE", 0, 0, grpc.StatusCode.INVALID_ARGUMENT),
        ("compressed-blobs/zstd/HERE", 0, 1, grpc.StatusCode.INVALID_ARGUMENT),
        ("compressed-blobs/zstd/HERE", 2, 0, grpc.StatusCode.OUT_OF_RANGE),
        ("", 0, 0, grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
async def test_what_cannot_be_read_is_refused(
    server: StorageServer, name: str, offset: int, limit: int, code: grpc.StatusCode
) -> None:
    server.storage.stream_write(digest_of(b"x"), [b"x"])
    name = name.replace("HERE", digest_key(digest_of(b"x")))
    assert (await refused(read(server, name, offset, limit))).code() == code


async def test_a_reader_that_goes_away_lets_go_of_the_blob(server: StorageServer) -> None:
    server.storage.stream_write(DIGEST, [BLOB])
    call = server.bytestream.Read(ReadRequest(resource_name=f"blobs/{digest_key(DIGEST)}"))
    async for _ in call:
        break
    call.cancel()
    blob = str(server.storage.root / "blobs" / DIGEST.hash[:2] / DIGEST.hash)
    async with asyncio.timeout(10):
        while blob in open_files():
            # Each round trip lets the server take note of the cancellation.
            await status(server, upload_name(DIGEST))


def open_files() -> set[str]:
    files = set()
    for descriptor in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names only
        try:
            files.add(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115
        except FileNotFoundError:
            continue  # that of the listing itself
    return files


# Write


@pytest.mark.parametrize("suffix", ["", "/file.o", "/a/b"])
async def test_a_blob_is_written_in_pieces(server: StorageServer, suffix: str) -> None:
    assert await write(server, upload_name(DIGEST, prefix="main/team/") + suffix, BLOB) == len(BLOB)
    assert server.storage.read_one(DIGEST) == BLOB


async def test_a_compressed_blob_is_stored_uncompressed(server: StorageServer) -> None:
    frame = zstandard.ZstdCompressor().compress(TEXT)
    name = upload_name(digest_of(TEXT), blobs="compressed-blobs/zstd")
    assert await write(server, name, frame) == len(frame)
    assert server.storage.read_one(digest_of(TEXT)) == TEXT


async def test_compressed_uploads_may_hold_several_frames(server: StorageServer) -> None:
    frames = b"".join(zstandard.ZstdCompressor().compress(part) for part in (TEXT[:1000], TEXT[1000:]))
    name = upload_name(digest_of(TEXT), blobs="compressed-blobs/zstd")
    assert await write(server, name, frames) == len(frames)
    assert server.storage.read_one(digest_of(TEXT)) == TEXT


async def test_a_blob_that_is_here_ends_the_upload_at_once(server: StorageServer) -> None:
    server.storage.stream_write(DIGEST, [BLOB])
    answered = asyncio.Event()

    async def first_piece_only() -> AsyncIterator[WriteRequest]:
        yield next(pieces(upload_name(DIGEST), BLOB))
        await answered.wait()

    answer = await server.bytestream.Write(first_piece_only())
    answered.set()
    assert answer.committed_size == len(BLOB)


async def test_a_blob_that_is_here_ends_a_compressed_upload_with_minus_one(server: StorageServer) -> None:
    server.storage.stream_write(DIGEST, [BLOB])
    name = upload_name(DIGEST, blobs="compressed-blobs/zstd")
    assert await write(server, name, zstandard.ZstdCompressor().compress(BLOB)) == -1


async def test_the_empty_blob_can_be_written(server: StorageServer) -> None:
    assert await write(server, upload_name(digest_of(b"")), b"") == 0


@pytest.mark.parametrize("content", [BLOB[:-1], BLOB + b"!", BLOB[:-1] + b"!"])
async def test_wrong_content_is_refused_and_forgotten(server: StorageServer, content: bytes) -> None:
    error = await refused(write(server, upload_name(DIGEST), content))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert server.storage.has_many([DIGEST]) == set()
    assert await status(server, upload_name(DIGEST)) == (0, False)
    assert await write(server, upload_name(DIGEST), BLOB) == len(BLOB)


async def test_a_compressed_bomb_is_stopped(server: StorageServer) -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(100_000_000))
    name = upload_name(digest_of(b"small"), blobs="compressed-blobs/zstd")
    error = await refused(write(server, name, bomb))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "more than 5 bytes" in str(error.details())


async def test_compressed_data_that_is_none_is_refused(server: StorageServer) -> None:
    name = upload_name(digest_of(TEXT), blobs="compressed-blobs/zstd")
    error = await refused(write(server, name, TEXT))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "not valid ZSTD" in str(error.details())


async def test_a_full_storage_is_resource_exhausted(server: StorageServer) -> None:
    digest = Digest(hash="a" * 64, size_bytes=server.storage.max_bytes + 1)
    error = await refused(write(server, upload_name(digest), b"x"))
    assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert str(server.storage.root) in str(error.details())


async def test_malformed_upload_names_are_refused(server: StorageServer) -> None:
    for name in (f"blobs/{digest_key(DIGEST)}", f"uploads/blobs/{digest_key(DIGEST)}", "uploads/u/blobs/x/1"):
        error = await refused(write(server, name, BLOB))
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_stream_without_messages_is_refused(server: StorageServer) -> None:
    error = await refused(server.bytestream.Write(iter(())))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT


# Resuming


async def test_an_unknown_upload_starts_at_zero(server: StorageServer) -> None:
    assert await status(server, upload_name(DIGEST)) == (0, False)


@pytest.mark.parametrize("blobs", ["blobs", "compressed-blobs/zstd"])
async def test_a_finished_upload_is_complete(server: StorageServer, blobs: str) -> None:
    await write(server, upload_name(DIGEST), BLOB)
    assert await status(server, upload_name(DIGEST, blobs=blobs)) == (len(BLOB), True)


async def test_an_upload_goes_on_where_it_was_interrupted(server: StorageServer) -> None:
    name = upload_name(DIGEST)
    assert await interrupted_upload(server, name, BLOB[:3_000_000]) == 3_000_000
    assert await status(server, name) == (3_000_000, False)
    answer = await server.bytestream.Write(pieces(name, BLOB, start=3_000_000))
    assert answer.committed_size == len(BLOB)
    assert server.storage.read_one(DIGEST) == BLOB


@pytest.mark.parametrize("blob", [BLOB, TEXT], ids=["noise", "text"])
async def test_a_compressed_upload_goes_on_at_an_offset_in_the_uncompressed_blob(
    server: StorageServer, blob: bytes
) -> None:
    digest = digest_of(blob)
    name = upload_name(digest, blobs="compressed-blobs/zstd")
    frame = zstandard.ZstdCompressor().compress(blob)
    committed = await interrupted_upload(server, name, frame[: len(frame) // 2])
    assert 0 < committed < len(blob)
    assert await status(server, name) == (committed, False)
    rest = zstandard.ZstdCompressor().compress(blob[committed:])
    half = len(rest) // 2
    answer = await server.bytestream.Write(
        iter(
            [
                WriteRequest(resource_name=name, write_offset=committed, data=rest[:half]),
                WriteRequest(write_offset=committed + half, data=rest[half:], finish_write=True),
            ]
        )
    )
    assert answer.committed_size == committed + len(rest)
    assert server.storage.read_one(digest) == blob


async def test_a_client_that_vanished_finds_what_had_arrived(server: StorageServer) -> None:
    name = upload_name(DIGEST)
    sent = asyncio.Event()

    async def break_off() -> AsyncIterator[WriteRequest]:
        for piece in pieces(name, BLOB[:3_000_000], finish=False):
            yield piece
        sent.set()
        await asyncio.Event().wait()

    call = server.bytestream.Write(break_off())
    await sent.wait()
    committed = 0
    async with asyncio.timeout(10):
        while not committed:
            committed, _ = await status(server, name)
    call.cancel()
    answer: WriteResponse | None = None
    async with asyncio.timeout(10):
        while answer is None:
            # What was on the way may have been taken, and the server may not have noticed the cancellation.
            committed, _ = await status(server, name)
            try:
                answer = await server.bytestream.Write(pieces(name, BLOB, start=committed))
            except grpc.aio.AioRpcError as error:
                # INTERNAL is grpc.aio's for a call that is refused while it sends (grpc issue 36066).
                refusals = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INVALID_ARGUMENT)
                assert error.code() in (*refusals, grpc.StatusCode.INTERNAL)
    assert 0 < committed <= 3_000_000
    assert server.storage.read_one(DIGEST) == BLOB


async def test_an_upload_may_start_again_from_the_beginning(server: StorageServer) -> None:
    name = upload_name(DIGEST)
    await interrupted_upload(server, name, BLOB[:3_000_000])
    assert await write(server, name, BLOB) == len(BLOB)
    assert server.storage.read_one(DIGEST) == BLOB


async def test_a_wrong_offset_is_refused_with_the_right_one(server: StorageServer) -> None:
    name = upload_name(DIGEST)
    await interrupted_upload(server, name, BLOB[:3_000_000])
    # One piece: grpc.aio may lose the status of a call that the server ends while more is being sent.
    piece = pieces(name, BLOB[:2_000_100], start=2_000_000, finish=False)
    error = await refused(server.bytestream.Write(piece))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "3000000" in str(error.details())
    gap = [
        WriteRequest(resource_name=name, write_offset=3_000_000, data=BLOB[3_000_000:3_000_100]),
        WriteRequest(write_offset=3_000_200, data=b"x"),
    ]
    error = await refused(server.bytestream.Write(iter(gap)))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "must be 3000100" in str(error.details())


async def test_uploads_under_different_uuids_do_not_meet(server: StorageServer) -> None:
    await interrupted_upload(server, upload_name(DIGEST, "one"), BLOB[:3_000_000])
    assert await status(server, upload_name(DIGEST, "two")) == (0, False)
    assert await write(server, upload_name(DIGEST, "two"), BLOB) == len(BLOB)


async def test_forgotten_uploads_give_their_room_back(server: StorageServer) -> None:
    await interrupted_upload(server, upload_name(DIGEST), BLOB[:3_000_000])
    assert server.storage.used_bytes >= 3_000_000
    server.bytestream_service.close()
    assert await status(server, upload_name(DIGEST)) == (0, False)
    async with asyncio.timeout(10):
        while server.storage.used_bytes:
            await status(server, upload_name(DIGEST))
