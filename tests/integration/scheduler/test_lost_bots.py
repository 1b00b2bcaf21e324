"""Bots that are killed while they work: the server hears of it, and does not believe them for long."""

import asyncio
from datetime import UTC, datetime, timedelta

import psycopg
from buildgrid_scheduler.engine.hang_ups import GRACE

from tests.farm.bots import HELD, Bot, active
from tests.farm.clients import Client
from tests.integration.scheduler.conftest import StartReplica


async def test_a_bot_that_is_killed_while_it_works_is_not_believed_for_the_whole_keepalive(
    start_replica: StartReplica, database: str
) -> None:
    replica = start_replica(scheduler={"bot_session_keepalive_timeout": 600, "session_expiry_interval": 0.2})
    channel, of_bot = replica.open_channel(), replica.open_channel()
    try:
        client, bot = Client(channel), Bot(of_bot, "", "killed", long_poll_full=True)
        await client.queue(await client.add_action("action"))
        lease = await bot.take_lease()
        working = asyncio.create_task(bot.update(active(lease), timeout=HELD))
        await replica.until_held(1)
        assert bot.expires - datetime.now(UTC) > timedelta(seconds=500)
        await of_bot.close()
        await asyncio.wait([working])
        async with asyncio.timeout(60):
            while await ends_in(database) > GRACE:  # noqa: ASYNC110 - the database tells nobody
                await asyncio.sleep(0.1)
    finally:
        await of_bot.close()
        await channel.close()


async def test_a_bot_that_is_killed_before_its_first_call_for_a_job_is_not_believed_for_the_whole_keepalive(
    start_replica: StartReplica, database: str
) -> None:
    replica = start_replica(scheduler={"bot_session_keepalive_timeout": 600, "session_expiry_interval": 0.2})
    channel, of_bot = replica.open_channel(), replica.open_channel()
    try:
        client, bot = Client(channel), Bot(of_bot, "", "killed", long_poll_full=True)
        await client.queue(await client.add_action("action"))
        assert await bot.open(timeout=HELD)
        assert bot.expires - datetime.now(UTC) > timedelta(seconds=500)
        await of_bot.close()  # between two calls: there is nothing that breaks off
        async with asyncio.timeout(60):
            while await ends_in(database) > GRACE:  # noqa: ASYNC110 - the database tells nobody
                await asyncio.sleep(0.1)
    finally:
        await of_bot.close()
        await channel.close()


async def ends_in(database: str) -> timedelta:
    """How long the only session there is will be believed."""
    async with await psycopg.AsyncConnection.connect(database) as connection:
        cursor = await connection.execute("SELECT expires_at - now() FROM bots")
        row = await cursor.fetchone()
    assert row is not None
    left: timedelta = row[0]
    return left
