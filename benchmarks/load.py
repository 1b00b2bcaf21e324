"""Load for any server that speaks REAPI and RWAPI: clients that wait for no-op actions, bots that do them.

`python -m benchmarks.load --endpoint HOST:PORT --instance NAME [--pids server=PID,postgres=PID]`
"""

import argparse
import json
import sys
import time
from contextlib import ExitStack

from benchmarks.cpu import cpu_seconds
from benchmarks.options import ACTIONS_PER_SECOND, LoadOptions, Window
from benchmarks.processes import LoadError, load_process, run_bots, run_clients
from benchmarks.report import LoadReport, report_of
from benchmarks.tallies import BotTally, ClientTally, Ready


def run_load(options: LoadOptions, pids: dict[str, int]) -> LoadReport:
    """One run. `pids` names the process trees whose CPU is measured; the load's own is added as `load`.

    Raises LoadError when the server cannot be loaded at all, ProcessLookupError when a measured process dies.
    """
    with ExitStack() as stack:
        clients = stack.enter_context(load_process("clients", run_clients, options))
        clients.expect(Ready)
        # Not before the backlog is queued, if there is one: they would take it away.
        bots = stack.enter_context(load_process("bots", run_bots, options))
        bots.expect(Ready)
        measured = {**{name: [pid] for name, pid in pids.items()}, "load": [clients.pid, bots.pid]}
        start = time.monotonic() + options.warmup
        window = Window(start, start + options.seconds)
        clients.tell(window)
        before = _sample_at(window.start, measured)
        after = _sample_at(window.end, measured)
        client_tally = clients.expect(ClientTally)
        bots.tell(None)
        bot_tally = bots.expect(BotTally)
    used = {name: after[name] - before[name] for name in measured}
    return report_of(window, client_tally, bot_tally, used)


def _sample_at(moment: float, trees: dict[str, list[int]]) -> dict[str, float]:
    time.sleep(max(0.0, moment - time.monotonic()))
    return {name: sum(map(cpu_seconds, roots)) for name, roots in trees.items()}


def add_load_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that say how much load, shared with the comparison."""
    parser.add_argument("--clients", type=int, default=20, help="clients that wait for one action each (20)")
    parser.add_argument("--bots", type=int, default=20, help="bots that do nothing, at once (20)")
    parser.add_argument("--seconds", type=float, default=15, help="length of the measured window (15)")
    parser.add_argument("--warmup", type=float, default=3, help="seconds of load before the window (3)")
    parser.add_argument(
        "--channels", type=int, default=4, help="connections of all clients, and of all bots (4)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("--endpoint", required=True, help="HOST:PORT, without TLS")
    parser.add_argument("--instance", default="", help="instance name (empty)")
    add_load_arguments(parser)
    parser.add_argument(
        "--actions",
        type=int,
        default=0,
        help=f"uploaded before the run ({ACTIONS_PER_SECOND} for each second)",
    )
    parser.add_argument(
        "--one-step", action="store_true", help="bots report a lease as done at once, not as ACTIVE first"
    )
    parser.add_argument("--slots", type=int, default=1, help="leases that a bot holds at once (1)")
    parser.add_argument("--backlog", type=int, default=0, help="less urgent jobs queued before (0)")
    parser.add_argument(
        "--pids", type=_pids, default={}, metavar="NAME=PID,...", help="process trees to measure"
    )
    parser.add_argument("--json", action="store_true", help="for programs")
    arguments = parser.parse_args()
    options = LoadOptions(**{k: v for k, v in vars(arguments).items() if k not in ("pids", "json")})
    try:
        report = run_load(options, arguments.pids)
    except (LoadError, ProcessLookupError) as error:
        sys.exit(f"load: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    print(json.dumps(report.as_json(), indent=2) if arguments.json else "\n".join(report.lines()))
    sys.exit(0 if report.sound else 1)


def _pids(text: str) -> dict[str, int]:
    pairs = (part.partition("=") for part in text.split(",") if part)
    return {name: int(pid) for name, _, pid in pairs}


if __name__ == "__main__":
    main()
