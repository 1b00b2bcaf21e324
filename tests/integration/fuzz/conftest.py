"""A server that is sent what no client sends."""

from collections.abc import Iterator

import pytest

from tests.farm.database import Databases, drop_database
from tests.integration.fuzz.target import Target


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    databases = Databases()
    yield databases
    databases.close()


@pytest.fixture(scope="session")
def target(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    url = databases.create()
    target = Target(tmp_path_factory.mktemp("fuzz"), url)
    try:
        target.start()
        yield target
    finally:
        target.close()
        drop_database(url)
