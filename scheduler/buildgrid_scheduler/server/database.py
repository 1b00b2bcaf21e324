"""The database of a replica: found, waited for, migrated."""

import asyncio
import logging
from collections.abc import Callable

import psycopg
from sqlalchemy import text
from sqlalchemy.exc import ArgumentError, DBAPIError

from buildgrid_scheduler.config import Config
from buildgrid_scheduler.core.errors import FailedPrecondition
from buildgrid_scheduler.server.database_errors import fatal_reason, outage
from buildgrid_scheduler.server.database_url import notify_source, read_source, url_source
from buildgrid_scheduler.server.postgres_keeper import PostgresKeeper
from buildgrid_scheduler.store.embedded import EmbeddedPostgres
from buildgrid_scheduler.store.migrate import upgrade
from buildgrid_scheduler.store.provider import SqlProvider
from buildgrid_scheduler.store.revisions import database_revision, head_revision, runs_on

log = logging.getLogger(__name__)
FIRST_RETRY, LAST_RETRY = 0.5, 5.0  # seconds


class Database:
    """`start` before `provider`."""

    def __init__(self, config: Config, waits: Callable[[str], None]) -> None:
        """`waits` is told why `start` has not returned yet."""
        self._config = config
        self._waits = waits
        self._embedded: EmbeddedPostgres | None = None
        self._keeper: PostgresKeeper | None = None
        self._provider: SqlProvider | None = None
        self.read_provider: SqlProvider | None = None
        """where lists are read, if that is elsewhere"""
        self.notifier_provider: SqlProvider | None = None
        """where LISTEN works, if that is elsewhere"""

    @property
    def provider(self) -> SqlProvider:
        """The database."""
        if self._provider is None:
            raise RuntimeError("the database is not started")
        return self._provider

    async def start(self, stopping: asyncio.Event) -> bool:
        """Wait for the database and bring it to our schema; False if told to stop meanwhile.

        Raises FailedPrecondition when the database answers, and waiting would not help.
        """
        config = self._config.database
        url = url_source(config)
        if url is None:
            self._embedded = EmbeddedPostgres((self._config.data / "postgres").absolute())
            started = await asyncio.to_thread(self._embedded.start)
            self._keeper = PostgresKeeper(self._embedded)
            self._keeper.start()
            url = lambda: started  # noqa: E731 - the other way to be a source
        try:
            self._provider = SqlProvider(url, pool_size=config.pool_size)
            if (source := read_source(config)) is not None:
                self.read_provider = SqlProvider(source, pool_size=config.pool_size)
            if (source := notify_source(config)) is not None:
                self.notifier_provider = SqlProvider(source, pool_size=1)
        except (ValueError, ArgumentError) as error:
            raise FailedPrecondition(f"database.url or DATABASE_URL: {error}") from error
        retry = FIRST_RETRY
        while not stopping.is_set():
            try:
                await asyncio.to_thread(self._prepare)
                return True
            except (DBAPIError, psycopg.OperationalError) as error:
                self._complain(error, retry)
            try:
                await asyncio.wait_for(stopping.wait(), retry)
            except TimeoutError:
                retry = min(retry * 2, LAST_RETRY)
        return False

    def _complain(self, error: Exception, retry: float) -> None:
        if (reason := fatal_reason(error)) is not None:
            raise FailedPrecondition(f"database {self.provider.shown_url}: {reason}") from error
        self._waits(f"the database cannot be used yet: {outage(error)}")
        log.warning(
            "database %s cannot be used yet, next try in %.1f s: %s",
            self.provider.shown_url,
            retry,
            outage(error),
        )

    def _prepare(self) -> None:
        if self._config.database.migrate:
            upgrade(self.provider)
        elif not runs_on(self.provider):
            raise psycopg.OperationalError(
                f"it is at revision {database_revision(self.provider) or 'none'}, this version needs "
                f"{head_revision()}; run `buildgrid-scheduler migrate`"
            )

    def problem(self) -> str | None:
        """Why the database cannot be used; None if it answers. Blocks for a round trip."""
        try:
            with self.provider.session() as session:
                session.execute(text("SELECT 1"))
        except DBAPIError as error:
            kept = self._keeper.problem if self._keeper is not None else None
            return kept or f"the database cannot be reached: {outage(error)}"
        return None

    def stop(self) -> None:
        """Close connections; stop an embedded server if this process is the last that uses it."""
        if self._keeper is not None:
            self._keeper.stop()
        for provider in (self._provider, self.read_provider, self.notifier_provider):
            if provider is not None:
                provider.close()
        if self._embedded is not None:
            self._embedded.stop()
