"""`buildgrid-scheduler cancel`: stop what nobody needs any more."""

import argparse
import json
import sys

from buildgrid_scheduler.cli.target import Target, add_arguments, run_on_target


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand to the program's."""
    parser = subparsers.add_parser(
        "cancel",
        help="cancel operations",
        description="Cancel operations. A job stops when all of its operations are cancelled: two clients "
        "may wait for one job. What is done already stays as it is. Exit code 1: some are not known.",
    )
    parser.add_argument("operations", nargs="+", metavar="OPERATION", help="with or without INSTANCE/")
    parser.add_argument("--json", action="store_true", help="for programs")
    add_arguments(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Cancel them, one after the other."""
    return run_on_target("cancel", options, lambda target: _cancel(target, options))


def _cancel(target: Target, options: argparse.Namespace) -> int:
    from buildgrid_scheduler.core.errors import NotFound
    from buildgrid_scheduler.core.instance import split_qualified
    from buildgrid_scheduler.engine.operations import cancel
    from buildgrid_scheduler.engine.overview import operations_by_name

    names = {given: split_qualified(given)[1] for given in options.operations}
    with target.provider.session() as session:
        before = operations_by_name(session, target.instance, list(names.values()))
    outcomes: dict[str, str] = {}
    with target.steering() as call:
        for given, name in names.items():
            view = before.get(name)
            if view is not None and view.done:
                outcomes[given] = f"done already: {view.status}"
                continue
            try:
                call(cancel(target.instance, name))
                outcomes[given] = "cancelled"
            except NotFound:
                outcomes[given] = "not known"
    if options.json:
        print(json.dumps(outcomes, indent=2))
    else:
        for given, outcome in outcomes.items():
            print(f"{given}: {outcome}", file=sys.stderr if outcome == "not known" else sys.stdout)
    return 1 if "not known" in outcomes.values() else 0
