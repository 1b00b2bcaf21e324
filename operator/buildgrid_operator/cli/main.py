"""The command `buildgrid-operator`. Each subcommand is a module, imported only when it is asked for."""

import argparse
import importlib
import os
import sys
from importlib import metadata

# gRPC's core writes lines of its own to standard error, and looks at this when it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

COMMANDS = {
    "run": "look after Schedulers and PropertySets",
    "crds": "print the custom resource definitions, or bring those of a cluster up to date",
    "drain": "stop an operator and free its Schedulers, before it is uninstalled",
    "simulate": "try policies for fleets on a trace of jobs",
    "create-password": "make a Secret with a random password, unless it is there",
}
"""What each is for; its module is named alike."""


def main(arguments: list[str] | None = None) -> int:
    """Run a subcommand; returns the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(
        prog="buildgrid-operator",
        description="Runs build farms in Kubernetes. Every flag of a command can be given in the environment "
        "as well: --log-level as BUILDGRID_OPERATOR_LOG_LEVEL; several values are separated by commas.",
    )
    parser.add_argument("--version", action="version", version=metadata.version("buildgrid-kubernetes"))
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, purpose in COMMANDS.items():
        subparser = subparsers.add_parser(
            name, help=purpose, description=purpose[0].upper() + purpose[1:] + "."
        )
        if given and given[0] == name:
            module = importlib.import_module(f"buildgrid_operator.cli.{name.replace('-', '_')}")
            module.configure(subparser)
            subparser.set_defaults(run=module.run)
    options = parser.parse_args(given)
    code: int = options.run(options)
    return code


if __name__ == "__main__":
    sys.exit(main())
