"""The database of a running farm, for commands that show and steer it."""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from buildgrid_scheduler.config import Config
    from buildgrid_scheduler.core.errors import SchedulerError
    from buildgrid_scheduler.engine.unheard import Transaction
    from buildgrid_scheduler.store.provider import SqlProvider

R = TypeVar("R")


class TargetError(Exception):
    """The farm cannot be reached; the message names the remedy."""


@dataclass(frozen=True, slots=True)
class Target:
    """The database, and the instance that is meant."""

    provider: "SqlProvider"
    instance: str
    named: bool = False
    """whether the instance was named on the command line, and no configuration says whether it is served"""
    max_job_attempts: int | None = None
    """as the servers' configuration has it; None: that was not given"""

    def refuse_unknown_instance(self) -> None:
        """Where nothing was found: raises TargetError if that is because nobody knows the instance."""
        from buildgrid_scheduler.engine.seen_instances import seen_instances

        if not self.named:
            return
        with self.provider.session() as session:
            seen = seen_instances(session)
        if seen and self.instance not in seen:
            raise TargetError(
                f"{self.provider.shown_url} has no jobs and no bots of an instance {self.instance!r}, but of "
                f"{_listed(seen)}; check --instance, or give the servers' configuration with --config"
            )

    @contextmanager
    def steering(self) -> "Iterator[Callable[[Transaction[R]], R]]":
        """Run transactions as the servers do, so that all replicas hear of them. Raises SchedulerError."""
        from buildgrid_scheduler.engine.engine import Engine
        from buildgrid_scheduler.engine.items import Call
        from buildgrid_scheduler.notifier.delivery import Ticket

        engine = Engine(self.provider)
        engine.start()

        def run(transaction: "Transaction[R]") -> R:
            ticket: Ticket[R] = Ticket()
            engine.submit(Call(ticket, transaction))
            return ticket.wait()

        try:
            yield run
        finally:
            engine.stop()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags that name a farm."""
    group = parser.add_argument_group("the farm, by its database")
    add = group.add_argument
    add("--config", type=Path, metavar="FILE", help="the configuration that its servers have")
    add("--data", type=Path, metavar="DIR", help="the data folder of a server with an embedded database")
    add("--database-url", metavar="URL", help="postgresql://...; else DATABASE_URL, else ./buildgrid-data")
    add("--instance", metavar="NAME", help="instance name (default: the empty one, or the only one of FILE)")


def run_on_target(command: str, options: argparse.Namespace, run: Callable[[Target], int]) -> int:
    """Open the farm, run, and say what is wrong where something is. Returns the exit code.

    2: it is not as it was asked for, and the same would be said again; 1: not just now, or not known.
    """
    from sqlalchemy.exc import DBAPIError

    from buildgrid_scheduler.config import ConfigError
    from buildgrid_scheduler.core.errors import InvalidArgument, SchedulerError
    from buildgrid_scheduler.server.database_errors import fatal_reason, outage
    from buildgrid_scheduler.store.revisions import IncompatibleDatabaseError

    try:
        with open_target(options) as target:
            return run(target)
    except (ConfigError, TargetError, IncompatibleDatabaseError, ValueError) as error:
        message, code = str(error), 2
    except SchedulerError as error:
        message, code = str(error), 2 if isinstance(error, InvalidArgument) else 1
    except DBAPIError as error:
        reason = fatal_reason(error)
        message, code = f"the database cannot be used: {reason or outage(error)}", 2 if reason else 1
    for line in message.splitlines():
        print(f"buildgrid-scheduler {command}: {line}", file=sys.stderr)
    return code


@contextmanager
def open_target(options: argparse.Namespace) -> Iterator[Target]:
    """The same database that a server with these settings uses; nothing is started.

    Raises ConfigError, TargetError, SchedulerError, IncompatibleDatabaseError, ValueError for a URL, and
    DBAPIError.
    """
    from buildgrid_scheduler.config import load_config
    from buildgrid_scheduler.store.provider import SqlProvider
    from buildgrid_scheduler.store.revisions import runs_on

    overrides = {} if options.data is None else {"data": options.data}
    config = load_config(options.config, overrides)
    provider = SqlProvider(_url(options, config))
    try:
        if not runs_on(provider):
            raise TargetError(
                f"{provider.shown_url} is not a scheduler's database, or one of an older version; "
                "start a server on it, or run buildgrid-scheduler migrate"
            )
        yield Target(
            provider,
            _instance(options, config),
            named=options.instance is not None and options.config is None,
            max_job_attempts=None if options.config is None else config.scheduler.max_job_attempts,
        )
    finally:
        provider.close()


def _url(options: argparse.Namespace, config: "Config") -> "str | Callable[[], str]":
    from buildgrid_scheduler.server.database_url import checked_url, url_source
    from buildgrid_scheduler.store.embedded import running_url

    if options.database_url is not None:
        return checked_url(options.database_url, "--database-url")
    if (source := url_source(config.database)) is not None:
        return source
    folder = (config.data / "postgres").absolute()
    running = running_url(folder)
    if running is None:
        raise _nobody_runs(config.data, folder)
    return running


def _nobody_runs(data: Path, folder: Path) -> "SchedulerError | TargetError":
    """Why there is no embedded database to connect to."""
    from buildgrid_scheduler.core.errors import Unavailable
    from buildgrid_scheduler.store.embedded import users

    if using := users(folder):
        return Unavailable(
            f"the embedded PostgreSQL in {folder} has ended, and the server (process {using[0]}) starts it "
            "again; try again in some seconds. If that does not help, see the log of that server"
        )
    if (folder / "PG_VERSION").exists():
        return TargetError(
            f"no server runs in {data} now; start one: buildgrid-scheduler serve --data {data}; "
            "or name another one's folder with --data, or its database with --database-url or DATABASE_URL"
        )
    return TargetError(
        f"no server runs in {data}; name its folder with --data, its configuration with --config, "
        "or its database with --database-url or DATABASE_URL"
    )


def _instance(options: argparse.Namespace, config: "Config") -> str:
    if options.instance is not None:
        name: str = options.instance
        if options.config is not None and name not in config.instances:
            raise TargetError(
                f"--instance {name!r} is not served by the servers of {options.config}; "
                f"they serve {_listed(config.instances)}"
            )
        return name
    if len(config.instances) == 1:
        return config.instances[0]
    if "" in config.instances:
        return ""
    raise TargetError(f"name an instance with --instance: {_listed(config.instances)}")


def _listed(instances: Sequence[str]) -> str:
    return ", ".join(map(repr, instances))
