"""Bots that wait: held calls, and who is woken."""

import asyncio
import statistics
import time
from datetime import UTC, datetime

import grpc
import pytest
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2 import (
    CANCELLED,
    PENDING,
    UNHEALTHY,
    Lease,
)

from tests.farm.bots import HELD, Bot, active, cancelled, completed
from tests.farm.clients import COMPLETED, EXECUTING
from tests.farm.waiting import gather_within
from tests.integration.scheduler.conftest import Farm

pytestmark = pytest.mark.xdist_group("scheduler-farm")


@pytest.fixture(autouse=True)
async def nobody_else_waits(farm: Farm) -> None:
    """Calls of the test before this one may take a moment to be given up."""
    for replica in farm.replicas:
        await replica.until_held(0)


@pytest.mark.parametrize("second", [False, True], ids=["same replica", "other replica"])
async def test_a_waiting_bot_gets_a_job_at_once(farm: Farm, second: bool) -> None:
    client, bot = farm.client(), farm.bot(second=second)
    digests = await client.add_actions(f"prompt-{second}", 7)
    await bot.open()
    delays = []
    report: list[Lease] = []
    for digest in digests:
        waiting = asyncio.create_task(bot.update(*report, timeout=HELD))
        await farm.replicas[second].until_held(1)
        began = time.monotonic()
        execution = client.execute(digest)
        (lease,) = await waiting
        delays.append(time.monotonic() - began)
        assert lease.state == PENDING
        await execution.until(EXECUTING)
        report = [completed(lease)]
    assert statistics.median(delays) < 0.2, delays


async def test_of_fifty_waiting_bots_one_job_wakes_one(farm: Farm) -> None:
    client = farm.client()
    bots = [farm.bot(f"bot-{n}", second=n % 2 == 1) for n in range(50)]
    await gather_within(10, *(bot.open() for bot in bots))
    calls = [asyncio.create_task(bot.update(timeout=HELD)) for bot in bots]
    for replica in farm.replicas:
        await replica.until_held(25)
    execution = await client.queue(await client.add_action("for-one"))
    done, held = await asyncio.wait(calls, timeout=10, return_when=asyncio.FIRST_COMPLETED)
    (call,) = done
    (lease,) = call.result()
    await bots[calls.index(call)].update(completed(lease))
    await execution.until(COMPLETED)
    assert not any(call.done() for call in held)
    assert sum(replica.metric("buildgrid_held_bot_calls") for replica in farm.replicas) == 49
    for call in held:
        call.cancel()


async def test_a_hold_ends_at_80_percent_of_the_deadline_with_the_expiry_refreshed(farm: Farm) -> None:
    bot = farm.bot()
    await bot.open()
    began = time.monotonic()
    assert await bot.update(timeout=4.5) == []
    assert 0.75 * 4.5 < time.monotonic() - began < 4.5
    # The keepalive of the shared farm is 5 s: an expiry from the beginning would be nearly over.
    assert (bot.expires - datetime.now(UTC)).total_seconds() > 4


async def test_a_hold_is_bounded_by_the_keepalive(farm: Farm) -> None:
    bot = farm.bot()
    await bot.open()
    began = time.monotonic()
    assert await bot.update(timeout=60) == []
    assert 3.5 < time.monotonic() - began < 4.9


async def test_the_job_that_comes_after_a_bot_hung_up_goes_to_another(farm: Farm) -> None:
    client, gone, other = farm.client(), farm.bot("gone"), farm.bot("other")
    await gone.open()
    await other.open()
    call = asyncio.create_task(gone.update(timeout=HELD))
    await farm.replicas[0].until_held(1)
    call.cancel()
    await farm.replicas[0].until_held(0)
    execution = await client.queue(await client.add_action("hung-up"))
    await other.update(completed(await other.take_lease()))
    assert (await execution.response(within=3)).status.code == 0


async def test_a_bot_that_hangs_up_just_when_a_job_comes_loses_none(farm: Farm) -> None:
    client, other = farm.client(), farm.bot("other")
    await other.open()
    for number, digest in enumerate(await client.add_actions("just-then", 20)):
        gone = farm.bot(f"gone-{number}")
        await gone.open()
        call = asyncio.create_task(gone.update(timeout=HELD))
        await farm.replicas[0].until_held(1)
        execution = client.execute(digest)
        first = asyncio.create_task(execution.next())
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        # If the answer had left already, only the bot itself can get the lease again, when it calls.
        calls = {asyncio.create_task(bot.update(timeout=HELD)): bot for bot in (gone, other)}
        done, held = await asyncio.wait(calls, timeout=2, return_when=asyncio.FIRST_COMPLETED)
        assert done, "nobody is given the job"
        for hanging in held:
            hanging.cancel()
        for answered in done:
            (lease,) = answered.result()
            await calls[answered].update(completed(lease))
        await first
        assert (await execution.response(within=3)).status.code == 0
        await farm.replicas[0].until_held(0)


