"""The command `buildgrid-scheduler`. Each subcommand is a module, imported only when it is asked for."""

import argparse
import importlib
import logging
import os
import signal
import sys
from typing import Any

# gRPC's core writes lines of its own to standard error, and looks at this when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

COMMANDS = {
    "serve": "start a replica",
    "check-config": "say whether a configuration can be used, and what it would run",
    "migrate": "upgrade a database to this version's schema",
    "jobs": "show jobs: what waits, what runs, and what happened to one",
    "bots": "show connected bots",
    "cancel": "cancel operations",
    "drain": "keep bots from getting more work",
    "export-history": "print finished jobs, as a trace for buildgrid-operator simulate",
    "execute": "run one command on the farm",
}
"""What each is for; its module is named alike."""


INTERRUPTED, NOBODY_READS = 128 + signal.SIGINT, 128 + signal.SIGPIPE
"""Exit codes, as a shell tells them of a program that a signal ends."""


class _Version(argparse.Action):
    """Looks the version up when it is asked for: that takes as long as a command's own work."""

    def __init__(self, option_strings: list[str], dest: str, help: str) -> None:  # noqa: A002 - argparse's word
        super().__init__(option_strings, dest, nargs=0, help=help, default=argparse.SUPPRESS)

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib import metadata

        print(parser.prog, metadata.version("buildgrid-kubernetes"))
        parser.exit()


def main(arguments: list[str] | None = None) -> int:
    """Run a subcommand; returns the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(
        prog="buildgrid-scheduler", description="A scheduler for remote build execution."
    )
    parser.add_argument("--version", action=_Version, help="show program's version number and exit")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, purpose in COMMANDS.items():
        if given[:1] == [name]:
            module = importlib.import_module(f"{__package__}.{name.replace('-', '_')}")
            module.add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=purpose)
    options = parser.parse_args(given)
    if given[:1] != ["serve"]:  # which logs as it is configured
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough. The interpreter must not find that out again when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOBODY_READS
    return code


if __name__ == "__main__":
    sys.exit(main())
