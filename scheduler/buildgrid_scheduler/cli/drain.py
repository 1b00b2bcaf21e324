"""`buildgrid-scheduler drain`: bots that are to go, or to rest, get no more work."""

import argparse
import json
import math
import sys
import time
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING

from buildgrid_scheduler.cli.table import ago, print_table
from buildgrid_scheduler.cli.target import Target, add_arguments, run_on_target

if TYPE_CHECKING:
    from buildgrid_scheduler.engine.draining import Drained

_LOOK_EVERY = 1.0  # seconds


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand to the program's."""
    parser = subparsers.add_parser(
        "drain",
        help="keep bots from getting more work",
        description="Mark bots: they get no more leases, in this session and later ones, until the mark is "
        "taken away with --undo. A bot may be marked before it connects. Without BOT_ID, show the marks.",
        epilog="Exit code 1: not all bots were drained: with --if-idle the busy ones are not, with --wait "
        "those that are still busy then.",
    )
    parser.add_argument(
        "bots", nargs="*", metavar="BOT_ID", help="what a bot calls itself; see the command bots"
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--when-idle", action="store_true", help="mark at once; what runs may end (the default)")
    how.add_argument("--if-idle", action="store_true", help="mark only those that have no lease now")
    how.add_argument("--undo", action="store_true", help="take the marks away")
    parser.add_argument(
        "--wait",
        type=_seconds,
        metavar="SECONDS",
        help="wait until nothing runs on them any more, at most so long",
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    add_arguments(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Mark, unmark, or show."""
    if not options.bots and (options.undo or options.if_idle or options.when_idle):
        print("buildgrid-scheduler drain: name the bots; see the command bots", file=sys.stderr)
        return 2
    return run_on_target("drain", options, lambda target: _drain(target, options))


def _drain(target: Target, options: argparse.Namespace) -> int:
    from buildgrid_scheduler.engine.draining import drain_if_idle, drain_when_idle, drained, undrain

    bots: list[str] = list(dict.fromkeys(options.bots))
    with target.steering() as call:
        if not bots:
            return _show_marks(call(drained(target.instance)), as_json=options.json)
        if options.undo:
            changed = call(undrain(target.instance, bots))
            return _tell(
                bots, changed, "may get work again", "was not drained", as_json=options.json, fail=False
            )
        if options.if_idle:
            changed = call(drain_if_idle(target.instance, bots))
            _mind_absent(target, changed, call(drained(target.instance)))
            return _tell(bots, changed, "drained", "busy, not drained", as_json=options.json, fail=True)
        call(drain_when_idle(target.instance, bots))
        _mind_absent(target, bots, call(drained(target.instance)))
        until = time.monotonic() + (options.wait or 0)
        while True:
            marks = {mark.bot_id: mark for mark in call(drained(target.instance))}
            idle = [bot for bot in bots if bot in marks and marks[bot].done]
            left = until - time.monotonic()
            if len(idle) == len(bots) or left <= 0:
                break
            time.sleep(min(_LOOK_EVERY, left))
    waited = options.wait is not None
    return _tell(
        bots, idle, "drained", "gets no more work, and still runs some", as_json=options.json, fail=waited
    )


def _mind_absent(target: Target, bots: list[str], marks: "list[Drained]") -> None:
    """A bot may be marked before it connects; a name may also be mistyped."""
    connected = {mark.bot_id for mark in marks if mark.connected}
    for bot in bots:
        if bot not in connected:
            print(
                f"buildgrid-scheduler drain: no bot {bot!r} is connected to the instance {target.instance!r} "
                "now; the mark holds for when one is. See the command bots, and take it away with --undo",
                file=sys.stderr,
            )


def _tell(bots: list[str], done: list[str], yes: str, no: str, *, as_json: bool, fail: bool) -> int:
    outcomes = {bot: yes if bot in done else no for bot in bots}
    if as_json:
        print(json.dumps(outcomes, indent=2))
    else:
        for bot, outcome in outcomes.items():
            print(f"{bot}: {outcome}")
    return 1 if fail and len(done) < len(bots) else 0


def _show_marks(marks: "list[Drained]", *, as_json: bool) -> int:
    from buildgrid_scheduler.core.clock import utc_now

    if as_json:
        told = [
            {k: v.isoformat() if isinstance(v, datetime) else v for k, v in asdict(mark).items()}
            for mark in marks
        ]
        print(json.dumps(told, indent=2))
        return 0
    now = utc_now()
    rows = [
        (
            mark.bot_id,
            ago(now, mark.since),
            str(mark.leases),
            "yes" if mark.connected else "no",
            "evicted or preempted" if mark.disrupted else "",
        )
        for mark in marks
    ]
    print_table(("BOT", "DRAINED FOR", "LEASES", "CONNECTED", "WHY"), rows)
    return 0


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, 0 or more")
    return seconds
