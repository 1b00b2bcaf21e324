"""PostgreSQL that goes away and comes back, and one that is not there yet."""

import asyncio
from collections.abc import Callable, Iterator

import grpc
import pytest

from tests.farm.bots import HELD, Bot, Handouts, completed
from tests.farm.clients import Client, StubbornClient
from tests.farm.database import MortalPostgres, create_database, rows
from tests.farm.ports import ReservedPort
from tests.farm.replica import Replica
from tests.farm.waiting import eventually, gather_within
from tests.integration.scheduler.conftest import StartReplica
from tests.integration.scheduler.test_killed_replicas import at_work

pytestmark = pytest.mark.xdist_group("scheduler-kills")
OpenChannel = Callable[[Replica], grpc.aio.Channel]


@pytest.fixture
def postgres() -> Iterator[MortalPostgres]:
    server = MortalPostgres()
    yield server
    server.close()


async def test_a_crash_of_postgresql_under_load_loses_nothing_and_repeats_nothing(
    start_replica: StartReplica, channels: OpenChannel, postgres: MortalPostgres
) -> None:
    url = create_database(postgres.url)
    replicas = [start_replica(url=url), start_replica(url=url)]
    ways = [channels(replica) for replica in replicas]
    handouts = Handouts()
    digests = await Client(ways[0]).add_actions("load", 300)
    await Client(ways[1]).add_actions("load", 300)
    clients = [StubbornClient(Client(ways[n % 2])) for n in range(len(digests))]
    turn = asyncio.Semaphore(40)

    async def run(client: StubbornClient, number: int) -> str:
        async with turn:
            return (await client.run(digests[number])).result.stdout_raw.decode()

    async with at_work(20, ways, handouts, spread=True) as bots:
        results = [asyncio.create_task(run(client, number)) for number, client in enumerate(clients)]
        await handouts.until_completed(100)
        await asyncio.to_thread(postgres.crash)
        # Both have noticed: the outage is real, whatever is retried.
        for replica in replicas:
            await eventually(lambda r=replica: "cannot be reached" in r.log, 10)  # type: ignore[misc]
        assert not all(task.done() for task in results)
        await asyncio.to_thread(postgres.start)
        answers = await gather_within(40, *results)
    assert answers == [digest.hash for digest in digests]
    assert (len(handouts.leases), handouts.twice) == (300, set())
    assert sum(bot.sessions_lost for bot in bots) == 0
    assert rows(url, "SELECT max(n_tries), count(DISTINCT action_digest) FROM jobs") == [(1, 300)]


async def test_readiness_follows_the_database(start_replica: StartReplica, postgres: MortalPostgres) -> None:
    replica = start_replica(url=create_database(postgres.url))
    assert await replica.health() == "SERVING"
    await asyncio.to_thread(postgres.crash)
    await eventually(lambda: replica.readiness()[0] == 503, 15)
    assert "the database cannot be reached" in replica.readiness()[1]
    assert await replica.health() == "NOT_SERVING"
    await asyncio.to_thread(postgres.start)
    await eventually(lambda: replica.readiness()[0] == 200, 15)
    assert await replica.health() == "SERVING"


async def test_a_call_that_outlasts_the_patience_of_the_server_is_told_unavailable(
    start_replica: StartReplica, channels: OpenChannel, postgres: MortalPostgres
) -> None:
    channel = channels(start_replica(url=create_database(postgres.url)))
    client, bot = Client(channel), Bot(channel, "", "bot")
    execution = await client.queue(await client.add_action("before"))
    lease = await bot.take_lease()
    await asyncio.to_thread(postgres.crash)
    calls = (
        client.get(execution.name),
        client.cancel(execution.name),
        bot.update(completed(lease), timeout=20),
    )
    for error in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(error, grpc.aio.AioRpcError), error
        assert error.code() is grpc.StatusCode.UNAVAILABLE, error
        assert "the database cannot be reached" in (error.details() or "")
    await asyncio.to_thread(postgres.start)
    again = asyncio.create_task(bot.update(completed(lease), timeout=HELD))
    # The stream was never broken: it tells what became of the job.
    assert (await execution.response()).status.code == 0
    again.cancel()


async def test_a_server_without_a_database_says_so_and_serves_when_it_appears(
    start_replica: StartReplica, postgres: MortalPostgres
) -> None:
    postgres.crash()
    replica = start_replica(started=False, url=postgres.url)
    replica.launch()
    await eventually(lambda: "cannot be used yet" in replica.log, 20, replica.describe)
    status, reason = replica.readiness()
    assert status == 503
    assert "database" in reason, reason
    assert await replica.health() in ("UNAVAILABLE", "NOT_SERVING")
    await asyncio.to_thread(postgres.start)
    await eventually(lambda: replica.readiness()[0] == 200, 20, replica.describe)
    assert await replica.health() == "SERVING"


async def test_the_password_of_the_database_is_not_logged(start_replica: StartReplica) -> None:
    with ReservedPort() as nobody:
        url = f"postgresql://someone:open-sesame@{nobody.address}/nowhere"
        replica = start_replica(started=False, url=url)
        replica.launch()
        await eventually(lambda: "cannot be used yet" in replica.log, 20, replica.describe)
    assert "open-sesame" not in replica.log + replica.readiness()[1]
    assert "127.0.0.1" in replica.log
