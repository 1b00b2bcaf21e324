"""SIGTERM: not ready first, whoever waits is sent elsewhere, what was begun is finished, in under 10 s."""

import asyncio
import signal
from collections.abc import Callable

import grpc
import pytest

from tests.farm.bots import HELD, Bot, completed
from tests.farm.clients import Client
from tests.farm.database import MortalPostgres, create_database
from tests.farm.waiting import eventually
from tests.integration.server.conftest import OpenChannel, StartServer
from tests.integration.server.server_process import Server

LIMIT = 10.0
"""Seconds, by the specification; the process's own end comes on top on a loaded machine."""
SLACK = 5.0


async def code_of(call: "asyncio.Future[object] | asyncio.Task[object]") -> grpc.StatusCode | None:
    """How a call failed; None if it did not."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return None


async def test_streams_and_held_calls_are_sent_elsewhere_at_once(
    start_server: StartServer, channels: OpenChannel
) -> None:
    server = start_server(shutdown={"grace": "8s"})
    client, bot = Client(channels(server)), Bot(channels(server), "", "bot", properties={"Pool": "other"})
    execution = await client.queue(await client.add_action("a", platform={"Pool": "none"}))
    await bot.open()
    held = asyncio.ensure_future(bot.update(timeout=HELD))
    await server.until_held(1)
    stopping = asyncio.ensure_future(asyncio.to_thread(server.seconds_to_stop))
    stream = asyncio.ensure_future(execution.next(within=20))
    assert await code_of(held) is grpc.StatusCode.UNAVAILABLE
    assert await code_of(stream) is grpc.StatusCode.UNAVAILABLE
    # Nobody had to wait for the grace of calls that run.
    assert await stopping < 8
    assert server.log.rstrip().endswith("stopped")


async def test_a_report_that_arrived_before_the_end_is_not_lost(
    start_server: StartServer, channels: OpenChannel
) -> None:
    server = start_server()
    client, bot = Client(channels(server)), Bot(channels(server), "", "bot")
    executions = [await client.queue(await client.add_action(f"a-{n}")) for n in range(3)]
    lease = await bot.take_lease()
    server.signal(signal.SIGTERM)
    code = await code_of(asyncio.ensure_future(bot.update(completed(lease))))
    assert server.exit_code() == 0
    server.start()
    states = [await client.get(execution.name) for execution in executions]
    # Either the bot was told that it was not taken, or it was; never "taken" and lost.
    assert any(state.done for state in states) == (code is None)


async def test_it_serves_on_for_the_delay_without_being_ready(
    start_server: StartServer, channels: OpenChannel
) -> None:
    server = start_server(shutdown={"delay": "2s"})
    client = Client(channels(server))
    await client.queue(await client.add_action("a"))
    server.signal(signal.SIGTERM)
    await eventually(lambda: server.readiness() == (503, "stopping\n"), 10, server.describe)
    assert server.liveness()[0] == 200
    assert len(await client.unfinished()) == 1
    assert server.exit_code() == 0


@pytest.fixture
def postgres() -> "object":
    server = MortalPostgres()
    yield server
    server.close()


async def test_a_database_that_is_away_does_not_hold_it_up(
    make_server: Callable[..., Server], channels: OpenChannel, postgres: MortalPostgres
) -> None:
    server = make_server(create_database(postgres.url))
    server.start()
    client = Client(channels(server))
    digest = await client.add_action("a")
    await client.queue(digest)
    await asyncio.to_thread(postgres.crash)
    begun = asyncio.ensure_future(client.queue(await client.add_action("b")))
    await eventually(lambda: "cannot be reached" in server.log, 20, server.describe)
    server.signal(signal.SIGTERM)
    code = await asyncio.to_thread(server.exit_code, LIMIT + SLACK)
    # 1: what was begun could not be finished, and is given up.
    assert code in (0, 1), server.describe()
    assert await code_of(begun) in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


async def test_a_server_that_waits_for_its_database_stops_at_once(make_server: Callable[..., Server]) -> None:
    server = make_server("postgresql://127.0.0.1:1/nowhere")
    server.launch()
    await eventually(lambda: "cannot be used yet" in server.log, 30, server.describe)
    assert server.liveness()[0] == 200
    assert server.seconds_to_stop() < LIMIT
