"""`buildgrid-scheduler migrate`: bring a database to the schema of this version."""

import argparse
import sys
from contextlib import closing
from pathlib import Path


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand to the program's."""
    parser = subparsers.add_parser(
        "migrate",
        help="upgrade a database to this version's schema",
        description="Upgrade a database to this version's schema while older replicas work on. "
        "A database that a newer version has upgraded is left as it is, if this version runs on it.",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration, for database")
    parser.add_argument("--database-url", metavar="URL", help="postgresql://...; else DATABASE_URL")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Migrate; says what was done."""
    from sqlalchemy.exc import DBAPIError

    from buildgrid_scheduler.config import ConfigError, load_config
    from buildgrid_scheduler.server.database_errors import fatal_reason, outage
    from buildgrid_scheduler.server.database_url import checked_url, url_source
    from buildgrid_scheduler.store.migrate import upgrade
    from buildgrid_scheduler.store.provider import SqlProvider
    from buildgrid_scheduler.store.revisions import (
        IncompatibleDatabaseError,
        database_revision,
        head_revision,
    )

    try:
        config = load_config(options.config)
        given: str | None = options.database_url
        url = checked_url(given, "--database-url") if given else url_source(config.database)
        if url is None:
            return _complain(
                "no database; give --database-url, database.url in --config, or DATABASE_URL", code=2
            )
        with closing(SqlProvider(url)) as provider:
            changed = upgrade(provider)
            found = database_revision(provider)
    except (ConfigError, ValueError, IncompatibleDatabaseError) as error:
        return _complain(str(error), code=2)
    except DBAPIError as error:
        reason = fatal_reason(error)
        return _complain(f"the database cannot be used: {reason or outage(error)}", code=2 if reason else 1)
    known = found == head_revision()
    print(
        f"the database is at revision {found}"
        + (
            ""
            if changed
            else " already"
            if known
            else f", of a newer version; this one ({head_revision()}) runs on it"
        )
    )
    return 0


def _complain(message: str, *, code: int) -> int:
    print(f"buildgrid-scheduler migrate: {message}", file=sys.stderr)
    return code
