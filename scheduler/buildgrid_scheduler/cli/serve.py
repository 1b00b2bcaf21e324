"""`buildgrid-scheduler serve`: a replica."""

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any

from buildgrid_scheduler.config import ConfigError, load_config
from buildgrid_scheduler.core.errors import SchedulerError
from buildgrid_scheduler.server.app import StartError, serve
from buildgrid_scheduler.server.logs import configure_logging
from buildgrid_scheduler.store.migrate import IncompatibleDatabaseError


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand to the program's."""
    parser = subparsers.add_parser(
        "serve",
        help="start a replica",
        description="Start a replica. Without a configuration it is a complete build farm server for one "
        "machine: an embedded PostgreSQL and a disk CAS in the data folder, every service on "
        "127.0.0.1:50051, metrics and health on 127.0.0.1:9090.",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration, YAML")
    parser.add_argument("--data", type=Path, metavar="DIR", help="data folder (default: ./buildgrid-data)")
    parser.add_argument("--listen", metavar="HOST:PORT", help="of the gRPC services")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    overrides: dict[str, Any] = {}
    if options.data is not None:
        overrides["data"] = options.data
    if options.listen is not None:
        overrides["listen"] = options.listen
    try:
        config = load_config(options.config, overrides)
        configure_logging(config.logging)
        asyncio.run(serve(config))
    except (ConfigError, SchedulerError, IncompatibleDatabaseError, StartError, OSError) as error:
        print(f"buildgrid-scheduler serve: {error}", file=sys.stderr)
        return 2
    return 0
