"""ContentAddressableStorage over the wire."""

import os
from collections.abc import Awaitable, Callable

import grpc
import pytest
import zstandard
from buildgrid_client.digests import digest_of, digest_of_message
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    BatchReadBlobsRequest,
    BatchUpdateBlobsRequest,
    BatchUpdateBlobsResponse,
    Compressor,
    Digest,
    DigestFunction,
    Directory,
    DirectoryNode,
    FindMissingBlobsRequest,
    GetChunkMappingRequest,
    GetTreeRequest,
    GetTreeResponse,
    SplitBlobRequest,
)
from buildgrid_scheduler.services.limits import MAX_BATCH_BYTES
from google.rpc import code_pb2

from tests.integration.services.storage_server import StorageServer

EMPTY = digest_of(b"")
TEXT = b"text that compresses well " * 100


async def refused(call: Awaitable[object]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value


def update(*blobs: tuple[Digest, bytes], zstd: bool = False) -> BatchUpdateBlobsRequest:
    compressor = Compressor.ZSTD if zstd else Compressor.IDENTITY
    return BatchUpdateBlobsRequest(
        requests=[
            BatchUpdateBlobsRequest.Request(digest=digest, data=data, compressor=compressor)
            for digest, data in blobs
        ]
    )


def codes(answer: BatchUpdateBlobsResponse) -> list[int]:
    return [response.status.code for response in answer.responses]


# FindMissingBlobs


async def test_missing_blobs_are_named_once_and_present_ones_not_at_all(server: StorageServer) -> None:
    here, missing = digest_of(b"here"), digest_of(b"missing")
    server.storage.stream_write(here, [b"here"])
    request = FindMissingBlobsRequest(blob_digests=[missing, here, EMPTY, missing])
    answer = await server.cas.FindMissingBlobs(request)
    assert list(answer.missing_blob_digests) == [missing]


async def test_an_unknown_instance_is_refused_with_the_known_ones(server: StorageServer) -> None:
    error = await refused(server.cas.FindMissingBlobs(FindMissingBlobsRequest(instance_name="nowhere")))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "'nowhere'" in str(error.details())
    assert "'main/team'" in str(error.details())


async def test_instances_share_their_blobs(server: StorageServer) -> None:
    await server.cas.BatchUpdateBlobs(update((digest_of(TEXT), TEXT)))
    request = FindMissingBlobsRequest(instance_name="main/team", blob_digests=[digest_of(TEXT)])
    assert not (await server.cas.FindMissingBlobs(request)).missing_blob_digests


async def test_a_malformed_digest_is_refused(server: StorageServer) -> None:
    request = FindMissingBlobsRequest(blob_digests=[Digest(hash="../../secret", size_bytes=3)])
    error = await refused(server.cas.FindMissingBlobs(request))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "hexadecimal" in str(error.details())


async def test_another_digest_function_is_refused(server: StorageServer) -> None:
    request = FindMissingBlobsRequest(digest_function=DigestFunction.BLAKE3)
    error = await refused(server.cas.FindMissingBlobs(request))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "BLAKE3" in str(error.details())


async def test_a_fault_of_the_server_is_internal_without_its_trace(
    server: StorageServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(digests: object) -> set[str]:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(server.storage, "has_many", fail)
    error = await refused(server.cas.FindMissingBlobs(FindMissingBlobsRequest()))
    assert error.code() == grpc.StatusCode.INTERNAL
    assert "secret" not in str(error.details())
    assert "secret detail" in caplog.text
    incident = str(error.details()).split("incident ")[1][:12]
    assert incident in caplog.text


# BatchUpdateBlobs and BatchReadBlobs


@pytest.mark.parametrize("zstd", [False, True])
async def test_a_batch_stores_what_is_right_and_refuses_the_rest(server: StorageServer, zstd: bool) -> None:
    def encode(data: bytes) -> bytes:
        return zstandard.ZstdCompressor().compress(data) if zstd else data

    good, bad = digest_of(TEXT), digest_of(b"promised")
    answer = await server.cas.BatchUpdateBlobs(
        update((good, encode(TEXT)), (bad, encode(b"sent")), (EMPTY, encode(b"")), zstd=zstd)
    )
    assert codes(answer) == [code_pb2.OK, code_pb2.INVALID_ARGUMENT, code_pb2.OK]
    assert [response.digest for response in answer.responses] == [good, bad, EMPTY]
    assert server.storage.read_one(good) == TEXT
    assert server.storage.read_one(bad) is None


async def test_a_compressed_blob_that_is_larger_than_promised_is_refused(server: StorageServer) -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(100_000_000))
    answer = await server.cas.BatchUpdateBlobs(update((digest_of(b"small"), bomb), zstd=True))
    assert codes(answer) == [code_pb2.INVALID_ARGUMENT]


async def test_data_that_is_not_zstd_is_refused(server: StorageServer) -> None:
    answer = await server.cas.BatchUpdateBlobs(update((digest_of(TEXT), TEXT), zstd=True))
    assert codes(answer) == [code_pb2.INVALID_ARGUMENT]
    assert "not valid ZSTD" in answer.responses[0].status.message


async def test_a_full_storage_is_told_per_blob(
    server: StorageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.storage, "max_bytes", 0)
    answer = await server.cas.BatchUpdateBlobs(update((digest_of(TEXT), TEXT), (EMPTY, b"")))
    assert codes(answer) == [code_pb2.RESOURCE_EXHAUSTED, code_pb2.OK]


async def test_an_oversized_update_is_refused_with_the_remedy(server: StorageServer) -> None:
    data = bytes(MAX_BATCH_BYTES + 1)
    error = await refused(server.cas.BatchUpdateBlobs(update((digest_of(data), data))))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "ByteStream" in str(error.details())


async def test_a_batch_of_the_largest_size_goes_both_ways(server: StorageServer) -> None:
    data = os.urandom(MAX_BATCH_BYTES)
    assert codes(await server.cas.BatchUpdateBlobs(update((digest_of(data), data)))) == [code_pb2.OK]
    answer = await server.cas.BatchReadBlobs(BatchReadBlobsRequest(digests=[digest_of(data)]))
    assert answer.responses[0].data == data


async def test_reading_a_batch_tells_what_is_missing(server: StorageServer) -> None:
    here, missing = digest_of(b"here"), digest_of(b"missing")
    server.storage.stream_write(here, [b"here"])
    answer = await server.cas.BatchReadBlobs(BatchReadBlobsRequest(digests=[missing, here, EMPTY]))
    assert [response.digest for response in answer.responses] == [missing, here, EMPTY]
    assert [response.data for response in answer.responses] == [b"", b"here", b""]
    assert [response.status.code for response in answer.responses] == [code_pb2.NOT_FOUND, 0, 0]


async def test_blobs_come_compressed_only_when_that_is_accepted_and_pays(server: StorageServer) -> None:
    noise = os.urandom(5_000)
    for data in (TEXT, noise):
        server.storage.stream_write(digest_of(data), [data])
    request = BatchReadBlobsRequest(digests=[digest_of(TEXT), digest_of(noise)])
    plain = await server.cas.BatchReadBlobs(request)
    assert [response.data for response in plain.responses] == [TEXT, noise]
    request.acceptable_compressors.append(Compressor.ZSTD)
    text, noisy = (await server.cas.BatchReadBlobs(request)).responses
    assert text.compressor == Compressor.ZSTD
    assert len(text.data) < len(TEXT)
    assert zstandard.ZstdDecompressor().decompress(text.data) == TEXT
    assert (noisy.compressor, noisy.data) == (Compressor.IDENTITY, noise)


async def test_an_oversized_read_is_refused(server: StorageServer) -> None:
    request = BatchReadBlobsRequest(digests=[Digest(hash="a" * 64, size_bytes=MAX_BATCH_BYTES + 1)])
    error = await refused(server.cas.BatchReadBlobs(request))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT


# GetTree


def directory(name: str, *children: Directory) -> Directory:
    """A directory that differs from others by a file's name; children are named by position."""
    made = Directory(
        directories=[
            DirectoryNode(name=str(place), digest=digest_of_message(child))
            for place, child in enumerate(children)
        ]
    )
    made.files.add(name=name, digest=EMPTY)
    return made


LEAF, OTHER = directory("leaf"), directory("other")
MIDDLE = directory("middle", LEAF, OTHER)
# The leaf is there three times.
ROOT = directory("root", LEAF, MIDDLE, directory("side", LEAF))
SIDE = directory("side", LEAF)
IN_ORDER = ["root", "leaf", "middle", "side", "other"]


@pytest.fixture
def store_tree(server: StorageServer) -> Callable[..., Digest]:
    def store(*directories: Directory) -> Digest:
        for each in directories:
            server.storage.stream_write(digest_of_message(each), [each.SerializeToString(deterministic=True)])
        return digest_of_message(directories[0])

    return store


async def pages(server: StorageServer, request: GetTreeRequest) -> list[GetTreeResponse]:
    return [page async for page in server.cas.GetTree(request)]


def names(*answers: GetTreeResponse) -> list[str]:
    return [each.files[0].name for page in answers for each in page.directories]


async def test_a_tree_holds_each_directory_once(
    server: StorageServer, store_tree: Callable[..., Digest]
) -> None:
    root = store_tree(ROOT, LEAF, MIDDLE, SIDE, OTHER)
    answers = await pages(server, GetTreeRequest(root_digest=root))
    assert names(*answers) == IN_ORDER
    assert answers[-1].next_page_token == ""


async def test_a_tree_can_be_taken_up_at_each_page(
    server: StorageServer, store_tree: Callable[..., Digest]
) -> None:
    root = store_tree(ROOT, LEAF, MIDDLE, SIDE, OTHER)
    answers = await pages(server, GetTreeRequest(root_digest=root, page_size=2))
    assert [names(page) for page in answers] == [IN_ORDER[:2], IN_ORDER[2:4], IN_ORDER[4:]]
    for place, page in enumerate(answers[:-1], start=1):
        rest = await pages(
            server, GetTreeRequest(root_digest=root, page_size=2, page_token=page.next_page_token)
        )
        assert names(*rest) == IN_ORDER[2 * place :]


async def test_large_trees_come_in_messages_below_the_limit(
    server: StorageServer, store_tree: Callable[..., Digest]
) -> None:
    leaves = [directory(f"{number}" + "x" * 500_000) for number in range(20)]
    root = store_tree(directory("root", *leaves), *leaves)
    answers = await pages(server, GetTreeRequest(root_digest=root))
    assert len(names(*answers)) == 21
    assert len(answers) > 2
    assert max(page.ByteSize() for page in answers) < 4 * 1024 * 1024


async def test_missing_directories_are_left_out_with_what_is_below(
    server: StorageServer, store_tree: Callable[..., Digest]
) -> None:
    root = store_tree(ROOT, LEAF, SIDE, OTHER)
    assert names(*await pages(server, GetTreeRequest(root_digest=root))) == ["root", "leaf", "side"]


async def test_a_missing_root_is_not_found(server: StorageServer) -> None:
    error = await refused(pages(server, GetTreeRequest(root_digest=digest_of_message(ROOT))))
    assert error.code() == grpc.StatusCode.NOT_FOUND


async def test_the_empty_tree_is_one_empty_directory(server: StorageServer) -> None:
    [page] = await pages(server, GetTreeRequest(root_digest=EMPTY))
    assert list(page.directories) == [Directory()]


@pytest.mark.parametrize("token", ["nonsense", "", "MTowMDAw"])
async def test_a_token_of_another_tree_is_refused(
    server: StorageServer, store_tree: Callable[..., Digest], token: str
) -> None:
    root = store_tree(ROOT, LEAF, MIDDLE, SIDE, OTHER)
    if not token:
        other = await pages(server, GetTreeRequest(root_digest=digest_of_message(MIDDLE), page_size=1))
        token = other[0].next_page_token
    error = await refused(pages(server, GetTreeRequest(root_digest=root, page_token=token)))
    assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "page_token" in str(error.details())


async def test_splitting_is_not_offered(server: StorageServer) -> None:
    error = await refused(server.cas.SplitBlob(SplitBlobRequest()))
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED

    async def chunk_mapping() -> None:
        async for _ in server.cas.GetChunkMapping(GetChunkMappingRequest()):
            pass

    assert (await refused(chunk_mapping())).code() == grpc.StatusCode.UNIMPLEMENTED
