"""The comparison as Markdown: figures, ratios, and what they were taken on."""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import median

from benchmarks.machine import Machine
from benchmarks.report import LoadReport

Figure = Callable[[LoadReport], float]

SERVER = "server"
POSTGRES = "postgres"

_FIGURES: dict[str, Figure] = {
    "jobs/s": lambda report: report.jobs_per_second,
    "p50 done ms": lambda report: report.done_ms.p50,
    "p95 done ms": lambda report: report.done_ms.p95,
    "p99 done ms": lambda report: report.done_ms.p99,
    "p50 first update ms": lambda report: report.first_update_ms.p50,
    "server CPU ms/job": lambda report: report.cpu_ms_per_job[SERVER],
    "PostgreSQL CPU ms/job": lambda report: report.cpu_ms_per_job.get(POSTGRES, math.nan),
}
_RATIOS: dict[str, Figure] = {
    "jobs/s": _FIGURES["jobs/s"],
    "p50 done": _FIGURES["p50 done ms"],
    "p99 done": _FIGURES["p99 done ms"],
    "server CPU": _FIGURES["server CPU ms/job"],
    "server + PostgreSQL CPU": lambda report: (
        report.cpu_ms_per_job[SERVER] + report.cpu_ms_per_job.get(POSTGRES, math.nan)
    ),
}


def comparison(
    found: Mapping[str, Sequence[LoadReport]], ours: str, machine: Machine, command: str
) -> list[str]:
    """Lines of Markdown. `found`: the rounds of each server; the ratios are `ours` to each other."""
    lines = _table(
        ["server", *_FIGURES, "handed out twice", "errors"],
        [[name, *_cells(rounds), *_faults(rounds)] for name, rounds in found.items()],
    )
    others = [name for name in found if name != ours]
    if ours in found and others:
        rows = [
            [f"{ours} / {other}", *(_ratio(found[ours], found[other], figure) for figure in _RATIOS.values())]
            for other in others
        ]
        lines += ["", *_table(["ratio", *_RATIOS], rows)]
    return [*lines, "", *_footnotes(machine, command)]


def _cells(rounds: Sequence[LoadReport]) -> list[str]:
    return [_cell([figure(report) for report in rounds]) for figure in _FIGURES.values()]


def _cell(values: Sequence[float]) -> str:
    """The median, and the spread of several rounds; empty where nothing was measured."""
    if len(values) == 1 or math.isnan(median(values)):
        return _number(median(values))
    return f"{_number(median(values))} ({_number(min(values))} to {_number(max(values))})"


def _faults(rounds: Sequence[LoadReport]) -> list[str]:
    twice = sum(report.handed_out_twice for report in rounds)
    errors = sum(sum(report.errors.values()) + report.unfinished for report in rounds)
    return [str(twice), str(errors)]


def _ratio(ours: Sequence[LoadReport], other: Sequence[LoadReport], figure: Figure) -> str:
    above, below = median(map(figure, ours)), median(map(figure, other))
    return f"{_number(above / below)} x" if below and not math.isnan(above / below) else ""


def _number(value: float) -> str:
    """Three digits are more than a run on a shared machine is good for; empty for none."""
    if math.isnan(value):
        return ""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * width for width in widths], *rows]
    return [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]


def _footnotes(machine: Machine, command: str) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in machine.versions.items())
    revision = f", revision {machine.revision}" if machine.revision else ""
    return [
        f"Machine: {machine.cores} cores ({machine.cpu}), {machine.memory_gib} GiB, {machine.system}; "
        "load, server and PostgreSQL share it.  ",
        f"Versions: {versions}{revision}.  ",
        f"Command: `{command}`",
    ]
