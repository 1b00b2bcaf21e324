"""kill -9 of servers: what runs goes on, what is asked is answered, nothing is done twice."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
import pytest
from buildgrid_client.digests import digest_of

from tests.farm.bots import Bot, Handouts, WorkingBot, completed
from tests.farm.clients import EXECUTING, Client, StubbornClient
from tests.farm.database import count, rows
from tests.farm.replica import Replica
from tests.farm.waiting import gather_within
from tests.integration.scheduler.conftest import StartReplica

pytestmark = pytest.mark.xdist_group("scheduler-kills")
OpenChannel = Callable[[Replica], grpc.aio.Channel]


@asynccontextmanager
async def at_work(
    number: int,
    channels: list[grpc.aio.Channel],
    handouts: Handouts,
    may_finish: asyncio.Event | None = None,
    *,
    spread: bool = False,
    first: int = 0,
) -> AsyncIterator[list[WorkingBot]]:
    """Bots that work on the first channel, and on the next when that fails; `spread`: half start there."""
    bots = []
    for n in range(first, first + number):
        order = channels[n % len(channels) :] + channels[: n % len(channels)] if spread else channels
        bots.append(WorkingBot([Bot(channel, "", f"bot-{n}") for channel in order], handouts, may_finish))
    tasks = [asyncio.create_task(bot.run()) for bot in bots]
    try:
        yield bots
        failures = [task.exception() for task in tasks if task.done()]
        assert failures == []
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_actions_that_run_survive_a_kill_and_restart_of_the_server(
    start_replica: StartReplica, channels: OpenChannel, database: str
) -> None:
    replica = start_replica()
    channel = channels(replica)
    client, handouts = Client(channel), Handouts()
    before_the_kill, after_it = asyncio.Event(), asyncio.Event()
    digests = await client.add_actions("survivor", 40)
    clients = [StubbornClient(client) for _ in digests]
    results = [asyncio.create_task(c.run(d)) for c, d in zip(clients, digests, strict=True)]
    async with (
        at_work(20, [channel], handouts, before_the_kill) as early,
        at_work(20, [channel], handouts, after_it, first=20) as late,
    ):
        await handouts.until_running(40)
        operations = [client.operation for client in clients]
        before_the_kill.set()
        await asyncio.wait(results, return_when=asyncio.FIRST_COMPLETED)
        replica.kill()  # with completions on their way
        after_it.set()
        await asyncio.to_thread(replica.start)
        responses = await gather_within(30, *results)
    assert [r.result.stdout_raw.decode() for r in responses] == [d.hash for d in digests]
    assert [len(client.responses) for client in clients] == [1] * 40
    assert [client.operation for client in clients] == operations
    assert sum(client.interruptions for client in clients) >= 20
    assert sum(bot.sessions_lost for bot in early + late) == 0
    assert (len(handouts.leases), handouts.twice) == (40, set())
    assert rows(database, "SELECT count(*), max(n_tries), count(completed_at) FROM jobs") == [(40, 1, 40)]


async def test_a_replica_tells_another_at_once(start_replica: StartReplica, channels: OpenChannel) -> None:
    for_clients, for_bots = start_replica(), start_replica()
    client, handouts = Client(channels(for_clients)), Handouts()
    digests = await client.add_actions("prompt", 20)
    delays = []
    async with at_work(2, [channels(for_bots)], handouts):
        await for_bots.until_held(2)
        for digest in digests:
            began = time.monotonic()
            await client.execute(digest).response()
            delays.append(time.monotonic() - began)
    # Nobody looks at the queue by itself for a minute.
    assert max(delays) < 1, delays
    assert handouts.twice == set()


@pytest.mark.parametrize("victim", ["of the clients", "of the bots"])
async def test_what_a_killed_replica_had_goes_on_through_the_other(
    start_replica: StartReplica, channels: OpenChannel, database: str, victim: str
) -> None:
    for_clients, for_bots = start_replica(), start_replica()
    ours, theirs = channels(for_clients), channels(for_bots)
    handouts = Handouts()
    digests = await Client(ours).add_actions("moved", 60)
    await Client(theirs).add_actions("moved", 60)
    clients = [StubbornClient(Client(ours), Client(theirs)) for _ in digests]
    results = [asyncio.create_task(c.run(d)) for c, d in zip(clients, digests, strict=True)]
    async with at_work(10, [theirs, ours], handouts):
        await handouts.until_completed(15)
        (for_clients if victim == "of the clients" else for_bots).kill()
        responses = await gather_within(30, *results)
    assert [r.result.stdout_raw.decode() for r in responses] == [d.hash for d in digests]
    assert handouts.twice == set()
    assert rows(database, "SELECT max(n_tries), count(DISTINCT action_digest) FROM jobs") == [(1, 60)]


async def test_a_hundred_clients_on_each_of_two_replicas_share_one_job(
    start_replica: StartReplica, channels: OpenChannel, database: str
) -> None:
    replicas = [start_replica(), start_replica()]
    ways = [channels(replica) for replica in replicas]
    handouts, may_finish = Handouts(), asyncio.Event()
    for way in ways:
        digest = await Client(way).add_action("popular")
    clients = [StubbornClient(Client(ways[n % 2])) for n in range(200)]
    async with at_work(10, ways, handouts, may_finish, spread=True):
        for replica in replicas:
            await replica.until_held(5)
        results = [asyncio.create_task(client.run(digest)) for client in clients]
        await gather_within(20, *(client.first_told.wait() for client in clients))
        assert (count(database, "jobs"), count(database, "operations")) == (1, 200)
        may_finish.set()
        responses = await gather_within(20, *results)
    assert {response.result.stdout_raw.decode() for response in responses} == {digest.hash}
    assert not any(response.cached_result for response in responses)
    assert len(handouts.leases) == 1
    assert len({client.operation for client in clients}) == 200


async def test_two_hundred_bots_do_a_thousand_jobs_over_two_replicas_once_each(
    start_replica: StartReplica, channels: OpenChannel, database: str
) -> None:
    ways = [channels(start_replica()) for _ in range(2)]
    handouts = Handouts()
    digests = await Client(ways[0]).add_actions("many", 1000)
    await Client(ways[1]).add_actions("many", 1000)
    async with at_work(200, ways, handouts, spread=True) as bots:
        clients = [StubbornClient(Client(ways[n % 2])) for n in range(len(digests))]
        runs = (client.run(digest) for client, digest in zip(clients, digests, strict=True))
        responses = await gather_within(60, *runs)
    assert [r.result.stdout_raw.decode() for r in responses] == [d.hash for d in digests]
    assert (len(handouts.leases), handouts.twice) == (1000, set())
    assert sum(bot.sessions_lost for bot in bots) == 0
    # An answer that comes as its caller gives up is heard by nobody. That job is handed out again: no try.
    assert rows(database, "SELECT count(*), max(n_tries) FROM jobs") == [(1000, 1)]
    assert [count(database, table) for table in ("queue", "leases", "in_flight")] == [0, 0, 0]


async def test_a_replica_that_is_told_to_stop_sends_its_clients_and_bots_to_the_other(
    start_replica: StartReplica, channels: OpenChannel
) -> None:
    leaving, staying = start_replica(), start_replica()
    ours, theirs = channels(leaving), channels(staying)
    handouts, may_finish = Handouts(), asyncio.Event()
    digests = await Client(ours).add_actions("rolled", 12)
    await Client(theirs).add_actions("rolled", 12)
    clients = [StubbornClient(Client(ours), Client(theirs)) for _ in digests]
    results = [asyncio.create_task(c.run(d)) for c, d in zip(clients, digests, strict=True)]
    async with at_work(6, [ours, theirs], handouts, may_finish) as bots:
        await handouts.until_running(6)
        # Calls that were held would be cut off after 5 s.
        stopped = asyncio.create_task(asyncio.to_thread(leaving.terminate, within=4.5))
        await gather_within(15, *(client.first_told.wait() for client in clients))
        may_finish.set()
        responses = await gather_within(20, *results)
        assert await stopped == 0
    assert {r.result.stdout_raw.decode() for r in responses} == {d.hash for d in digests}
    assert handouts.twice == set()
    assert sum(bot.sessions_lost for bot in bots) == 0


async def test_an_operation_is_found_again_after_a_restart(
    start_replica: StartReplica, channels: OpenChannel
) -> None:
    replica = start_replica()
    channel = channels(replica)
    client, bot = Client(channel), Bot(channel, "", "bot")
    digest = await client.add_action("found-again")
    execution = await client.queue(digest)
    lease = await bot.take_lease()
    await execution.until(EXECUTING)
    replica.kill()
    with contextlib.suppress(grpc.aio.AioRpcError, EOFError):
        await execution.next()
    await asyncio.to_thread(replica.start)
    again = client.wait(execution.name)
    await again.until(EXECUTING)
    await bot.update(completed(lease))
    assert (await again.response()).status.code == 0
    assert (await client.wait(execution.name).response()).status.code == 0
    assert digest_of(lease.payload.value) == digest
