"""How errors reach a client."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
from buildgrid_client.digests import digest_key, digest_of
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    FindMissingBlobsRequest,
)
from buildgrid_scheduler.core.errors import MissingBlobs
from buildgrid_scheduler.services.errors import STATUS_DETAILS_KEY, Context, rpc, status_of, streaming_rpc
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc import code_pb2, error_details_pb2, status_pb2

from tests.integration.services.storage_server import StorageServer

KEYS = [digest_key(digest_of(str(number).encode())) for number in range(1000)]


async def missing(
    server: StorageServer, monkeypatch: pytest.MonkeyPatch, keys: list[str]
) -> status_pb2.Status:
    def fail(digests: object) -> set[str]:
        raise MissingBlobs("inputs are missing", keys)

    monkeypatch.setattr(server.storage, "has_many", fail)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await server.cas.FindMissingBlobs(FindMissingBlobsRequest())
    assert raised.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert raised.value.details() == "inputs are missing"
    trailers = dict(raised.value.trailing_metadata())
    return status_pb2.Status.FromString(trailers[STATUS_DETAILS_KEY])


def subjects(status: status_pb2.Status) -> list[str]:
    failure = error_details_pb2.PreconditionFailure()
    assert status.details[0].Unpack(failure)
    assert {violation.type for violation in failure.violations} <= {"MISSING"}
    return [violation.subject for violation in failure.violations]


async def test_missing_blobs_come_as_violations_in_the_trailers(
    server: StorageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = await missing(server, monkeypatch, KEYS[:3])
    # Clients reject details that contradict the call's own status.
    assert (status.code, status.message) == (code_pb2.FAILED_PRECONDITION, "inputs are missing")
    assert subjects(status) == [f"blobs/{key}" for key in KEYS[:3]]


async def test_of_many_missing_blobs_as_many_are_told_as_headers_can_carry(
    server: StorageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = subjects(await missing(server, monkeypatch, KEYS))
    assert 20 < len(told) < 60
    assert told == [f"blobs/{key}" for key in KEYS[: len(told)]]


def test_a_status_inside_of_an_answer_names_all_missing_blobs() -> None:
    assert len(subjects(status_of(MissingBlobs("inputs are missing", KEYS)))) == len(KEYS)


# Streams


class Handlers:
    """One that gives two answers and then the error, one that ends the call itself."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.closed = False

    @streaming_rpc
    async def stream(self, request: StringValue, context: Context) -> AsyncIterator[StringValue]:
        try:
            yield StringValue(value="one")
            yield StringValue(value="two")
            raise self.error
        finally:
            self.closed = True

    @rpc
    async def abort(self, request: StringValue, context: Context) -> StringValue:
        await context.abort(grpc.StatusCode.ALREADY_EXISTS, "of its own")
        raise AssertionError


Serve = Callable[[Handlers], Awaitable[grpc.aio.Channel]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    servers: list[grpc.aio.Server] = []
    channels: list[grpc.aio.Channel] = []

    async def serve(handlers: Handlers) -> grpc.aio.Channel:
        server = grpc.aio.server()
        codec: dict[str, Any] = {
            "request_deserializer": StringValue.FromString,
            "response_serializer": StringValue.SerializeToString,
        }
        methods: dict[str, Any] = {
            "stream": grpc.unary_stream_rpc_method_handler(handlers.stream, **codec),
            "abort": grpc.unary_unary_rpc_method_handler(handlers.abort, **codec),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", methods),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        servers.append(server)
        channels.append(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
        return channels[-1]

    yield serve
    for channel in channels:
        await channel.close()
    for server in servers:
        await server.stop(None)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (MissingBlobs("gone", KEYS[:1]), grpc.StatusCode.FAILED_PRECONDITION),
        (ValueError("secret"), grpc.StatusCode.INTERNAL),
    ],
)
async def test_a_stream_that_fails_tells_what_it_had_and_then_the_error(
    serve: Serve, error: Exception, code: grpc.StatusCode
) -> None:
    handlers = Handlers(error)
    channel = await serve(handlers)
    call = channel.unary_stream(
        "/test/stream",
        request_serializer=StringValue.SerializeToString,
        response_deserializer=StringValue.FromString,
    )(StringValue())
    received = []
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        async for answer in call:
            received.append(answer.value)  # noqa: PERF401 - the error comes in between
    assert received == ["one", "two"]
    assert raised.value.code() == code
    assert "secret" not in str(raised.value.details())
    assert handlers.closed


async def test_an_abort_of_the_handler_itself_passes_and_is_no_incident(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    channel = await serve(Handlers(ValueError()))
    call = channel.unary_unary(
        "/test/abort",
        request_serializer=StringValue.SerializeToString,
        response_deserializer=StringValue.FromString,
    )
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call(StringValue())
    assert (raised.value.code(), raised.value.details()) == (grpc.StatusCode.ALREADY_EXISTS, "of its own")
    assert "incident" not in caplog.text
