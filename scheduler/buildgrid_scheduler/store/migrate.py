"""Bring a database to the schema of this version."""

import logging
from importlib import resources

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from buildgrid_scheduler.store.provider import SqlProvider

log = logging.getLogger(__name__)

LOCK_TIMEOUT = "5s"
"""A migration gives up rather than stand in front of the queue for a lock."""
STATEMENT_TIMEOUT = "10min"
_ADVISORY_LOCK = 0x6267_7363  # "bgsc"


class IncompatibleDatabaseError(Exception):
    """The database was migrated by a version that this one does not know."""


def _config() -> Config:
    config = Config()
    config.set_main_option(
        "script_location", str(resources.files("buildgrid_scheduler.store") / "migrations")
    )
    return config


def head_revision() -> str:
    """The revision that this version of the scheduler needs."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise RuntimeError("no migrations are installed; reinstall the package")
    return head


def database_revision(provider: SqlProvider) -> str | None:
    """The revision of the database; None for one without our tables."""
    with provider.session() as session:
        return MigrationContext.configure(session.connection()).get_current_revision()


def migrate(provider: SqlProvider) -> bool:
    """Apply what is missing; True if anything was.

    One transaction per migration, under `LOCK_TIMEOUT` and `STATEMENT_TIMEOUT`. Replicas that start at the
    same time wait for each other on an advisory lock. Raises IncompatibleDatabaseError for a revision from
    a version that this one does not know.
    """
    engine = create_engine(provider.sqlalchemy_url, poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _ADVISORY_LOCK})
        connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
        connection.execute(text(f"SET statement_timeout = '{STATEMENT_TIMEOUT}'"))
        connection.commit()  # both are of the session, and the lock is too
        try:
            before = MigrationContext.configure(connection).get_current_revision()
            known = {s.revision for s in ScriptDirectory.from_config(_config()).walk_revisions()}
            if before is not None and before not in known:
                raise IncompatibleDatabaseError(
                    f"the database is at revision {before}, which this version does not know; "
                    "use a scheduler of the version that migrated it, or a newer one"
                )
            if before == head_revision():
                return False
            connection.rollback()
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
            log.info("database migrated from %s to %s", before or "nothing", head_revision())
            return True
        finally:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _ADVISORY_LOCK})
            connection.commit()
