"""Real server processes on a real PostgreSQL: a farm that tests share, and replicas of one's own to kill."""

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.farm.bots import Bot
from tests.farm.clients import Client
from tests.farm.database import Databases, drop_database
from tests.farm.replica import Replica

TENANTS = tuple(f"tenant/{number}" for number in range(150))
"""Instances: each test on the shared farm has one of its own, and sees nothing of the others."""
NO_SAFETY_NET = 60.0
"""Seconds between looks at the queue: longer than any test, so that what is not notified is noticed."""
SHARED = {
    "bot_session_keepalive_timeout": 5,
    "session_expiry_interval": 0.5,
    "max_job_attempts": 2,
    "max_execution_timeout": 600,
    "job_assignment_interval": NO_SAFETY_NET,
}

StartReplica = Callable[..., Replica]


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    databases = Databases()
    yield databases
    databases.close()


@pytest.fixture
def database(databases: Databases) -> Iterator[str]:
    url = databases.create()
    yield url
    drop_database(url)


@pytest.fixture
def start_replica(database: str, tmp_path: Path) -> Iterator[StartReplica]:
    """Starts replicas on the test's own database; `started=False` makes one and leaves it at that."""
    replicas: list[Replica] = []

    def start(
        *, started: bool = True, scheduler: dict[str, Any] | None = None, url: str = database, **settings: Any
    ) -> Replica:
        options = {"job_assignment_interval": NO_SAFETY_NET, **(scheduler or {})}
        replica = Replica(tmp_path / f"replica-{len(replicas)}", url, scheduler=options, **settings)
        replicas.append(replica)
        return replica.start() if started else replica

    yield start
    for replica in replicas:
        replica.close()


@pytest.fixture(scope="session")
def shared_replicas(
    databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Replica, Replica]]:
    """Two replicas on one database, for tests that do not harm them."""
    url = databases.create()
    first, second = (
        Replica(tmp_path_factory.mktemp("shared"), url, instances=TENANTS, scheduler=SHARED) for _ in range(2)
    )
    first.launch()
    second.launch()
    first.wait_ready()
    second.wait_ready()
    yield first, second
    first.close()
    second.close()
    drop_database(url)


class Farm:
    """The shared replicas, as one tenant sees them. `second` in a call means: through the second replica."""

    def __init__(self, replicas: tuple[Replica, Replica], tenant: str, stack: AsyncExitStack) -> None:
        self.replicas = replicas
        self.tenant = tenant
        self._stack = stack
        self._channels: dict[bool, grpc.aio.Channel] = {}

    def channel(self, *, second: bool = False) -> grpc.aio.Channel:
        """A connection that is closed after the test."""
        if second not in self._channels:
            channel = self.replicas[second].open_channel()
            self._stack.push_async_callback(channel.close)
            self._channels[second] = channel
        return self._channels[second]

    def client(self, *, second: bool = False) -> Client:
        """A client of this tenant."""
        return Client(self.channel(second=second), self.tenant)

    def bot(self, bot_id: str = "bot", *, second: bool = False, **options: Any) -> Bot:
        """A bot of this tenant, without a session yet."""
        return Bot(self.channel(second=second), self.tenant, bot_id, **options)


_tenants = itertools.cycle(TENANTS)


@pytest.fixture
async def farm(shared_replicas: tuple[Replica, Replica]) -> AsyncIterator[Farm]:
    async with AsyncExitStack() as stack:
        yield Farm(shared_replicas, next(_tenants), stack)


@pytest.fixture
async def channels() -> AsyncIterator[Callable[[Replica], grpc.aio.Channel]]:
    """Opens connections to replicas of one's own; they are closed after the test."""
    async with AsyncExitStack() as stack:

        def open_channel(replica: Replica) -> grpc.aio.Channel:
            channel = replica.open_channel()
            stack.push_async_callback(channel.close)
            return channel

        yield open_channel
