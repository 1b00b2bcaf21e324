"""ActionCache over the wire."""

from collections.abc import Awaitable, Callable

import grpc
import pytest
from buildgrid_client.digests import digest_of, digest_of_message
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    ActionResult,
    Digest,
    DigestFunction,
    Directory,
    FileNode,
    GetActionResultRequest,
    OutputDirectory,
    OutputFile,
    Tree,
    UpdateActionResultRequest,
)
from buildgrid_scheduler.services.limits import MAX_INLINE_BYTES

from tests.integration.services.storage_server import StorageServer

ACTION = digest_of(b"an action")
FILE, STDOUT, STDERR, IN_TREE = b"a file", b"said", b"complained", b"deep in a tree"
TREE = Tree(
    root=Directory(files=[FileNode(name="empty", digest=digest_of(b""))]),
    children=[Directory(files=[FileNode(name="deep", digest=digest_of(IN_TREE))])],
)
TREE_BLOB = TREE.SerializeToString(deterministic=True)
PARTS = {"file": FILE, "stdout": STDOUT, "stderr": STDERR, "tree": TREE_BLOB, "file in tree": IN_TREE}
RESULT = ActionResult(
    output_files=[OutputFile(path="out/file", digest=digest_of(FILE))],
    output_directories=[OutputDirectory(path="out/dir", tree_digest=digest_of_message(TREE))],
    stdout_digest=digest_of(STDOUT),
    stderr_digest=digest_of(STDERR),
    exit_code=3,
)


async def refused(call: Awaitable[object]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value


@pytest.fixture
def store(server: StorageServer) -> Callable[..., None]:
    def store(*blobs: bytes) -> None:
        for blob in blobs:
            server.storage.stream_write(digest_of(blob), [blob])

    return store


async def update(server: StorageServer, result: ActionResult, instance: str = "") -> None:
    await server.action_cache.UpdateActionResult(
        UpdateActionResultRequest(instance_name=instance, action_digest=ACTION, action_result=result)
    )


async def test_a_complete_result_comes_back_as_it_was(
    server: StorageServer, store: Callable[..., None]
) -> None:
    store(*PARTS.values())
    await update(server, RESULT)
    assert await server.action_cache.GetActionResult(GetActionResultRequest(action_digest=ACTION)) == RESULT


@pytest.mark.parametrize("missing", PARTS)
async def test_a_result_is_not_found_when_anything_of_it_is_missing(
    server: StorageServer, store: Callable[..., None], missing: str
) -> None:
    store(*(blob for part, blob in PARTS.items() if part != missing))
    await update(server, RESULT)
    request = GetActionResultRequest(action_digest=ACTION)
    assert (await refused(server.action_cache.GetActionResult(request))).code() == grpc.StatusCode.NOT_FOUND
    store(PARTS[missing])
    assert await server.action_cache.GetActionResult(request) == RESULT


async def test_an_unknown_action_is_not_found(server: StorageServer) -> None:
    request = GetActionResultRequest(action_digest=ACTION)
    assert (await refused(server.action_cache.GetActionResult(request))).code() == grpc.StatusCode.NOT_FOUND


async def test_results_are_invisible_in_another_instance(server: StorageServer) -> None:
    await update(server, ActionResult(exit_code=1), instance="main/team")
    request = GetActionResultRequest(action_digest=ACTION)
    assert (await refused(server.action_cache.GetActionResult(request))).code() == grpc.StatusCode.NOT_FOUND
    request.instance_name = "main/team"
    assert (await server.action_cache.GetActionResult(request)).exit_code == 1


async def test_a_result_that_names_nonsense_is_not_found(server: StorageServer) -> None:
    await update(server, ActionResult(output_files=[OutputFile(digest=Digest(hash="../x", size_bytes=1))]))
    request = GetActionResultRequest(action_digest=ACTION)
    assert (await refused(server.action_cache.GetActionResult(request))).code() == grpc.StatusCode.NOT_FOUND


async def test_contents_are_inlined_where_asked_for(
    server: StorageServer, store: Callable[..., None]
) -> None:
    store(*PARTS.values())
    await update(server, RESULT)
    result = await server.action_cache.GetActionResult(
        GetActionResultRequest(
            action_digest=ACTION, inline_stdout=True, inline_output_files=["out/file", "?"]
        )
    )
    assert (result.stdout_raw, result.stderr_raw) == (STDOUT, b"")
    assert result.output_files[0].contents == FILE
    assert result.stdout_digest == digest_of(STDOUT)
    result = await server.action_cache.GetActionResult(
        GetActionResultRequest(action_digest=ACTION, inline_stderr=True)
    )
    assert (result.stdout_raw, result.stderr_raw) == (b"", STDERR)
    assert result.output_files[0].contents == b""


async def test_what_does_not_fit_stays_a_digest(server: StorageServer, store: Callable[..., None]) -> None:
    half, rest = bytes(MAX_INLINE_BYTES // 2), b"x" * (MAX_INLINE_BYTES // 2 + 1)
    store(half, rest, FILE)
    await update(
        server,
        ActionResult(
            stdout_digest=digest_of(half),
            stderr_digest=digest_of(rest),
            output_files=[OutputFile(path="f", digest=digest_of(FILE))],
        ),
    )
    result = await server.action_cache.GetActionResult(
        GetActionResultRequest(
            action_digest=ACTION, inline_stdout=True, inline_stderr=True, inline_output_files=["f"]
        )
    )
    assert (result.stdout_raw, result.stderr_raw) == (half, b"")
    assert result.output_files[0].contents == FILE


@pytest.mark.parametrize("allow_updates", [False])
async def test_updates_are_refused_where_only_the_scheduler_may(server: StorageServer) -> None:
    error = await refused(update(server, RESULT))
    assert error.code() == grpc.StatusCode.PERMISSION_DENIED
    assert server.cache.get("", ACTION) is None


async def test_malformed_requests_are_refused(server: StorageServer) -> None:
    for request in (
        GetActionResultRequest(action_digest=ACTION, instance_name="nowhere"),
        GetActionResultRequest(),
        GetActionResultRequest(action_digest=ACTION, digest_function=DigestFunction.MD5),
    ):
        error = await refused(server.action_cache.GetActionResult(request))
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
