"""ContentAddressableStorage, ByteStream and ActionCache: rules that span more than one method."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import pytest
import zstandard
from buildgrid_client.digests import digest_of, digest_of_message
from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb2
from buildgrid_protos.google.bytestream.bytestream_pb2 import WriteRequest
from buildgrid_scheduler.core.errors import SchedulerError
from buildgrid_scheduler.services.resource_names import parse_blob_name, parse_upload_name
from google.rpc import code_pb2

from tests.farm.clients import WITHIN
from tests.integration.conformance.tenant import Tenant, refused

pytestmark = pytest.mark.xdist_group("conformance")
Code = grpc.StatusCode
ZSTD = "compressed-blobs/zstd"


def fresh(size: int = 3000) -> tuple[bytes, re_pb2.Digest]:
    """A blob that is nowhere yet, and compresses."""
    blob = os.urandom(16).hex().encode() * (size // 32)
    return blob, digest_of(blob)


def packed(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def whole(name: str, data: bytes) -> WriteRequest:
    return WriteRequest(resource_name=name, data=data, finish_write=True)


async def missing(tenant: Tenant, *digests: re_pb2.Digest) -> list[re_pb2.Digest]:
    request = re_pb2.FindMissingBlobsRequest(instance_name=tenant.instance, blob_digests=digests)
    answer = await tenant.client.cas.FindMissingBlobs(request, timeout=WITHIN)
    return list(answer.missing_blob_digests)


async def batch_read(tenant: Tenant, digest: re_pb2.Digest) -> re_pb2.BatchReadBlobsResponse.Response:
    request = re_pb2.BatchReadBlobsRequest(instance_name=tenant.instance, digests=[digest])
    (response,) = (await tenant.client.cas.BatchReadBlobs(request, timeout=WITHIN)).responses
    return response


async def batch_update(
    tenant: Tenant,
    digest: re_pb2.Digest,
    data: bytes,
    compressor: re_pb2.Compressor.Value.ValueType = re_pb2.Compressor.IDENTITY,
) -> int:
    request = re_pb2.BatchUpdateBlobsRequest(instance_name=tenant.instance)
    request.requests.add(digest=digest, data=data, compressor=compressor)
    (response,) = (await tenant.client.cas.BatchUpdateBlobs(request, timeout=WITHIN)).responses
    assert response.digest == digest
    return int(response.status.code)


async def test_the_size_is_part_of_the_digest_everywhere(tenant: Tenant) -> None:
    blob, digest = fresh()
    await tenant.client.upload(blob)
    for size in (len(blob) - 1, len(blob) + 1):
        wrong = re_pb2.Digest(hash=digest.hash, size_bytes=size)
        assert await missing(tenant, wrong, digest) == [wrong]
        assert (await batch_read(tenant, wrong)).status.code == code_pb2.NOT_FOUND
        assert (await refused(tenant.read(tenant.blob_name(wrong)))).code() is Code.NOT_FOUND
        assert await batch_update(tenant, wrong, blob) == code_pb2.INVALID_ARGUMENT
        error = await refused(tenant.write(whole(tenant.upload_name(wrong), blob)))
        assert error.code() is Code.INVALID_ARGUMENT


@pytest.mark.parametrize("way", ["batch", "batch zstd", "stream", "stream zstd"])
async def test_a_blob_is_there_in_every_form_however_it_was_uploaded(tenant: Tenant, way: str) -> None:
    blob, digest = fresh()
    if way == "batch":
        assert await batch_update(tenant, digest, blob) == 0
    elif way == "batch zstd":
        assert await batch_update(tenant, digest, packed(blob), re_pb2.Compressor.ZSTD) == 0
    elif way == "stream":
        assert await tenant.write(whole(tenant.upload_name(digest), blob)) == len(blob)
    else:
        frame = packed(blob)
        assert await tenant.write(whole(tenant.upload_name(digest, ZSTD), frame)) == len(frame)
    assert await missing(tenant, digest) == []
    assert (await batch_read(tenant, digest)).data == blob
    assert await tenant.read(tenant.blob_name(digest)) == blob
    frame = await tenant.read(tenant.blob_name(digest, ZSTD))
    assert zstandard.ZstdDecompressor().decompress(frame) == blob


async def test_the_empty_blob_is_there_for_every_method(tenant: Tenant) -> None:
    empty = digest_of(b"")
    assert await missing(tenant, empty) == []
    answer = await batch_read(tenant, empty)
    assert (answer.status.code, answer.data) == (0, b"")
    assert await tenant.read(tenant.blob_name(empty)) == b""
    assert await batch_update(tenant, empty, b"") == 0
    request = re_pb2.GetTreeRequest(instance_name=tenant.instance, root_digest=empty)
    pages = [page async for page in tenant.client.cas.GetTree(request, timeout=WITHIN)]
    assert [list(page.directories) for page in pages] == [[re_pb2.Directory()]]


@pytest.mark.parametrize("compressor", [re_pb2.Compressor.DEFLATE, re_pb2.Compressor.BROTLI])
async def test_a_compressor_that_is_not_advertised_is_refused(
    tenant: Tenant, compressor: re_pb2.Compressor.Value.ValueType
) -> None:
    blob, digest = fresh()
    assert await batch_update(tenant, digest, blob, compressor) == code_pb2.INVALID_ARGUMENT
    form = f"compressed-blobs/{re_pb2.Compressor.Value.Name(compressor).lower()}"
    error = await refused(tenant.write(whole(tenant.upload_name(digest, form), blob)))
    assert error.code() is Code.INVALID_ARGUMENT
    assert await missing(tenant, digest) == [digest]


async def test_blobs_come_plain_to_those_who_accept_only_unknown_compressors(tenant: Tenant) -> None:
    blob, digest = fresh()
    await tenant.client.upload(blob)
    request = re_pb2.BatchReadBlobsRequest(
        instance_name=tenant.instance, digests=[digest], acceptable_compressors=[re_pb2.Compressor.BROTLI]
    )
    (response,) = (await tenant.client.cas.BatchReadBlobs(request, timeout=WITHIN)).responses
    assert (response.compressor, response.data) == (re_pb2.Compressor.IDENTITY, blob)


async def test_a_blob_is_not_there_before_the_client_says_that_it_is_all(tenant: Tenant) -> None:
    blob, digest = fresh()
    name = tenant.upload_name(digest)
    assert await tenant.write(WriteRequest(resource_name=name, data=blob)) == len(blob)
    assert await tenant.write_status(name) == (len(blob), False)
    assert await missing(tenant, digest) == [digest]
    last = WriteRequest(resource_name=name, write_offset=len(blob), finish_write=True)
    assert await tenant.write(last) == len(blob)
    assert await tenant.write_status(name) == (len(blob), True)
    assert await missing(tenant, digest) == []


async def test_another_name_in_the_middle_of_a_stream_is_refused(tenant: Tenant) -> None:
    blob, digest = fresh()
    first = WriteRequest(resource_name=tenant.upload_name(digest), data=blob[:100])
    other = tenant.upload_name(digest, uuid="11111111-1111-4111-8111-111111111111")
    rest = WriteRequest(resource_name=other, write_offset=100, data=blob[100:], finish_write=True)
    error = await refused(tenant.write(first, rest))
    assert error.code() is Code.INVALID_ARGUMENT
    assert "resource_name" in (error.details() or "")


async def test_pieces_may_be_empty(tenant: Tenant) -> None:
    blob, digest = fresh()
    name = tenant.upload_name(digest)
    alive = WriteRequest(resource_name=name)
    data = WriteRequest(write_offset=0, data=blob)
    last = WriteRequest(write_offset=len(blob), finish_write=True)
    assert await tenant.write(alive, data, last) == len(blob)
    assert await tenant.read(tenant.blob_name(digest)) == blob


async def test_one_uuid_serves_for_many_blobs(tenant: Tenant) -> None:
    blobs = [fresh() for _ in range(3)]
    await asyncio.gather(*(tenant.write(whole(tenant.upload_name(digest), blob)) for blob, digest in blobs))
    assert await missing(tenant, *(digest for _, digest in blobs)) == []


@pytest.mark.parametrize("form", ["blobs", ZSTD])
async def test_an_upload_that_is_overtaken_in_the_middle_ends_well_too(tenant: Tenant, form: str) -> None:
    blob = os.urandom(3_000_000)
    digest = digest_of(blob)
    name = tenant.upload_name(digest, form, uuid="22222222-2222-4222-8222-222222222222")
    data = packed(blob) if form == ZSTD else blob
    half = len(data) // 2
    overtaken = asyncio.Event()

    async def slow() -> AsyncIterator[WriteRequest]:
        yield WriteRequest(resource_name=name, data=data[:half])
        await overtaken.wait()
        yield WriteRequest(write_offset=half, data=data[half:], finish_write=True)

    slower = asyncio.ensure_future(tenant.bytestream.Write(slow(), timeout=WITHIN))
    async with asyncio.timeout(WITHIN):
        while (await tenant.write_status(name))[0] == 0:
            pass  # each round trip lets the server read on
    assert await tenant.write(whole(tenant.upload_name(digest), blob)) == len(blob)
    overtaken.set()
    assert (await slower).committed_size == len(data)
    assert await tenant.read(tenant.blob_name(digest)) == blob


async def test_the_root_of_a_tree_is_a_directory(tenant: Tenant) -> None:
    (root,) = await tenant.client.upload(b"\xff\xff no message")
    request = re_pb2.GetTreeRequest(instance_name=tenant.instance, root_digest=root)
    error = await refused(anext(aiter(tenant.client.cas.GetTree(request, timeout=WITHIN))))
    assert error.code() is Code.INVALID_ARGUMENT
    assert "not a Directory" in (error.details() or "")


async def test_a_negative_page_size_is_refused(tenant: Tenant) -> None:
    root = re_pb2.Directory()
    root.files.add(name="f", digest=digest_of(b""))
    await tenant.client.upload(root.SerializeToString())
    request = re_pb2.GetTreeRequest(
        instance_name=tenant.instance, root_digest=digest_of_message(root), page_size=-1
    )
    error = await refused(anext(aiter(tenant.client.cas.GetTree(request, timeout=WITHIN))))
    assert error.code() is Code.INVALID_ARGUMENT
    assert "page_size" in (error.details() or "")


Call = Callable[[Tenant, "re_pb2.DigestFunction.Value.ValueType"], Awaitable[object]]
CALLS: dict[str, Call] = {
    "FindMissingBlobs": lambda tenant, function: tenant.client.cas.FindMissingBlobs(
        re_pb2.FindMissingBlobsRequest(instance_name=tenant.instance, digest_function=function)
    ),
    "BatchUpdateBlobs": lambda tenant, function: tenant.client.cas.BatchUpdateBlobs(
        re_pb2.BatchUpdateBlobsRequest(instance_name=tenant.instance, digest_function=function)
    ),
    "BatchReadBlobs": lambda tenant, function: tenant.client.cas.BatchReadBlobs(
        re_pb2.BatchReadBlobsRequest(instance_name=tenant.instance, digest_function=function)
    ),
    "GetTree": lambda tenant, function: anext(
        aiter(
            tenant.client.cas.GetTree(
                re_pb2.GetTreeRequest(
                    instance_name=tenant.instance, root_digest=digest_of(b""), digest_function=function
                )
            )
        )
    ),
    "GetActionResult": lambda tenant, function: tenant.client.action_cache.GetActionResult(
        re_pb2.GetActionResultRequest(
            instance_name=tenant.instance, action_digest=digest_of(b"stored"), digest_function=function
        )
    ),
    "UpdateActionResult": lambda tenant, function: tenant.client.action_cache.UpdateActionResult(
        re_pb2.UpdateActionResultRequest(
            instance_name=tenant.instance, action_digest=digest_of(b"stored"), digest_function=function
        )
    ),
}


@pytest.mark.parametrize("method", CALLS)
async def test_every_method_takes_sha256_or_nothing_and_refuses_other_functions(
    tenant: Tenant, method: str
) -> None:
    await tenant.client.store(digest_of(b"stored"), re_pb2.ActionResult(exit_code=1))
    for function in (re_pb2.DigestFunction.UNKNOWN, re_pb2.DigestFunction.SHA256):
        await CALLS[method](tenant, function)
    for function in (re_pb2.DigestFunction.SHA1, re_pb2.DigestFunction.SHA256TREE):
        error = await refused(CALLS[method](tenant, function))
        assert error.code() is Code.INVALID_ARGUMENT
        assert re_pb2.DigestFunction.Value.Name(function) in (error.details() or "")


@pytest.mark.parametrize("function", ["sha1", "blake3"])
def test_names_with_another_digest_function_are_refused(function: str) -> None:
    _, digest = fresh()
    for parse, name in (
        (parse_blob_name, f"main/blobs/{function}/{digest.hash}/{digest.size_bytes}"),
        (parse_upload_name, f"main/uploads/u/blobs/{function}/{digest.hash}/{digest.size_bytes}"),
    ):
        with pytest.raises(SchedulerError):
            parse(name)


async def test_an_update_answers_with_the_result_and_replaces_the_one_before(tenant: Tenant) -> None:
    action = digest_of(b"replaced")
    for code in (0, 7):
        result = re_pb2.ActionResult(exit_code=code, stdout_raw=b"said")
        request = re_pb2.UpdateActionResultRequest(
            instance_name=tenant.instance, action_digest=action, action_result=result
        )
        assert await tenant.client.action_cache.UpdateActionResult(request, timeout=WITHIN) == result
        assert await tenant.client.cached(action) == result


async def test_a_result_is_taken_without_its_action(tenant: Tenant) -> None:
    action = digest_of(b"an action that nobody uploaded")
    await tenant.client.store(action, re_pb2.ActionResult(exit_code=3))
    assert await missing(tenant, action) == [action]
    assert await tenant.client.cached(action) == re_pb2.ActionResult(exit_code=3)


async def test_an_update_under_what_is_no_digest_is_refused(tenant: Tenant) -> None:
    error = await refused(
        tenant.client.store(re_pb2.Digest(hash="beef", size_bytes=1), re_pb2.ActionResult())
    )
    assert error.code() is Code.INVALID_ARGUMENT
