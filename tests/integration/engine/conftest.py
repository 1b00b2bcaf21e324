"""Two replicas on a database."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from buildgrid_scheduler.store.provider import SqlProvider

from tests.integration.engine.replica import Replica, check_invariants
from tests.integration.store.postgres import database as database
from tests.integration.store.postgres import postgres as postgres
from tests.integration.store.postgres import provider as provider

StartReplica = Callable[..., Replica]


@pytest.fixture
def start_replica(provider: SqlProvider) -> Iterator[StartReplica]:
    """Start replicas on one database, whose invariants must hold when the test ends."""
    started: list[Replica] = []

    def start(**options: Any) -> Replica:
        started.append(Replica(provider, **options))
        return started[-1]

    yield start
    for replica in started:
        replica.stop()
    limits = started[0].limits if started else None
    check_invariants(provider, limits)


@pytest.fixture
def replica(start_replica: StartReplica) -> Replica:
    """The first replica."""
    return start_replica()


@pytest.fixture
def other(start_replica: StartReplica, replica: Replica) -> Replica:
    """The second replica, of the same time."""
    return start_replica(clock=replica.clock)
