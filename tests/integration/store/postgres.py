"""A PostgreSQL for tests: an embedded one, or that of DATABASE_URL; and databases of one's own in it."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import psycopg
import pytest
from buildgrid_scheduler.store.embedded import EmbeddedPostgres
from buildgrid_scheduler.store.migrate import migrate
from buildgrid_scheduler.store.provider import SqlProvider
from psycopg import sql
from sqlalchemy import make_url


class TestPostgres:
    """A server in which databases are made and dropped."""

    __test__ = False

    def __init__(self, url: str, *, durable: bool) -> None:
        self._url = make_url(url.replace("postgres://", "postgresql://", 1))
        self._numbers = count(1)
        self._template = ""
        with self._administrator() as connection:
            if not durable:  # what survives a power cut is not what these tests are about
                connection.execute("ALTER SYSTEM SET fsync = off")
                connection.execute("SELECT pg_reload_conf()")

    @contextmanager
    def _administrator(self) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
        with psycopg.connect(self._dsn(self._url.database or "postgres"), autocommit=True) as connection:
            yield connection

    def _dsn(self, database: str) -> str:
        return self._url.set(database=database).render_as_string(hide_password=False)

    def create(self, *, migrated: bool = True) -> str:
        """A new database; returns its URL."""
        if migrated and not self._template:
            template = self.create(migrated=False)
            provider = SqlProvider(template)
            migrate(provider)
            provider.close()
            self._template = make_url(template).database or ""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        with self._administrator() as connection:
            statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
            if migrated:
                statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(self._template))
            connection.execute(statement)
        return self._dsn(name)

    def drop(self, url: str) -> None:
        """Drop a database, whoever may still be connected."""
        name = make_url(url).database or ""
        with self._administrator() as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def close(self) -> None:
        """Drop what is left."""
        if self._template:
            self.drop(self._dsn(self._template))
            self._template = ""


class _Shared:
    """One server for all who import the fixture, in whatever folder."""

    def __init__(self) -> None:
        self._users = 0
        self._resources = ExitStack()
        self._server: TestPostgres | None = None

    def __enter__(self) -> TestPostgres:
        self._users += 1
        if self._server is None:
            self._server = self._start()
        return self._server

    def __exit__(self, *_: object) -> None:
        self._users -= 1
        if not self._users:
            self._server = None
            self._resources.close()

    def _start(self) -> TestPostgres:
        given = os.environ.get("DATABASE_URL")
        if given:
            server = TestPostgres(given, durable=True)
        else:
            folder = Path(tempfile.mkdtemp(prefix="buildgrid-test-", dir="/tmp"))  # sockets: a short path
            folder.chmod(0o755)  # where the tests run as root the server runs as somebody else
            self._resources.callback(shutil.rmtree, folder, ignore_errors=True)
            embedded = EmbeddedPostgres(folder / "data")
            self._resources.callback(embedded.stop)
            server = TestPostgres(embedded.start(), durable=False)
        self._resources.callback(server.close)
        return server


_shared = _Shared()


@pytest.fixture(scope="session")
def postgres() -> Iterator[TestPostgres]:
    """The server, one per worker of xdist."""
    with _shared as server:
        yield server


@pytest.fixture
def empty_database(postgres: TestPostgres) -> Iterator[str]:
    """The URL of a database without tables."""
    url = postgres.create(migrated=False)
    yield url
    postgres.drop(url)


@pytest.fixture
def database(postgres: TestPostgres) -> Iterator[str]:
    """The URL of a migrated database without rows."""
    url = postgres.create()
    yield url
    postgres.drop(url)


@pytest.fixture
def provider(database: str) -> Iterator[SqlProvider]:
    """The migrated database without rows."""
    provider = SqlProvider(database)
    yield provider
    provider.close()
