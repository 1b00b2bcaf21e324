"""PostgreSQL for tests: the one of DATABASE_URL, or an embedded one; a new database for whoever asks."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import psycopg
from sqlalchemy import make_url

from tests.farm.waiting import eventually_sync

_WITHIN = 30.0
# What a crash of PostgreSQL leaves is in the kernel's hands: only a crash of the machine would need this.
_FAST = ("fsync = off", "full_page_writes = off", "autovacuum_naptime = '5s'")


class Databases:
    """A server, shared by all tests of a process."""

    def __init__(self) -> None:
        self._embedded: EmbeddedProcess | None = None
        self._folder = new_folder()
        url = os.environ.get("DATABASE_URL")
        if url is None:
            self._embedded = EmbeddedProcess(self._folder / "data")
            url = self._embedded.url
            configure_for_speed(url)
        self._url = url

    def create(self) -> str:
        """The URL of a new, empty database."""
        return create_database(self._url)

    def close(self) -> None:
        """Stop an embedded server."""
        if self._embedded is not None:
            self._embedded.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def new_folder() -> Path:
    """Not below pytest's: each run that starts closes that to other users, of which PostgreSQL is one."""
    return Path(tempfile.mkdtemp(prefix="buildgrid-test-"))


def create_database(url: str) -> str:
    """A new, empty database on the server of `url`; returns its URL."""
    name = f"test_{uuid.uuid4().hex[:16]}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return make_url(url).set(database=name).render_as_string(hide_password=False)


def drop_database(url: str) -> None:
    """Drop a database of `create_database`, whoever is still connected to it."""
    parsed = make_url(url)
    server = parsed.set(database="postgres").render_as_string(hide_password=False)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {parsed.database} WITH (FORCE)")


def configure_for_speed(url: str) -> None:
    """Settings that are right for a server that lives as long as the tests."""
    with psycopg.connect(url, autocommit=True) as connection:
        for setting in _FAST:
            connection.execute(f"ALTER SYSTEM SET {setting}")
        connection.execute("SELECT pg_reload_conf()")


def rows(url: str, query: str) -> list[tuple[object, ...]]:
    """What a query finds, for a look behind the scenes."""
    with psycopg.connect(url) as connection:
        return connection.execute(query).fetchall()


def count(url: str, table: str) -> int:
    """How many rows a table has."""
    value = rows(url, f"SELECT count(*) FROM {table}")[0][0]  # noqa: S608 - the test's own table names
    assert isinstance(value, int)
    return value


class EmbeddedProcess:
    """`tests.farm.embedded_postgres` as a process: it ends, and stops the server, when this one does."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.farm.embedded_postgres", str(folder)],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().decode().strip()
        assert self.url, f"PostgreSQL does not start in {folder}"

    def close(self) -> None:
        """Stop the server, if no other process uses it."""
        self._process.communicate()

    def kill(self) -> None:
        """Forget the server."""
        self._process.kill()
        self._process.communicate()


class MortalPostgres:
    """A PostgreSQL of the test's own, which it may take down."""

    def __init__(self) -> None:
        self._folder = new_folder()
        self._data = self._folder / "data"
        self._process = EmbeddedProcess(self._data)
        self.url = self._process.url
        configure_for_speed(self.url)

    def crash(self) -> None:
        """Immediate shutdown: no checkpoint, every connection is cut; the next start recovers."""
        self._process.kill()
        postmaster = int((self._data / "postmaster.pid").read_text().splitlines()[0])
        os.kill(postmaster, signal.SIGQUIT)
        eventually_sync(lambda: not _alive(postmaster), _WITHIN, lambda: "PostgreSQL does not go down")

    def start(self) -> None:
        """Start it again; returns when it accepts connections."""
        self._process = EmbeddedProcess(self._data)

    def close(self) -> None:
        """Stop it, if it runs."""
        if (self._data / "postmaster.pid").exists():
            self.crash()
        shutil.rmtree(self._folder, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        state = (Path("/proc") / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
