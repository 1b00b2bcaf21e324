"""A server with a farm of the test's own instance, and the program that looks at it."""

import itertools
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from buildgrid_scheduler.cli.main import main

from tests.farm.bots import Bot
from tests.farm.clients import Client
from tests.farm.database import Databases, drop_database
from tests.farm.replica import Replica

TENANTS = tuple(f"team/{number}" for number in range(60))
Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    databases = Databases()
    yield databases
    databases.close()


@pytest.fixture(scope="session")
def database(databases: Databases) -> Iterator[str]:
    url = databases.create()
    yield url
    drop_database(url)


@pytest.fixture(scope="session")
def replica(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    replica = Replica(tmp_path_factory.mktemp("cli"), database, instances=TENANTS)
    yield replica.start()
    replica.close()


@dataclass
class Farm:
    """The server as one tenant sees it."""

    replica: Replica
    instance: str
    stack: AsyncExitStack

    @property
    def client(self) -> Client:
        return Client(self._channel(), self.instance)

    def bot(self, bot_id: str, **options: Any) -> Bot:
        return Bot(self._channel(), self.instance, bot_id, **options)

    def _channel(self) -> Any:
        channel = self.replica.open_channel()
        self.stack.push_async_callback(channel.close)
        return channel


_tenants = itertools.cycle(TENANTS)


@pytest.fixture
async def farm(replica: Replica) -> AsyncIterator[Farm]:
    async with AsyncExitStack() as stack:
        yield Farm(replica, next(_tenants), stack)


@pytest.fixture
def cli(
    farm: Farm, database: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cli]:
    """Runs the program for the test's instance; returns exit code, output, and errors."""
    monkeypatch.setenv("DATABASE_URL", database)

    def run(*arguments: str, instance: str | None = farm.instance) -> tuple[int, str, str]:
        flags = [] if instance is None else ["--instance", instance]
        code = main([*arguments, *flags])
        told = capsys.readouterr()
        return code, told.out, told.err

    yield run
    assert os.environ["DATABASE_URL"] == database
