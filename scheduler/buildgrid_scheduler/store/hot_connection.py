"""A connection for the hot statements: prepared, binary, pipelined, replaced when it breaks."""

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import errors

from buildgrid_scheduler.core.errors import InvalidArgument
from buildgrid_scheduler.store import statements
from buildgrid_scheduler.store.arrays import with_arrays
from buildgrid_scheduler.store.provider import SqlProvider
from buildgrid_scheduler.store.statements import HOT_SETTINGS

log = logging.getLogger(__name__)
T = TypeVar("T")
Row = tuple[Any, ...]

CONFLICT_BACKOFF = 0.01
FIRST_BACKOFF, MAX_BACKOFF = 0.1, 2.0  # seconds between attempts to reach a database that is away


class DatabaseBusyError(Exception):
    """The transaction is rolled back, or its connection is lost; running it again may work.

    `backoff`: seconds to wait before that. `unknown`: the connection was lost, and perhaps the transaction is
    committed: everything that is run again must be harmless then.
    """

    def __init__(self, message: str, backoff: float, *, unknown: bool = False) -> None:
        super().__init__(message)
        self.backoff = backoff
        self.unknown = unknown


_NAMES = {text: name for name, text in vars(statements).items() if isinstance(text, str) and name.isupper()}
"""of the hot statements; all others are OTHER"""
OTHER, COMMIT = "other", "commit"


class _TimedCursor(psycopg.Cursor[Row]):
    """Tells how long its rows were waited for."""

    statement: str
    observe: Callable[[str, float], None]

    def fetchall(self) -> list[Row]:
        began = time.perf_counter()
        rows = super().fetchall()
        self.observe(self.statement, time.perf_counter() - began)
        return rows


class HotConnection:
    """For one thread."""

    def __init__(self, provider: SqlProvider, name: str) -> None:
        self._provider = provider
        self._name = name
        self._connection: psycopg.Connection[Row] | None = None
        self._backoff = FIRST_BACKOFF
        self.connecting = False
        """whether the database is being reached for just now; any thread may look"""
        self.observe: Callable[[str, float], None] | None = None
        """told how many seconds the rows of a statement were waited for, by its name in `statements`

        What was sent before it in the same pipeline is part of that. COMMIT is the rest of a transaction.
        """

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> psycopg.Connection[Row]:
        if self._connection is None or self._connection.closed:
            self.connecting = True
            try:
                self._connection = self._connect()
            finally:
                self.connecting = False
            if self._backoff > FIRST_BACKOFF:
                log.info("the database is back (%s)", self._name)
            self._backoff = FIRST_BACKOFF
        return self._connection

    def _connect(self) -> psycopg.Connection[Row]:
        connection = self._provider.connect(
            autocommit=True,
            prepare_threshold=0,
            application_name=f"buildgrid-scheduler-{self._name}",
            target_session_attrs="read-write",
        )
        try:
            for setting in HOT_SETTINGS:
                connection.execute(setting)
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (errors.DeadlockDetected, errors.SerializationFailure, errors.LockNotAvailable) as error:
            self._reset()
            raise DatabaseBusyError(f"the database is busy ({error.sqlstate})", CONFLICT_BACKOFF) from error
        except (psycopg.DataError, errors.ProgramLimitExceeded) as error:
            # ProgramLimitExceeded: too large for an index, for example. No outage, and no better next time.
            self._reset()
            raise InvalidArgument(f"a value cannot be stored: {str(error).splitlines()[0]}") from error
        except (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError) as error:
            # InternalError: among others a server that is read-only, since it is no longer the primary.
            self.close()
            wait = self._backoff * random.uniform(0.75, 1.25)  # noqa: S311 - jitter, not a secret
            if self._backoff == FIRST_BACKOFF:
                log.warning("the database cannot be reached (%s): %s", self._name, error)
            self._backoff = min(self._backoff * 2, MAX_BACKOFF)
            raise DatabaseBusyError("the database cannot be reached", wait, unknown=True) from error
        except BaseException:
            self._reset()
            raise

    def _reset(self) -> None:
        connection = self._connection
        if connection is None:
            return
        try:
            if connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                connection.execute("ROLLBACK")
        except psycopg.Error:
            self.close()

    def transaction(self, body: Callable[["Statements"], T]) -> T:
        """Run `body` between BEGIN and COMMIT, in one pipeline.

        `body` calls `execute` and fetches only what it must know: each fetch is a round trip, everything
        else travels with the next one. Raises DatabaseBusyError; any other error is rolled back.
        """
        with self._translated():
            connection = self._connected()
            with connection.pipeline():
                connection.execute("BEGIN")
                outcome = body(Statements(connection, self.observe))
                began = time.perf_counter()
                connection.execute("COMMIT")
            if self.observe is not None:
                self.observe(COMMIT, time.perf_counter() - began)
            return outcome

    def read(self, body: Callable[["Statements"], T]) -> T:
        """Run `body` without a transaction, in one pipeline."""
        with self._translated():
            connection = self._connected()
            with connection.pipeline():
                return body(Statements(connection, self.observe))


class Statements:
    """Executes statements of the pipeline, each with a cursor of its own for its rows."""

    __slots__ = ("_connection", "_observe")

    def __init__(
        self, connection: psycopg.Connection[Row], observe: Callable[[str, float], None] | None = None
    ) -> None:
        """`observe`: see HotConnection."""
        self._connection = connection
        self._observe = observe

    def execute(self, statement: str, parameters: Any = None) -> psycopg.Cursor[Row]:
        """Send a statement. Its rows can be fetched at any time until the transaction ends.

        Arrays of which the statement says the type are encoded here: see `arrays`.
        """
        parameters = with_arrays(statement, parameters)
        if self._observe is None:
            return self._connection.cursor(binary=True).execute(statement, parameters)
        cursor = _TimedCursor(self._connection)
        cursor.format = psycopg.pq.Format.BINARY
        cursor.statement, cursor.observe = _NAMES.get(statement, OTHER), self._observe
        return cursor.execute(statement, parameters)

    def rows(self, statement: str, parameters: Any = None) -> list[Row]:
        """Send a statement and wait for its rows."""
        return self.execute(statement, parameters).fetchall()