async def test_a_connection_that_breaks_while_a_bot_waits_loses_no_job(farm: Farm) -> None:
    client, other = farm.client(), farm.bot("other")
    channel = farm.replicas[0].open_channel()
    gone = Bot(channel, farm.tenant, "gone")
    await gone.open()
    call = asyncio.create_task(gone.update(timeout=HELD))
    await farm.replicas[0].until_held(1)
    await channel.close()
    with pytest.raises((asyncio.CancelledError, grpc.aio.AioRpcError)):
        await call
    await farm.replicas[0].until_held(0)
    execution = await client.queue(await client.add_action("broken-off"))
    await other.update(completed(await other.take_lease()))
    assert (await execution.response(within=3)).status.code == 0


async def test_a_later_call_of_a_session_takes_over_from_the_one_that_waits(farm: Farm) -> None:
    client, bot = farm.client(), farm.bot()
    await bot.open()
    first = asyncio.create_task(bot.update(timeout=HELD))
    await farm.replicas[0].until_held(1)
    second = asyncio.create_task(bot.update(timeout=HELD))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await first
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
    await client.queue(await client.add_action("taken-over"))
    (lease,) = await second
    assert lease.state == PENDING


async def test_of_a_burst_of_calls_of_one_session_all_are_answered(farm: Farm) -> None:
    client, bot = farm.client(), farm.bot()
    await bot.open()
    for number in range(5):
        calls = [asyncio.create_task(bot.update(timeout=HELD)) for _ in range(8)]
        execution = await client.queue(await client.add_action(f"burst-{number}"))
        leases = {}
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(outcome, list):
                leases.update({lease.id: lease for lease in outcome})
            else:
                assert isinstance(outcome, grpc.aio.AioRpcError)
                assert outcome.code() is grpc.StatusCode.UNAVAILABLE, outcome
        (lease,) = leases.values()
        await bot.update(completed(lease))
        assert (await execution.response(within=3)).status.code == 0


async def test_a_bot_that_is_not_ok_is_neither_held_nor_given_work(farm: Farm) -> None:
    client, bot = farm.client(), farm.bot()
    await client.queue(await client.add_action("for-the-healthy"))
    assert await bot.open(timeout=HELD, status=UNHEALTHY) == []
    assert await bot.update(timeout=HELD, status=UNHEALTHY) == []
    (lease,) = await bot.update(timeout=HELD)
    assert lease.state == PENDING


async def test_a_job_that_requires_more_than_a_waiting_bot_has_does_not_wake_it(farm: Farm) -> None:
    client = farm.client()
    plain, fitting = farm.bot("plain"), farm.bot("fitting", properties={"OSFamily": "linux", "ISA": "arm"})
    await plain.open()
    await fitting.open()
    calls = [asyncio.create_task(bot.update(timeout=HELD)) for bot in (plain, fitting)]
    await farm.replicas[0].until_held(2)
    await client.queue(await client.add_action("picky", platform={"OSFamily": "linux"}))
    (lease,) = await calls[1]
    assert lease.state == PENDING
    assert not calls[0].done()
    # What nobody could take when it came is given to the bot that can when it comes.
    await client.queue(await client.add_action("rare", platform={"OSFamily": "plan9"}))
    late = farm.bot("late", properties={"OSFamily": "plan9"}, second=True)
    assert [lease.state for lease in await late.open(timeout=HELD)] == [PENDING]
    assert not calls[0].done()
    calls[0].cancel()


@pytest.mark.parametrize("second", [False, True], ids=["same replica", "other replica"])
async def test_a_bot_that_works_and_polls_is_told_of_a_cancellation_at_once(farm: Farm, second: bool) -> None:
    client, bot = farm.client(), farm.bot(long_poll=True, capacity=2, second=second)
    await bot.open()
    execution = await client.queue(await client.add_action("unwanted"))
    (lease,) = await bot.update(timeout=HELD)  # the other replica may hear of it later
    await bot.update(active(lease))
    waiting = asyncio.create_task(bot.update(active(lease), timeout=HELD))
    await farm.replicas[second].until_held(1)
    began = time.monotonic()
    await client.cancel(execution.name)
    (told,) = await waiting
    assert (told.id, told.state) == (lease.id, CANCELLED)
    assert time.monotonic() - began < 0.5
    assert await bot.update(cancelled(told)) == []
    await client.queue(await client.add_action("wanted"))
    (next_lease,) = await bot.update(timeout=HELD)  # the other replica may hear of it later
    assert next_lease.state == PENDING
