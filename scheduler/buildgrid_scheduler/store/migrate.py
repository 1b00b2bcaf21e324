"""Bring a database to the schema of this version."""

import logging
from importlib import resources

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

from buildgrid_scheduler.core.errors import FailedPrecondition, Unavailable
from buildgrid_scheduler.store.provider import SqlProvider
from buildgrid_scheduler.store.revisions import (
    MIGRATIONS,
    check_window,
    head_revision,
    known_revisions,
    revision_of,
)

log = logging.getLogger(__name__)

LOCK_TIMEOUT = "5s"
"""A migration gives up rather than stand in front of the queue for a lock."""
STATEMENT_TIMEOUT = "10min"
_ADVISORY_LOCK = 0x6267_7363  # "bgsc"


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(resources.files(MIGRATIONS)))
    return config


def migrate(provider: SqlProvider) -> bool:
    """As `upgrade`, for programs that embed the scheduler, and know its errors.

    Raises Unavailable where the database does not answer or is busy, and FailedPrecondition where it refuses.
    """
    try:
        return upgrade(provider)
    except DBAPIError as error:
        what = Unavailable if isinstance(error, OperationalError) else FailedPrecondition
        said = " ".join(str(error.orig).split())
        raise what(f"the database {provider.shown_url} cannot be migrated: {said}") from error


def upgrade(provider: SqlProvider) -> bool:
    """Apply what is missing; True if anything was. Raises sqlalchemy's DBAPIError.

    One transaction per migration, under `LOCK_TIMEOUT` and `STATEMENT_TIMEOUT`. Replicas that start at the
    same time wait for each other on an advisory lock. A database that a newer version migrated is left as
    it is; raises IncompatibleDatabaseError when this version's code does not run on it.
    """
    engine = create_engine(provider.sqlalchemy_url, creator=lambda: provider.connect(), poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _ADVISORY_LOCK})
        connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
        connection.execute(text(f"SET statement_timeout = '{STATEMENT_TIMEOUT}'"))
        connection.commit()  # both are of the session, and the lock is too
        try:
            before = revision_of(connection)
            if before == head_revision():
                return False
            if before is not None and before not in known_revisions():
                check_window(connection, before)
                log.info("the database is at revision %s, of a newer version, and stays so", before)
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
