"""Two replicas that tests share which do them no harm: each test has an instance of its own."""

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest

from tests.farm.bots import Bot
from tests.farm.clients import Client
from tests.farm.database import Databases, drop_database
from tests.integration.server.fleet_client import FleetClient
from tests.integration.server.server_process import Server

FARMS = tuple(f"farm/{number}" for number in range(60))


class Farm:
    """An instance of two replicas that no other test uses."""

    def __init__(self, database: str, replicas: tuple[Server, Server], instance: str) -> None:
        self.database = database
        self.instance = instance
        self._replicas = replicas
        self.stack = AsyncExitStack()

    def channel(self, replica: int = 0) -> grpc.aio.Channel:
        """A connection of its own."""
        channel = self._replicas[replica].open_channel()
        self.stack.push_async_callback(channel.close)
        return channel

    def fleet(self, replica: int = 0) -> FleetClient:
        """Who looks after it."""
        return FleetClient(self.channel(replica), self.instance)

    def bot(self, bot_id: str, replica: int = 0, **options: Any) -> Bot:
        """A bot of it."""
        return Bot(self.channel(replica), self.instance, bot_id, **options)

    async def queue(self, *names: str, **options: Any) -> None:
        """Let jobs wait."""
        client = Client(self.channel(), self.instance)
        for name in names:  # instances share the CAS, and no job
            await client.queue(await client.add_action(f"{self.instance} {name}", **options))


@pytest.fixture(scope="session")
def replicas(
    databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, tuple[Server, Server]]]:
    url = databases.create()
    folder = tmp_path_factory.mktemp("shared-farm")
    one, two = (Server(folder / name, url, instances=FARMS) for name in ("one", "two"))
    try:
        one.start()
        two.start()
        yield url, (one, two)
    finally:
        one.close()
        two.close()
        drop_database(url)


_instances = itertools.cycle(FARMS)


@pytest.fixture
async def farm(replicas: tuple[str, tuple[Server, Server]]) -> AsyncIterator[Farm]:
    farm = Farm(*replicas, next(_instances))
    async with farm.stack:
        yield farm
