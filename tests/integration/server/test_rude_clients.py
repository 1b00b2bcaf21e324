"""Clients that do not read, vanish, or send what is too large: nobody else notices, and nothing is left."""

import asyncio
import os
import struct
import uuid
from collections.abc import AsyncIterator, Callable, Iterator

import grpc
import pytest
from buildgrid_client.digests import digest_of
from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as reapi
from buildgrid_protos.google.bytestream.bytestream_pb2 import (
    QueryWriteStatusRequest,
    ReadRequest,
    WriteRequest,
)
from buildgrid_protos.google.bytestream.bytestream_pb2_grpc import ByteStreamStub
from buildgrid_protos.google.devtools.remoteworkers.v1test2 import bots_pb2
from grpc import StatusCode

from tests.farm.bots import Bot, completed
from tests.farm.clients import Client
from tests.integration.server.raw_http2 import DATA, HEADERS, RawConnection, frame
from tests.integration.server.server_process import Server
from tests.integration.server.vitals import Vitals, recovered, resident_bytes, until, works

MIB = 1024 * 1024
EXECUTE = "/build.bazel.remote.execution.v2.Execution/Execute"
WAIT_EXECUTION = "/build.bazel.remote.execution.v2.Execution/WaitExecution"
READ, WRITE = "/google.bytestream.ByteStream/Read", "/google.bytestream.ByteStream/Write"
FIND_MISSING = "/build.bazel.remote.execution.v2.ContentAddressableStorage/FindMissingBlobs"
CREATE_BOT_SESSION = "/google.devtools.remoteworkers.v1test2.Bots/CreateBotSession"

Connect = Callable[..., RawConnection]


@pytest.fixture
def connect(sturdy: Server) -> Iterator[Connect]:
    """Opens connections by hand; they are closed after the test."""
    connections: list[RawConnection] = []

    def open_connection(**options: int) -> RawConnection:
        connections.append(RawConnection(sturdy.endpoint, **options))
        return connections[-1]

    yield open_connection
    for connection in connections:
        connection.close()


@pytest.fixture
async def channel(sturdy: Server) -> AsyncIterator[grpc.aio.Channel]:
    """Of those who behave."""
    async with sturdy.open_channel() as channel:
        await works(channel)  # whatever it opens once, it has opened
        yield channel


async def upload(channel: grpc.aio.Channel, blob: bytes) -> reapi.Digest:
    """Store a large blob."""
    digest = digest_of(blob)

    async def parts() -> AsyncIterator[WriteRequest]:
        name = f"uploads/{uuid.uuid4()}/blobs/{digest.hash}/{digest.size_bytes}"
        for start in range(0, len(blob), MIB):
            part, last = blob[start : start + MIB], start + MIB >= len(blob)
            yield WriteRequest(resource_name=name, write_offset=start, data=part, finish_write=last)

    await ByteStreamStub(channel).Write(parts(), timeout=60)
    return digest


async def test_readers_of_blobs_that_do_not_read(
    sturdy: Server, channel: grpc.aio.Channel, connect: Connect
) -> None:
    """All windows of HTTP/2 are open, so that only the socket is full."""
    digest = await upload(channel, os.urandom(MIB) * 48)
    before, memory = Vitals.of(sturdy), resident_bytes(sturdy)
    request = ReadRequest(resource_name=f"blobs/{digest.hash}/{digest.size_bytes}")
    connections = [connect(receive_buffer=4096) for _ in range(8)]
    for connection in connections:
        for _ in range(3):
            connection.call(READ, request)
    await until(sturdy, lambda now: now.running_calls == before.running_calls + 24)
    await works(channel)
    # The streams hold what they are about to send, not the 1.1 GiB that was asked for.
    assert resident_bytes(sturdy) < memory + 24 * 8 * MIB
    reading = ByteStreamStub(channel).Read(request, timeout=60)
    assert sum([len(answer.data) async for answer in reading]) == digest.size_bytes
    for connection in connections:
        connection.vanish()
    await recovered(sturdy, before)


async def test_followers_of_operations_that_do_not_read(
    sturdy: Server, channel: grpc.aio.Channel, connect: Connect
) -> None:
    """Not even the first message fits into their windows."""
    before = Vitals.of(sturdy)
    pool = {"Pool": str(uuid.uuid4())}
    client, bot = Client(channel), Bot(channel, "", "slow-readers", properties=pool)
    digest = await client.add_action("followed", platform=pool)
    execution = await client.queue(digest)
    rude = connect(window=0)
    for _ in range(100):
        rude.call(EXECUTE, reapi.ExecuteRequest(action_digest=digest))
        rude.call(WAIT_EXECUTION, reapi.WaitExecutionRequest(name=execution.name))
    await until(sturdy, lambda now: now.running_calls == before.running_calls + 201)
    await bot.update(completed(await bot.take_lease()))
    assert (await execution.response()).status.code == 0
    await works(channel)
    rude.vanish()
    await recovered(sturdy, before)


