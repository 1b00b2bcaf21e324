"""`buildgrid-scheduler jobs`: what waits and runs, and what happened to one job."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from buildgrid_scheduler.cli.table import ago, brief, print_table
from buildgrid_scheduler.cli.target import Target, add_arguments, run_on_target

if TYPE_CHECKING:
    from buildgrid_scheduler.core.history import Event
    from buildgrid_scheduler.engine.overview import OperationView

_MOST = 100


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand to the program's."""
    parser = subparsers.add_parser(
        "jobs",
        help="show jobs: what waits, what runs, and what happened to one",
        description="Show operations, which are clients' handles on jobs: those that are not finished, or "
        "those that a filter finds. `jobs show NAME` tells what happened to one, by its operation or job.",
        epilog="Filters: docs/list-operations.md. Example: buildgrid-scheduler jobs --filter "
        "'stage=EXECUTING & platform=Pool:gpu'",
    )
    parser.add_argument("what", nargs="?", choices=("list", "show"), default="list", help="(default: list)")
    parser.add_argument("name", nargs="?", metavar="NAME", help="of show: an operation or a job")
    parser.add_argument("--filter", default="", metavar="TEXT", help="which ones; finished ones, too")
    parser.add_argument(
        "--limit", type=_positive, default=_MOST, metavar="N", help="how many at most (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    add_arguments(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Show them."""
    if (options.what == "show") != (options.name is not None):
        print("buildgrid-scheduler jobs: write jobs [list], or jobs show NAME", file=sys.stderr)
        return 2
    show = _show if options.what == "show" else _list
    return run_on_target("jobs", options, lambda target: show(target, options))


def _list(target: Target, options: argparse.Namespace) -> int:
    from buildgrid_scheduler.core.clock import utc_now
    from buildgrid_scheduler.core.operation_filter import parse_filters
    from buildgrid_scheduler.engine.listing import OperationList
    from buildgrid_scheduler.engine.overview import operations_by_name

    page, more = OperationList(target.provider).page(
        target.instance, parse_filters(options.filter), page_size=options.limit
    )
    if not page:
        target.refuse_unknown_instance()
    names = [loaded.name for loaded in page]
    with target.provider.session() as session:
        found = operations_by_name(session, target.instance, names)
    views = [found[name] for name in names if name in found]
    if options.json:
        print(json.dumps([as_json(view) for view in views], indent=2))
        return 0
    now = utc_now()
    headings = ("OPERATION", "STAGE", "FOR", "PRIORITY", "LABEL", "BOT", "WHAT")
    print_table(headings, [_row(view, now) for view in views])
    if more:
        print(
            f"there are more than {options.limit}; see them with --limit, or fewer with --filter",
            file=sys.stderr,
        )
    return 0


def _row(view: "OperationView", now: datetime) -> tuple[str, ...]:
    stage = f"{view.stage} {view.status}" if view.stage == "COMPLETED" else view.stage
    since = view.completed_at or view.started_at or view.queued_at
    what = " ".join(filter(None, (view.mnemonic, view.target))) or view.command
    return (view.name, stage, ago(now, since), str(view.priority), view.property_label, view.bot, what)


def _show(target: Target, options: argparse.Namespace) -> int:
    from buildgrid_scheduler.core.instance import split_qualified
    from buildgrid_scheduler.engine.history import JobHistories
    from buildgrid_scheduler.engine.overview import operations_of_job

    _, name = split_qualified(options.name)
    history = JobHistories(target.provider).load(target.instance, name)
    with target.provider.session() as session:
        operations = operations_of_job(session, target.instance, history.job_name)
    if options.json:
        told = {
            "job": history.job_name,
            "operations": [as_json(view) for view in operations],
            "events": [_event_as_json(event) for event in history.events],
        }
        print(json.dumps(told, indent=2))
        return 0
    print(f"job {history.job_name}")
    if operations:
        done = operations[0].completed_at is not None
        _describe(operations[0], attempts_made(history.events, target.max_job_attempts, done=done))
    print("operations:")
    for view in operations:
        client = view.client or view.tool or "an unknown client"
        build = f", invocation {view.invocation}" if view.invocation else ""
        print(f"  {view.name}  {view.stage} for {client}{build}")
    print("history:")
    began = history.events[0].at
    for event in history.events:
        print(f"  {_moment(event.at)}  +{brief(event.at - began):<6}  {event.text}")
    return 0


def attempts_made(events: Sequence["Event"], most: int | None, *, done: bool) -> str:
    """How often bots were given the job, as its history says: the job's own count begins before any was.

    `most`: as max_job_attempts is configured, if that is known.
    """
    retried = free = 0
    open_attempt = False
    for event in events:
        if event.kind in ("assigned", "started"):
            open_attempt = True
        elif event.kind == "retried":
            retried, open_attempt = retried + 1, False
            free += event.counted != "try"
    begun = retried + open_attempt
    if not begun:
        return "none" if done else "none yet"
    bound = "" if most is None else f" of {most}"
    if not free:
        return f"{begun}{bound}"
    return f"{begun - free}{bound}, and {free} lost for the farm's reasons, which do not count"


def _describe(view: "OperationView", attempts: str) -> None:
    required = ", ".join(f"{k}={v}" for k, values in sorted(view.requirements.items()) for v in values)
    for name, value in (
        ("stage", f"{view.stage} {view.status}" if view.stage == "COMPLETED" else view.stage),
        ("action", view.action_digest),
        ("command", view.command),
        ("what", " ".join(filter(None, (view.mnemonic, view.target)))),
        ("requires", required or "nothing"),
        ("label", view.property_label),
        ("priority", str(view.priority)),
        ("attempts", attempts),
        ("bot", view.bot),
    ):
        if value:
            print(f"  {name:<10}{value}")


def as_json(view: "OperationView") -> dict[str, Any]:
    """For programs: times are ISO 8601."""
    return {key: _plain(value) for key, value in asdict(view).items()}


def _event_as_json(event: "Event") -> dict[str, Any]:
    return {key: _plain(value) for key, value in asdict(event).items()} | {"text": event.text}


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


def _moment(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return number
