"""`buildgrid-operator simulate`: policies on a trace of jobs, before a cluster sees them."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from math import inf
from pathlib import Path
from typing import TypeVar

from buildgrid_operator.simulator import report
from buildgrid_operator.simulator.equal_wait import compare, pair_table, worst
from buildgrid_operator.simulator.families import FAMILIES
from buildgrid_operator.simulator.fleets import FLEETS_OF_FAMILIES, fleets_of, seconds, share, whole
from buildgrid_operator.simulator.pictures import draw_curves, draw_sizes
from buildgrid_operator.simulator.policies import KINDS, NamedPolicy, parse_policy
from buildgrid_operator.simulator.report import Figures, Setting
from buildgrid_operator.simulator.search import search
from buildgrid_operator.simulator.trace import read_trace
from buildgrid_operator.simulator.world import FleetModel

NOT_HELD = 1
BAD = 2
Read = TypeVar("Read")


def configure(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    kinds = "; ".join(f"{name} ({kind.words}): {', '.join(kind.settings)}" for name, kind in KINDS.items())
    parser.epilog = (
        f"Policies and their settings: {kinds}. Example: buildgrid-operator simulate --trace week.csv "
        "--policy buildgrid:idleTimeout=1m --policy hpa:target=2 --pictures ."
    )
    add = parser.add_argument
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--trace",
        type=Path,
        metavar="FILE",
        help="CSV with the columns arrival_seconds, requirement, duration_seconds",
    )
    source.add_argument("--family", choices=FAMILIES, help="a made-up trace instead")
    add("--seed", type=int, default=1, help="of everything random (default: %(default)s)")
    add(
        "--policy",
        action="append",
        metavar="NAME[:SETTING=VALUE,...]",
        help="repeatable (default: each once)",
    )
    add(
        "--fleet",
        action="append",
        metavar="NAME[:SETTING=VALUE,...]",
        help="repeatable, for example spot:cost=0.3,lostAfter=30m,class=spot (default: one that serves "
        "all, or those of the family); what it does not say is said by the flags below",
    )
    add(
        "--max-bots",
        type=_argument(whole),
        default=200,
        metavar="N",
        help="of a fleet (default: %(default)s)",
    )
    add(
        "--slots",
        type=_argument(whole),
        default=1,
        metavar="N",
        help="actions at once in a bot (default: %(default)s)",
    )
    add(
        "--start-time",
        type=_argument(seconds),
        default=30.0,
        metavar="TIME",
        help="of a bot, median (default: 30s)",
    )
    add(
        "--start-failures",
        type=_argument(share),
        default=0.0,
        metavar="SHARE",
        help="of starts (default: none)",
    )
    add(
        "--lost-after",
        type=_argument(seconds),
        default=inf,
        metavar="TIME",
        help="mean time until a node is taken away (default: never)",
    )
    add(
        "--target-wait",
        type=_argument(seconds),
        default=30.0,
        metavar="TIME",
        help="longer waits are counted (default: 30s)",
    )
    add("--curves", action="store_true", help="vary the setting of each policy that trades waits for pods")
    add("--pictures", type=Path, metavar="DIR", help="draw waits against pods, and sizes over time, as SVG")
    add(
        "--search",
        type=_argument(seconds),
        metavar="TIME",
        help="the cheapest settings whose p95 of waits is within TIME",
    )
    add(
        "--equal-wait",
        type=_argument(seconds),
        metavar="TIME",
        help="hold others, each tuned, against this project's planner at the same p95 of waits, up to TIME",
    )
    add("--json", action="store_true", help="figures for programs")


def run(options: argparse.Namespace) -> int:
    """Returns the exit code: 1 when no settings hold the wait that --search asks for, 2 for bad input."""
    try:
        setting = _setting(options)
        policies = [parse_policy(text) for text in options.policy or KINDS]
        if options.search is not None:
            return _search(options, setting)
        if options.equal_wait is not None:
            return _equal_wait(options, setting, policies)
        return _compare(options, setting, policies)
    except (ValueError, OSError) as error:
        print(f"simulate: {error}", file=sys.stderr)
        return BAD


def _setting(options: argparse.Namespace) -> Setting:
    trace = FAMILIES[options.family](options.seed) if options.family else read_trace(options.trace)
    base = FleetModel(
        "fleet",
        options.max_bots,
        frozenset(),
        slots=options.slots,
        start_median=options.start_time,
        start_failures=options.start_failures,
        lost_after=options.lost_after,
    )
    written = options.fleet or FLEETS_OF_FAMILIES.get(options.family, ["fleet"])
    return Setting(trace, fleets_of(written, base, trace), options.target_wait, options.seed)


def _compare(options: argparse.Namespace, setting: Setting, policies: Sequence[NamedPolicy]) -> int:
    figures: list[Figures] = []
    sizes = {}
    for policy in policies:
        found, result = report.run(setting, policy)
        figures.append(found)
        sizes[found.policy] = result.sizes
    curves = (
        {each.kind: report.curve(setting, each) for each in policies}
        if options.curves or options.pictures
        else {}
    )
    _tell(options, setting, figures, curves)
    if options.pictures is None:
        return 0
    try:
        options.pictures.mkdir(parents=True, exist_ok=True)
        name = setting.trace.name.replace(" ", "-")
        title = f"{setting.trace.name}: {len(setting.trace.jobs)} jobs"
        draw_curves(curves, setting, title, options.pictures / f"{name}-waits.svg")
        draw_sizes(sizes, setting.slots, setting.trace, title, options.pictures / f"{name}-sizes.svg")
    except OSError as error:
        print(f"simulate: --pictures: {error}", file=sys.stderr)
        return BAD
    print(f"pictures: {options.pictures}/{name}-waits.svg, {name}-sizes.svg", file=sys.stderr)
    return 0


def _equal_wait(options: argparse.Namespace, setting: Setting, policies: Sequence[NamedPolicy]) -> int:
    pairs = compare(setting, dict.fromkeys(policy.kind for policy in policies), options.equal_wait)
    if options.json:
        told = [
            {"peer": pair.peer.as_json(), "ours": None if pair.ours is None else pair.ours.as_json()}
            for pair in pairs
        ]
        print(json.dumps(told, indent=2))
        return 0
    print(f"{_about(setting)}\n\n{pair_table(pairs)}\n\nworst for buildgrid\n{pair_table(worst(pairs))}")
    return 0


def _tell(
    options: argparse.Namespace,
    setting: Setting,
    figures: Sequence[Figures],
    curves: dict[str, list[Figures]],
) -> None:
    if options.json:
        told = {
            "trace": setting.trace.name,
            "jobs": len(setting.trace.jobs),
            "bounds": {"work": setting.bounds.work, "packed": setting.bounds.packed},
            "policies": [each.as_json() for each in figures],
            "curves": {name: [each.as_json() for each in found] for name, found in curves.items()},
        }
        print(json.dumps(told, indent=2))
        return
    print(f"{_about(setting)}\n\n{report.table(figures)}")
    for name, found in curves.items():
        print(f"\n{name}\n{report.table(found)}")


def _search(options: argparse.Namespace, setting: Setting) -> int:
    best, tried = search(setting, options.search)
    if options.json:
        told = {"best": None if best is None else best.as_json(), "tried": [each.as_json() for each in tried]}
        print(json.dumps(told, indent=2))
    else:
        nearest = best or min(tried, key=lambda each: each.wait_p95)
        print(f"{_about(setting)}\n\n{report.table([nearest])}")
    if best is None:
        print(
            f"simulate: no settings of {len(tried)} hold a p95 of {options.search:g} s; the nearest is shown",
            file=sys.stderr,
        )
        return NOT_HELD
    return 0


def _about(setting: Setting) -> str:
    hours, bounds = setting.trace.end / 3600, setting.bounds
    unit = "pod-hours" if setting.one_price else "pod-hours times cost"
    return (
        f"{setting.trace.name}: {len(setting.trace.jobs)} jobs in {hours:.1f} h, "
        f"{bounds.work / 3600:.1f} {unit} of work, {bounds.packed / 3600:.1f} with perfect foresight"
    )


def _argument(read: Callable[[str], Read]) -> Callable[[str], Read]:
    """As argparse wants it: what is wrong is told in the reader's own words."""

    def convert(text: str) -> Read:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return convert
