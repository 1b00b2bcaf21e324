"""`buildgrid-scheduler check-config`: whether a configuration can be used, and what it would run."""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from buildgrid_scheduler.config import ConfigError


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand to the program's."""
    parser = subparsers.add_parser(
        "check-config",
        help="say whether a configuration can be used, and what it would run",
        description="Check a configuration file without starting anything. Says what would run, or for each "
        "problem the line, the field and the remedy; the files that it names are read, too. "
        "Exit code 2: it cannot be used.",
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="configuration, YAML")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Check; the findings are the command's output."""
    from buildgrid_scheduler.config import ConfigError
    from buildgrid_scheduler.config.source import ConfigSource
    from buildgrid_scheduler.config.summary import notes, summary
    from buildgrid_scheduler.server.config_files import read_checked

    try:
        read = read_checked(ConfigSource(options.file))
    except ConfigError as error:
        _show_problems(error, as_json=options.json)
        return 2
    told, warnings = summary(read.config), notes(read.config)
    if options.json:
        print(json.dumps({"ok": True, "summary": told, "notes": warnings}, indent=2))
        return 0
    print(f"{options.file}: OK")
    width = max(map(len, told))
    for name, text in told.items():
        print(f"  {name:<{width}}  {text}")
    for note in warnings:
        print(f"note: {note}")
    return 0


def _show_problems(error: "ConfigError", *, as_json: bool) -> None:
    if not as_json:
        print(error, file=sys.stderr)
        return
    problems: list[dict[str, object]] = [
        {
            "file": problem.source or error.source,
            "line": problem.line,
            "field": problem.field,
            "message": problem.message,
            "nearest": problem.nearest,
        }
        for problem in error.problems
    ]
    print(json.dumps({"ok": False, "problems": problems or [{"message": str(error)}]}, indent=2))
