"""Which revision of the schema a database is at, and whether this version works with it.

Alembic is what changes a database (`store.migrate`); whoever only looks does not wait for it to be imported.
"""

from functools import cache
from importlib import resources

from sqlalchemy import Connection, text

from buildgrid_scheduler.core.errors import FailedPrecondition
from buildgrid_scheduler.store.provider import SqlProvider

MIGRATIONS = "buildgrid_scheduler.store.migrations"
"""The files of its `versions` begin with the names of the revisions, which sort as they follow each other."""


class IncompatibleDatabaseError(FailedPrecondition):
    """The database was migrated by a version whose schema the code of this one does not run on."""


@cache
def known_revisions() -> tuple[str, ...]:
    """The revisions of this version and of those before it, oldest first."""
    files = (resources.files(MIGRATIONS) / "versions").iterdir()
    found = {name.partition("_")[0] for file in files if (name := file.name).startswith("r")}
    if not found:
        raise RuntimeError("no migrations are installed; reinstall the package")
    return tuple(sorted(found))


def head_revision() -> str:
    """The revision that this version of the scheduler needs."""
    return known_revisions()[-1]


def database_revision(provider: SqlProvider) -> str | None:
    """The revision of the database; None for one without our tables."""
    with provider.session() as session:
        return revision_of(session.connection())


def revision_of(connection: Connection) -> str | None:
    """As `database_revision`, of the database at the other end."""
    if connection.execute(text("SELECT to_regclass('alembic_version')")).scalar() is None:
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def runs_on(provider: SqlProvider) -> bool:
    """Whether this version can work with the database as it is; False: it must be migrated first.

    A newer version may have migrated it, within the compatibility window. Raises IncompatibleDatabaseError
    outside of that.
    """
    with provider.session() as session:
        connection = session.connection()
        found = revision_of(connection)
        if found is None or found in known_revisions():
            return found == head_revision()
        check_window(connection, found)
        return True


def check_window(connection: Connection, found: str) -> None:
    """Raises IncompatibleDatabaseError if our code does not run on the schema of a newer version.

    The newer version has noted the oldest revision whose code does. If we know that one, ours is not older.
    """
    noted = connection.execute(text("SELECT to_regclass('schema_compatibility') IS NOT NULL")).scalar_one()
    oldest = None
    if noted:
        oldest = connection.execute(text("SELECT oldest_revision FROM schema_compatibility")).scalar()
    if oldest in known_revisions():
        return
    raise IncompatibleDatabaseError(
        f"the database is at revision {found}, which this version does not know"
        + (f" and which needs the code of {oldest} or newer" if oldest else "")
        + f" (this one is {head_revision()}); use a scheduler of the version that migrated it, or a newer one"
    )
