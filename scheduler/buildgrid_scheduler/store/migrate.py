"""Bring a database to the schema of this version."""

import logging
from importlib import resources

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

from buildgrid_scheduler.core.errors import FailedPrecondition, Unavailable
from buildgrid_scheduler.store.provider import SqlProvider

log = logging.getLogger(__name__)

LOCK_TIMEOUT = "5s"
"""A migration gives up rather than stand in front of the queue for a lock."""
STATEMENT_TIMEOUT = "10min"
_ADVISORY_LOCK = 0x6267_7363  # "bgsc"


class IncompatibleDatabaseError(FailedPrecondition):
    """The database was migrated by a version whose schema the code of this one does not run on."""


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


def runs_on(provider: SqlProvider) -> bool:
    """Whether this version can work with the database as it is; False: it must be migrated first.

    A newer version may have migrated it, within the compatibility window. Raises IncompatibleDatabaseError
    outside of that.
    """
    with provider.session() as session:
        connection = session.connection()
        found = MigrationContext.configure(connection).get_current_revision()
        if found in _known():
            return found == head_revision()
        return found is not None and _check_window(connection, found)


def _known() -> set[str]:
    """The revisions of this version and of those before it."""
    return {s.revision for s in ScriptDirectory.from_config(_config()).walk_revisions()}


def _check_window(connection: Connection, found: str) -> bool:
    """True if our code runs on the schema of a newer version; IncompatibleDatabaseError if it does not.

    The newer version has noted the oldest revision whose code does. If we know that one, ours is not older.
    """
    noted = connection.execute(text("SELECT to_regclass('schema_compatibility') IS NOT NULL")).scalar_one()
    oldest = None
    if noted:
        oldest = connection.execute(text("SELECT oldest_revision FROM schema_compatibility")).scalar()
    if oldest in _known():
        return True
    raise IncompatibleDatabaseError(
        f"the database is at revision {found}, which this version does not know"
        + (f" and which needs the code of {oldest} or newer" if oldest else "")
        + f" (this one is {head_revision()}); use a scheduler of the version that migrated it, or a newer one"
    )


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
    engine = create_engine(provider.sqlalchemy_url, poolclass=NullPool)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _ADVISORY_LOCK})
        connection.execute(text(f"SET lock_timeout = '{LOCK_TIMEOUT}'"))
        connection.execute(text(f"SET statement_timeout = '{STATEMENT_TIMEOUT}'"))
        connection.commit()  # both are of the session, and the lock is too
        try:
            before = MigrationContext.configure(connection).get_current_revision()
            if before == head_revision():
                return False
            if before is not None and before not in _known():
                _check_window(connection, before)
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
