"""`buildgrid-scheduler migrate`: bring a database to the schema of this version."""

import argparse
import os
import sys
from pathlib import Path

from sqlalchemy.exc import DBAPIError

from buildgrid_scheduler.config import ConfigError, load_config
from buildgrid_scheduler.store.migrate import IncompatibleDatabaseError, head_revision, migrate
from buildgrid_scheduler.store.provider import SqlProvider


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand to the program's."""
    parser = subparsers.add_parser("migrate", help="upgrade a database to this version's schema")
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration, for database.url")
    parser.add_argument("--database-url", metavar="URL", help="postgresql://...; else DATABASE_URL")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Migrate; says what was done."""
    try:
        config = load_config(options.config)
        url = options.database_url or config.database.url or os.environ.get("DATABASE_URL")
        if not url:
            print(
                "buildgrid-scheduler migrate: no database; give --database-url, database.url in --config, "
                "or DATABASE_URL",
                file=sys.stderr,
            )
            return 2
        provider = SqlProvider(url)
        changed = migrate(provider)
    except (ConfigError, ValueError, IncompatibleDatabaseError) as error:
        print(f"buildgrid-scheduler migrate: {error}", file=sys.stderr)
        return 2
    except DBAPIError as error:
        print(f"buildgrid-scheduler migrate: {str(error.orig).strip()}", file=sys.stderr)
        return 1
    print(f"the database is at revision {head_revision()}{'' if changed else ' already'}")
    return 0
