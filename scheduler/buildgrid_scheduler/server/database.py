"""The database of a replica: found, waited for, migrated."""

import asyncio
import logging
import os

import psycopg
from sqlalchemy.exc import ArgumentError, DBAPIError

from buildgrid_scheduler.config import Config
from buildgrid_scheduler.core.errors import FailedPrecondition
from buildgrid_scheduler.store.embedded import EmbeddedPostgres
from buildgrid_scheduler.store.migrate import database_revision, head_revision, migrate
from buildgrid_scheduler.store.provider import SqlProvider

log = logging.getLogger(__name__)
FIRST_RETRY, LAST_RETRY = 0.5, 5.0  # seconds


class Database:
    """`start` before `provider`."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._embedded: EmbeddedPostgres | None = None
        self._provider: SqlProvider | None = None
        self.waits_because: str | None = None
        """why `start` has not returned yet"""

    @property
    def provider(self) -> SqlProvider:
        """The database."""
        if self._provider is None:
            raise RuntimeError("the database is not started")
        return self._provider

    async def start(self, stopping: asyncio.Event) -> bool:
        """Wait for the database and bring it to our schema; False if told to stop meanwhile."""
        url = self._config.database.url or os.environ.get("DATABASE_URL")
        if url is None:
            self._embedded = EmbeddedPostgres((self._config.data / "postgres").absolute())
            url = await asyncio.to_thread(self._embedded.start)
        try:
            self._provider = SqlProvider(url)
        except (ValueError, ArgumentError) as error:
            raise FailedPrecondition(f"database.url or DATABASE_URL: {error}") from error
        retry = FIRST_RETRY
        while not stopping.is_set():
            try:
                await asyncio.to_thread(self._prepare)
                self.waits_because = None
                return True
            except (DBAPIError, psycopg.OperationalError) as error:
                reason = str(getattr(error, "orig", error)).strip()
                log.warning(
                    "database %s cannot be used yet, next try in %.1f s: %s",
                    self.provider.shown_url,
                    retry,
                    reason,
                )
                self.waits_because = f"the database cannot be used yet: {reason}"
            try:
                await asyncio.wait_for(stopping.wait(), retry)
            except TimeoutError:
                retry = min(retry * 2, LAST_RETRY)
        return False

    def _prepare(self) -> None:
        if self._config.database.migrate:
            migrate(self.provider)
        elif (found := database_revision(self.provider)) != head_revision():
            raise psycopg.OperationalError(
                f"it is at revision {found or 'none'}, this version needs {head_revision()}; "
                "run `buildgrid-scheduler migrate`"
            )

    def problem(self) -> str | None:
        """Why the database cannot be used; None if it answers. Blocks for a round trip."""
        try:
            with self.provider.session() as session:
                session.connection().exec_driver_sql("SELECT 1")
        except DBAPIError as error:
            return f"the database cannot be reached: {str(error.orig).strip()}"
        return None

    def stop(self) -> None:
        """Close connections; stop an embedded server if this process is the last that uses it."""
        if self._provider is not None:
            self._provider.close()
        if self._embedded is not None:
            self._embedded.stop()
