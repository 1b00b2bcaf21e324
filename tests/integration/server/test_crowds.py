"""Many at once, and those that only seem to be there: connections, calls, handshakes, half-open networks."""

import asyncio
import socket
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack

import grpc
import pytest
from buildgrid_client.digests import digest_of
from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as reapi
from buildgrid_protos.google.bytestream.bytestream_pb2 import WriteRequest
from buildgrid_protos.google.bytestream.bytestream_pb2_grpc import ByteStreamStub

from tests.farm.bots import HELD, Bot
from tests.farm.clients import Client, action_blobs
from tests.farm.waiting import eventually
from tests.integration.server.conftest import Impatient
from tests.integration.server.half_open import HalfOpenNetwork
from tests.integration.server.raw_http2 import DATA, HEADERS, SETTINGS, RawConnection
from tests.integration.server.server_process import Server
from tests.integration.server.vitals import Vitals, recovered, until, works

EXECUTE = "/build.bazel.remote.execution.v2.Execution/Execute"
END_STREAM = 0x1


@pytest.fixture
async def channel(sturdy: Server) -> AsyncIterator[grpc.aio.Channel]:
    """Of those who behave."""
    async with sturdy.open_channel() as channel:
        await works(channel)
        yield channel


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


async def test_a_thousand_idle_connections(
    sturdy: Server, channel: grpc.aio.Channel, stack: ExitStack
) -> None:
    """More than the open files that the server was started with."""
    before = Vitals.of(sturdy)
    connections = [RawConnection(sturdy.endpoint) for _ in range(1_000)]
    for connection in connections:
        stack.callback(connection.close)
        connection.until(SETTINGS)  # the server has set it up
    await works(channel)
    # Not to the last one: what the server has still open for an earlier call may close meanwhile.
    assert Vitals.of(sturdy).open_files > 1_000
    for connection in connections:
        connection.vanish()
    await recovered(sturdy, before)


async def flood(channel: grpc.aio.Channel, count: int) -> list[reapi.Digest]:
    """Actions that no bot may take."""
    platform = {"Pool": str(uuid.uuid4())}
    blobs = [action_blobs(f"flood-{number}", platform=platform) for number in range(count)]
    await Client(channel).upload(blobs[0][1], b"", *(action for action, _, _ in blobs))
    return [digest_of(action) for action, _, _ in blobs]


async def test_thousands_of_calls_at_once_on_one_connection(
    sturdy: Server, channel: grpc.aio.Channel, stack: ExitStack
) -> None:
    """None of them is refused for being many: a large build begins so."""
    before = Vitals.of(sturdy)
    digests = await flood(channel, 2_500)
    connection = RawConnection(sturdy.endpoint)
    stack.callback(connection.close)
    for digest in digests:
        connection.call(EXECUTE, reapi.ExecuteRequest(action_digest=digest))

    def answered() -> set[int]:
        streams: set[int] = set()
        for frame in connection.frames():
            assert not (frame.kind == HEADERS and frame.flags & END_STREAM), frame.payload
            if frame.kind == DATA:
                streams.add(frame.stream)
            if len(streams) == len(digests):
                break
        return streams

    assert len(await asyncio.wait_for(asyncio.to_thread(answered), 60)) == len(digests)
    await works(channel)
    connection.vanish()
    await recovered(sturdy, before)


async def test_calls_that_are_cancelled_as_soon_as_they_are_made(
    sturdy: Server, channel: grpc.aio.Channel, stack: ExitStack
) -> None:
    """HTTP/2's rapid reset."""
    before = Vitals.of(sturdy)
    digests = await flood(channel, 100)
    connection = RawConnection(sturdy.endpoint)
    stack.callback(connection.close)
    for _ in range(20):
        for digest in digests:
            connection.cancel(connection.call(EXECUTE, reapi.ExecuteRequest(action_digest=digest)))
    await works(channel)
    await recovered(sturdy, before)


async def test_connections_that_do_not_finish_their_handshake(impatient: Impatient, stack: ExitStack) -> None:
    server = impatient.server
    async with impatient.channel() as channel:
        await works(channel)
        before = Vitals.of(server)
        host, _, port = server.endpoint.rpartition(":")
        sockets = [socket.create_connection((host, int(port)), timeout=30) for _ in range(300)]
        for number, half in enumerate(sockets):
            stack.callback(half.close)
            if number % 2:
                half.sendall(b"\x16\x03\x01\x02\x00\x01\x00")  # the beginning of a ClientHello
        await works(channel)
        async with impatient.channel() as another:
            await works(another)

        def given_up() -> bool:
            return all(half.recv(1) == b"" for half in sockets)

        # The server closes them; nobody has to go.
        assert await asyncio.wait_for(asyncio.to_thread(given_up), 60)
        await recovered(server, before)


async def test_a_network_that_loses_everything_is_noticed(impatient: Impatient) -> None:
    server = impatient.server
    pool = {"Pool": str(uuid.uuid4())}
    async with impatient.channel() as channel, HalfOpenNetwork(server.endpoint) as network:
        await works(channel)
        before = Vitals.of(server)
        async with (
            impatient.channel(network.address) as bots,
            impatient.channel(network.address) as clients,
        ):
            bot = Bot(bots, "", "half-open", properties=pool)
            await bot.open()
            held = asyncio.ensure_future(bot.update(timeout=HELD))
            client = Client(clients)
            execution = await client.queue(await client.add_action("half-open", platform={"Pool": "none"}))
            blob = bytes(2_000_000)
            name = f"uploads/{uuid.uuid4()}/blobs/{digest_of(blob).hash}/{len(blob)}"
            writing = ByteStreamStub(clients).Write()
            await writing.write(WriteRequest(resource_name=name, data=blob[:100_000]))
            await until(server, lambda now: now.held_calls == before.held_calls + 1)
            await until(server, lambda now: now.running_calls == before.running_calls + 3)
            network.cut()
            await eventually(lambda: network.closed_by_server == network.connections, 30, server.describe)
            await recovered(server, before)
            # The bot goes on in its session over another way, and the client with its operation.
            again = Bot(channel, "", "half-open", properties=pool)
            again.name = bot.name
            assert await again.update() == []
            assert not (await Client(channel).get(execution.name)).done
            for call in (held, writing):
                call.cancel()
            await asyncio.gather(held, return_exceptions=True)
            await works(channel)
