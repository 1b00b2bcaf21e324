"""`buildgrid-scheduler export-history`: finished jobs, as a trace for the simulator of fleets."""

import argparse
import sys
from datetime import UTC, datetime

from buildgrid_scheduler.cli.target import Target, add_arguments, run_on_target


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand to the program's."""
    parser = subparsers.add_parser(
        "export-history",
        help="print finished jobs, as a trace for buildgrid-operator simulate",
        description="Print the finished jobs of an instance that bots had, oldest first, as CSV: when each "
        "came, what it required, and how long a bot had it. Jobs that were pruned are not there any more.",
        epilog="Example: buildgrid-scheduler export-history --since 2026-11-01 > trace.csv && "
        "buildgrid-operator simulate --trace trace.csv",
    )
    when = "an ISO 8601 date or time; UTC, unless it says otherwise"
    parser.add_argument("--since", type=_moment, metavar="TIME", help=f"queued from then on: {when}")
    parser.add_argument("--until", type=_moment, metavar="TIME", help="queued before: likewise")
    add_arguments(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print them."""
    if options.since and options.until and options.since > options.until:
        print(
            "buildgrid-scheduler export-history: --since is after --until; exchange the two", file=sys.stderr
        )
        return 2
    return run_on_target("export-history", options, lambda target: _export(target, options))


def _export(target: Target, options: argparse.Namespace) -> int:
    from buildgrid_scheduler.fleet.finished_jobs import FinishedJobs
    from buildgrid_scheduler.fleet.trace import write_trace

    jobs = FinishedJobs(target.provider, [target.instance], options.since, options.until)
    written = write_trace(jobs, sys.stdout)
    if not written.jobs + written.without_bot:
        target.refuse_unknown_instance()
    if written.without_bot:
        print(f"left out, since no bot had them: {written.without_bot} jobs", file=sys.stderr)
    if not written.jobs:
        print("there are no finished jobs in that time that a bot had", file=sys.stderr)
        return 1
    return 0


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time; write for example 2026-11-24 or 2026-11-24T15:00:00Z"
        ) from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
