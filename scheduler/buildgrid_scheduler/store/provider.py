"""Where the database is."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import URL, create_engine, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, sessionmaker

from buildgrid_scheduler.core.errors import Unavailable

_PATIENCE = {
    "connect_timeout": "10",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "25000",  # milliseconds
}
"""How a server that went away without a word, as with its machine, is found out, unless the URL knows better.

A connection that waits is asked for a sign of life after 10 s, and given up after 25 s, as is one of which
nobody acknowledges what it has sent. (Of themselves they would wait for hours.)
"""


class SqlProvider:
    """A PostgreSQL database: ORM sessions for what is rare, raw psycopg connections for what is hot.

    `url` is `postgresql://USER[:PASSWORD]@HOST:PORT/DATABASE` or any libpq URI; ValueError for another
    kind of database. A function is asked for it at each new connection, so that a password may change.
    """

    def __init__(self, url: str | Callable[[], str], *, pool_size: int = 5) -> None:
        self._source = url if callable(url) else lambda: url
        self._engine = create_engine(
            self.sqlalchemy_url,
            creator=lambda: self.connect(application_name="buildgrid-scheduler"),
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_pre_ping=True,
        )
        self._sessions = sessionmaker(self._engine, expire_on_commit=False)

    def __repr__(self) -> str:
        return f"SqlProvider({self.shown_url})"

    @property
    def shown_url(self) -> str:
        """For logs: without the password."""
        return self.sqlalchemy_url.set(drivername="postgresql").render_as_string(hide_password=True)

    @property
    def sqlalchemy_url(self) -> URL:
        """For Alembic."""
        try:
            parsed = make_url(self._source().replace("postgres://", "postgresql://", 1))
        except ArgumentError as error:  # which repeats no password
            raise ValueError("database url: it is not postgresql://USER@HOST/DATABASE") from error
        if parsed.get_backend_name() != "postgresql":
            raise ValueError(f"database url: {parsed.get_backend_name()}: only postgresql:// is supported")
        return parsed.set(drivername="postgresql+psycopg")

    @property
    def _dsn(self) -> str:
        """For libpq, to which a plus is a plus, and a space none that is allowed."""
        url = self.sqlalchemy_url.set(drivername="postgresql").render_as_string(hide_password=False)
        place, mark, query = url.partition("?")
        return (place + mark + query.replace("+", "%20")).replace(" ", "%20")

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A SQLAlchemy session: committed at the end of the block, rolled back when it raises.

        Raises Unavailable when all connections of the pool have been in use for half a minute.
        """
        try:
            with self._sessions.begin() as session:
                yield session
        except PoolTimeout as error:
            raise Unavailable(
                "every connection to the database is in use; try again, or raise database.pool_size"
            ) from error

    def connect(self, **options: Any) -> psycopg.Connection[tuple[Any, ...]]:
        """A raw connection of one's own. Raises psycopg.OperationalError when the server is away."""
        options.setdefault("application_name", f"buildgrid-scheduler-{os.getpid()}")
        return psycopg.connect(**{**_PATIENCE, **conninfo_to_dict(self._dsn), **options})

    def close(self) -> None:
        """Close the pooled connections."""
        self._engine.dispose()
