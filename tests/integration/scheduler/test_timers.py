"""What time does to operations, as clients and bots see it."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from tests.farm.bots import Bot, active, completed
from tests.farm.clients import EXECUTING, QUEUED, Client, response_of, stage_of
from tests.farm.database import rows
from tests.farm.replica import Replica
from tests.farm.waiting import eventually
from tests.integration.scheduler.conftest import StartReplica

pytestmark = pytest.mark.xdist_group("scheduler-timers")
OpenChannel = Callable[[Replica], grpc.aio.Channel]
SOON: dict[str, Any] = {"job_max_age": 1, "handling_period": 0.2}


async def test_an_operation_that_its_client_left_is_cancelled_and_its_bot_stops(
    start_replica: StartReplica, channels: OpenChannel
) -> None:
    channel = channels(start_replica(scheduler={"abandoned_operation_timeout": 1}))
    client, bot = Client(channel), Bot(channel, "", "bot")
    left = await client.queue(await client.add_action("left"))
    lease = await bot.take_lease()
    assert [told.state for told in await bot.update(active(lease))] == [active(lease).state]
    left.hang_up()
    told = [lease]
    async with asyncio.timeout(30):
        while told[0].state != 5:
            told = await bot.update(active(lease), timeout=2)
            await asyncio.sleep(0.05)
    operation = await client.get(left.name)
    assert response_of(operation).status.code == grpc.StatusCode.CANCELLED.value[0]


async def test_an_operation_that_is_followed_or_asked_for_lives_on(
    start_replica: StartReplica, channels: OpenChannel, database: str
) -> None:
    settings = {"abandoned_operation_timeout": 1}
    first, second = start_replica(scheduler=settings), start_replica(scheduler=settings)
    client, elsewhere = Client(channels(first)), Client(channels(second))
    digests = await client.add_actions("action", 4)
    streamed, polled, waited, left = [await client.queue(digest) for digest in digests]
    for execution in (polled, waited):
        execution.hang_up()
    again = elsewhere.wait(waited.name)
    await again.next()

    async def poll() -> None:
        while True:
            assert stage_of(await elsewhere.get(polled.name)) == QUEUED
            await asyncio.sleep(0.05)

    polling = asyncio.create_task(poll())
    await asyncio.sleep(2)  # of twice the timeout
    left.hang_up()
    cancelled = "SELECT name FROM operations WHERE cancelled"
    await eventually(lambda: rows(database, cancelled) == [(left.name,)], 30)
    assert not polling.done()
    polling.cancel()
    for execution in (streamed, again):
        assert stage_of(await client.get(execution.name)) == QUEUED


async def test_a_job_that_nobody_takes_fails_and_says_what_is_missing(
    start_replica: StartReplica, channels: OpenChannel
) -> None:
    client = Client(channels(start_replica(scheduler={"queue_timeout": SOON})))
    execution = await client.queue(await client.add_action("action", platform={"Pool": "gpu"}))
    response = await execution.response(within=30)
    assert response.status.code == grpc.StatusCode.UNAVAILABLE.value[0]
    assert "are there bots with Pool=gpu" in response.status.message


async def test_a_job_that_executes_for_too_long_fails(
    start_replica: StartReplica, channels: OpenChannel
) -> None:
    settings = {"max_execution_timeout": 1, "execution_timeout_grace": 0, "execution_timer_interval": 0.2}
    channel = channels(start_replica(scheduler=settings))
    client, bot = Client(channel), Bot(channel, "", "bot")
    execution = await client.queue(await client.add_action("action"))
    lease = await bot.take_lease()
    await bot.update(active(lease))
    await execution.until(EXECUTING)
    response = await execution.response(within=30)
    assert response.status.code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
    assert [told.state for told in await bot.update(active(lease))] == [5]
    await bot.update(completed(lease))
    assert (await client.get(execution.name)).done


async def test_what_ended_long_ago_is_forgotten(
    start_replica: StartReplica, channels: OpenChannel, database: str
) -> None:
    client = Client(channels(start_replica(scheduler={"pruning": SOON})))
    execution = await client.queue(await client.add_action("action"))
    await client.cancel(execution.name)
    await eventually(lambda: rows(database, "SELECT count(*) FROM jobs") == [(0,)], 30)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.get(execution.name)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
