"""`buildgrid-scheduler bots`: who is connected, what they do, and who gets no more work."""

import argparse
import json
from dataclasses import asdict
from datetime import datetime

from buildgrid_scheduler.cli.table import ago, print_table
from buildgrid_scheduler.cli.target import Target, add_arguments, run_on_target


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand to the program's."""
    parser = subparsers.add_parser(
        "bots",
        help="show connected bots",
        description="Show the bots that are connected, how many of their slots are busy, what they offer.",
    )
    parser.add_argument(
        "--filter", default="", metavar="TEXT", help="bots whose id or session has this in it"
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    add_arguments(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Show them."""
    return run_on_target("bots", options, lambda target: _list(target, options))


def _list(target: Target, options: argparse.Namespace) -> int:
    from buildgrid_scheduler.core.clock import utc_now
    from buildgrid_scheduler.engine.overview import list_bots

    wanted = options.filter.lower()
    with target.provider.session() as session:
        found = list_bots(session, target.instance)
    if not found:
        target.refuse_unknown_instance()
    bots = [bot for bot in found if wanted in bot.bot_id.lower() or wanted in bot.session.lower()]
    if options.json:
        told = [
            {k: v.isoformat() if isinstance(v, datetime) else v for k, v in asdict(bot).items()}
            for bot in bots
        ]
        print(json.dumps(told, indent=2))
        return 0
    now = utc_now()
    rows = [
        (
            bot.bot_id,
            bot.status + (", drained" if bot.drained else ""),
            f"{len(bot.jobs)}/{bot.capacity}",
            ago(now, bot.connected_at),
            "expired" if bot.expires_at < now else ago(bot.expires_at, now),
            " ".join(f"{key}={value}" for key, value in sorted(bot.properties)),
        )
        for bot in bots
    ]
    print_table(("BOT", "STATUS", "BUSY", "CONNECTED", "EXPIRES IN", "OFFERS"), rows)
    return 0
