"""Ours beside the floor and the peer, one after another on one machine and one PostgreSQL (`make bench`)."""

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.before import resolved, source_of
from benchmarks.load import add_load_arguments, run_load
from benchmarks.machine import Machine, this_machine
from benchmarks.options import LoadOptions
from benchmarks.postgres import SETTINGS, DatabaseServer, database_server
from benchmarks.processes import LoadError
from benchmarks.report import LoadReport
from benchmarks.servers import INSTANCE, REPOSITORY, Running, ServerError, floor, ours, peer, peer_script
from benchmarks.table import POSTGRES, SERVER, comparison

FLOOR = "floor"
PEER = "BuildGrid 0.9.1"
OURS = "ours"
_NAMES = {"floor": FLOOR, "peer": PEER, "ours": OURS}

# The peer does some tens of jobs a second: the usual number of actions would only cost its start-up time.
_PEER_ACTIONS_PER_SECOND = 100
_LATEST = REPOSITORY / "docs/benchmarks"

Found = dict[str, list[LoadReport]]


@dataclass(frozen=True)
class _Before:
    """An earlier revision of ours."""

    name: str
    """of its row"""
    environment: Mapping[str, str]


def main() -> None:
    arguments = _arguments()
    # A polite kill ends like an interrupt: everything that was started is stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with database_server() as database:
            with _before(arguments.before) as before:
                found = _measure(arguments, database, before)
            machine = this_machine(database.version)
    except (LoadError, ServerError, ProcessLookupError) as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    lines = comparison(found, OURS, machine, _command())
    record = _record(found, machine)
    if arguments.write:
        _write(lines, record)
    print(json.dumps(record, indent=2) if arguments.json else "\n".join(lines))
    sys.exit(0 if all(report.sound for report in found.get(OURS, [])) else 1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    rounds = 3 if os.environ.get("FULL") == "1" else 1
    parser.add_argument("--rounds", type=int, default=rounds, help="of all servers (1; 3 with FULL=1)")
    parser.add_argument(
        "--only", choices=_NAMES, action="append", help="measure this one only; may be given again"
    )
    parser.add_argument(
        "--before", metavar="REV", help="measure this revision of ours, too, in turns with the working tree"
    )
    add_load_arguments(parser)
    parser.add_argument("--write", action="store_true", help="keep the outcome in docs/benchmarks/latest.*")
    parser.add_argument("--json", action="store_true", help="for programs")
    return parser.parse_args()


@contextlib.contextmanager
def _before(revision: str | None) -> Iterator[_Before | None]:
    if revision is None:
        yield None
        return
    with source_of(revision) as environment:
        yield _Before(f"ours at {resolved(revision)}", environment)


def _measure(arguments: argparse.Namespace, database: DatabaseServer, before: _Before | None) -> Found:
    wanted = [_NAMES[name] for name in arguments.only or _NAMES]
    if PEER in wanted and peer_script() is None:
        _say("the peer is not here (BENCH_PEER names its script): without it")
        wanted.remove(PEER)
    if before is not None:
        wanted.append(before.name)
    found: Found = {name: [] for name in wanted}
    for number in range(arguments.rounds):
        # Turned round each time, so that no server always runs on the warmer machine.
        for name in wanted if number % 2 == 0 else reversed(wanted):
            _say(f"round {number + 1} of {arguments.rounds}: {name} ...")
            report = _run(name, arguments, database, before)
            found[name].append(report)
            for line in report.lines():
                _say(f"  {line}")
    return found


def _run(
    name: str, arguments: argparse.Namespace, database: DatabaseServer, before: _Before | None
) -> LoadReport:
    environment = before.environment if before is not None and name == before.name else None
    with _server(name, database, environment) as running:
        duration = arguments.warmup + arguments.seconds
        options = LoadOptions(
            endpoint=running.endpoint,
            instance=INSTANCE,
            clients=arguments.clients,
            bots=arguments.bots,
            seconds=arguments.seconds,
            warmup=arguments.warmup,
            channels=arguments.channels,
            actions=int(_PEER_ACTIONS_PER_SECOND * duration) if name == PEER else 0,
        )
        pids = {SERVER: running.pid}
        if name != FLOOR and database.pid is not None:
            pids[POSTGRES] = database.pid
        report = run_load(options, pids)
    if name == FLOOR:  # it has no database; elsewhere no figure means that PostgreSQL could not be seen
        report.cpu_ms_per_job[POSTGRES] = 0.0
    return report


@contextlib.contextmanager
def _server(name: str, database: DatabaseServer, environment: Mapping[str, str] | None) -> Iterator[Running]:
    with contextlib.ExitStack() as stack:
        if name == FLOOR:
            yield stack.enter_context(floor())
            return
        url = stack.enter_context(database.fresh_database("peer" if name == PEER else "ours"))
        if name == PEER:
            script = peer_script()
            assert script is not None
            yield stack.enter_context(peer(script, url))
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-ours-"))
            yield stack.enter_context(ours(url, Path(folder), environment))


def _record(found: Found, machine: Machine) -> dict[str, object]:
    return {
        "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": _command(),
        "machine": asdict(machine),
        "postgres_settings": SETTINGS,
        "servers": {name: [report.as_json() for report in rounds] for name, rounds in found.items()},
    }


def _write(lines: list[str], record: dict[str, object]) -> None:
    _LATEST.mkdir(parents=True, exist_ok=True)
    head = [
        "# Latest measurement",
        "",
        f"Taken {record['taken_at']}; how and what: benchmarks/README.md.",
        "",
    ]
    (_LATEST / "latest.md").write_text("\n".join([*head, *lines, ""]))
    (_LATEST / "latest.json").write_text(json.dumps(record, indent=2) + "\n")


def _command() -> str:
    full = "FULL=1 " if os.environ.get("FULL") == "1" else ""
    return full + " ".join(["python -m benchmarks.compare", *(a for a in sys.argv[1:] if a != "--json")])


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
