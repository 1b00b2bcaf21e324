"""`buildgrid-scheduler serve`: a replica."""

import argparse
import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import Any

_FIELDS = {
    "data": "data",
    "listen": "listen",
    "monitoring_listen": "monitoring.listen",
    "log_format": "logging.format",
    "log_level": "logging.level",
}
"""The field that each flag stands in for."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand to the program's."""
    parser = subparsers.add_parser(
        "serve",
        help="start a replica",
        description="Start a replica. Without a configuration it is a complete build farm server for one "
        "machine: an embedded PostgreSQL and a disk CAS in the data folder, every service on "
        "127.0.0.1:50051, metrics and health on 127.0.0.1:9090.",
        epilog="SIGTERM and SIGINT stop it; SIGHUP lets it read its configuration again. Exit code 2: it "
        "cannot start as it is configured.",
    )
    add = parser.add_argument
    add("--config", type=Path, metavar="FILE", help="configuration, YAML")
    add("--data", type=Path, metavar="DIR", help="data folder (default: ./buildgrid-data)")
    add("--listen", metavar="HOST:PORT", help="of the gRPC services")
    add("--monitoring-listen", metavar="HOST:PORT", help="of metrics and health; none: not served")
    add("--log-format", choices=("text", "json"), help="text for people, json for collectors")
    add("--log-level", choices=("debug", "info", "warning", "error"), help="least importance that is logged")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    from buildgrid_scheduler.config import ConfigError
    from buildgrid_scheduler.config.source import ConfigSource
    from buildgrid_scheduler.core.errors import SchedulerError
    from buildgrid_scheduler.server.app import serve
    from buildgrid_scheduler.server.config_files import read_checked
    from buildgrid_scheduler.server.folders import make_folders
    from buildgrid_scheduler.server.grpc_server import StartError
    from buildgrid_scheduler.store.revisions import IncompatibleDatabaseError

    try:
        source = ConfigSource(options.config, overrides(options))
        make_folders(read_checked(source))  # before anything is started, or a database migrated
        ended = asyncio.run(serve(source))
    except (ConfigError, SchedulerError, IncompatibleDatabaseError, StartError, OSError) as error:
        for line in str(error).splitlines():
            print(f"buildgrid-scheduler serve: {line}", file=sys.stderr)
        return 2
    if not ended:  # a thread hangs, and the interpreter would wait for it
        logging.shutdown()
        os._exit(1)
    return 0


def overrides(options: argparse.Namespace) -> dict[str, Any]:
    """What the flags say, by the fields of the configuration."""
    given = {field: getattr(options, flag) for flag, field in _FIELDS.items()}
    told = {field: value for field, value in given.items() if value is not None}
    if told.get("monitoring.listen") == "none":
        told["monitoring.listen"] = None
    return told
