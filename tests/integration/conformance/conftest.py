"""One server process on a real PostgreSQL, and a bot that works for a fake farm."""

import itertools
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.farm.database import Databases, drop_database
from tests.farm.replica import Replica
from tests.integration.bot.conftest import best_sandbox as best_sandbox
from tests.integration.bot.conftest import start_bot as start_bot
from tests.integration.bot.fake_farm import FakeFarm
from tests.integration.conformance.tenant import QUEUE, STRANGER, Tenant

TENANTS = tuple(f"tenant/{number}" for number in range(200))
"""Instances: each test has one of its own."""


@pytest.fixture(scope="session")
def replica(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    databases = Databases()
    url = databases.create()
    scheduler = {"max_queue_size": QUEUE, "max_execution_timeout": 600}
    replica = Replica(
        tmp_path_factory.mktemp("conformance"), url, instances=(*TENANTS, STRANGER), scheduler=scheduler
    )
    yield replica.start()
    replica.close()
    drop_database(url)
    databases.close()


_tenants = itertools.cycle(TENANTS)


@pytest.fixture
async def tenant(replica: Replica) -> AsyncIterator[Tenant]:
    async with replica.open_channel() as channel:
        yield Tenant(channel, next(_tenants))


@pytest.fixture
async def farm() -> AsyncIterator[FakeFarm]:
    """What `start_bot` works for."""
    farm = FakeFarm()
    await farm.start()
    yield farm
    await farm.stop()