async def test_uploads_whose_client_vanishes(
    sturdy: Server, channel: grpc.aio.Channel, connect: Connect
) -> None:
    before = Vitals.of(sturdy)
    size = 200_000
    blobs = {f"uploads/{uuid.uuid4()}/blobs/": os.urandom(size) for _ in range(20)}
    blobs = {f"{name}{digest_of(blob).hash}/{size}": blob for name, blob in blobs.items()}
    connections = [connect() for _ in blobs]
    for connection, (name, blob) in zip(connections, blobs.items(), strict=True):
        part = WriteRequest(resource_name=name, data=blob[:50_000])
        connection.say(connection.begin(WRITE), part, last=False)
    # And one in the midst of a message.
    connections.append(connect())
    stream = connections[-1].begin(WRITE)
    connections[-1].send(frame(DATA, 0, stream, struct.pack(">BI", 0, MIB) + b"\x0a"))
    await until(sturdy, lambda now: now.running_calls >= before.running_calls + 20)
    for connection in connections:
        connection.vanish()
    await until(sturdy, lambda now: now.running_calls <= before.running_calls)
    await works(channel)
    # What arrived is kept for those who come back, an open file each; then nothing is left of it.
    stub = ByteStreamStub(channel)
    for name, blob in blobs.items():
        status = await stub.QueryWriteStatus(QueryWriteStatusRequest(resource_name=name), timeout=60)
        offset = status.committed_size
        rest = WriteRequest(resource_name=name, write_offset=offset, data=blob[offset:], finish_write=True)
        assert offset in (0, 50_000)
        assert (await stub.Write(iter([rest]), timeout=60)).committed_size == size
    await recovered(sturdy, before)


async def test_executions_whose_client_vanishes(
    sturdy: Server, channel: grpc.aio.Channel, connect: Connect
) -> None:
    before = Vitals.of(sturdy)
    pool = {"Pool": str(uuid.uuid4())}
    client, bot = Client(channel), Bot(channel, "", "vanished", properties=pool)
    digest = await client.add_action("vanished", platform=pool)
    connections = [connect() for _ in range(50)]
    for connection in connections:
        connection.call(EXECUTE, reapi.ExecuteRequest(action_digest=digest))
    await until(sturdy, lambda now: now.watched_jobs == before.watched_jobs + 1)
    await until(sturdy, lambda now: now.running_calls == before.running_calls + 50)
    for connection in connections:
        connection.vanish()
    await recovered(sturdy, before)
    # The job is there still: a client whose connection broke comes back for it.
    execution = await client.queue(digest)
    await bot.update(completed(await bot.take_lease()))
    assert (await execution.response()).status.code == 0
    await works(channel)


async def test_bots_that_vanish_while_they_wait(
    sturdy: Server, channel: grpc.aio.Channel, connect: Connect
) -> None:
    before = Vitals.of(sturdy)
    pool = {"Pool": str(uuid.uuid4())}
    connections = [connect() for _ in range(50)]
    for number, connection in enumerate(connections):
        session = bots_pb2.BotSession(bot_id=f"vanishing-{pool['Pool']}-{number}", status=bots_pb2.OK)
        session.worker.devices.add().properties.add(key="Pool", value=pool["Pool"])
        connection.call(CREATE_BOT_SESSION, bots_pb2.CreateBotSessionRequest(bot_session=session))
    await until(sturdy, lambda now: now.held_calls == before.held_calls + 50)
    for connection in connections:
        connection.vanish()
    await recovered(sturdy, before)
    # What is queued now is not handed to one that is gone.
    client, bot = Client(channel), Bot(channel, "", "survivor", properties=pool)
    execution = await client.queue(await client.add_action("left", platform=pool))
    await bot.update(completed(await bot.take_lease()))
    assert (await execution.response()).status.code == 0
    await works(channel)


async def test_messages_that_are_too_large(
    sturdy: Server, channel: grpc.aio.Channel, connect: Connect
) -> None:
    before, memory = Vitals.of(sturdy), resident_bytes(sturdy)
    request = reapi.BatchUpdateBlobsRequest()
    request.requests.add(digest=digest_of(b"small"), data=bytes(17 * MIB))
    calls = [Client(channel).cas.BatchUpdateBlobs(request, timeout=60) for _ in range(3)]
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(outcome, grpc.aio.AioRpcError)
        assert outcome.code() is StatusCode.RESOURCE_EXHAUSTED
        assert "16777216" in (outcome.details() or "")
    # What is only announced takes no room, and is refused at once.
    rude = connect()
    for _ in range(50):
        stream = rude.begin(FIND_MISSING)
        rude.send(frame(DATA, 0, stream, struct.pack(">BI", 0, 2**32 - 1)))
    for answer in range(50):
        trailers = await asyncio.to_thread(rude.until, HEADERS)
        assert b"grpc-status\x018" in trailers.payload, answer
    assert resident_bytes(sturdy) < memory + 200 * MIB
    await works(channel)
    rude.vanish()
    await recovered(sturdy, before)
