"""Two pictures of a comparison: waits against pods, and sizes over time against what was wanted. SVG."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from buildgrid_operator.simulator.report import Figures
from buildgrid_operator.simulator.trace import Trace

_POINTS = 600
"""of a line over time"""


def draw_curves(curves: Mapping[str, Sequence[Figures]], bound: float, title: str, file: Path) -> None:
    """p95 of the waits against pod-hours, logarithmic: down and to the left is better. Raises ImportError."""
    chart = _chart(
        title,
        x_title="pod-hours",
        y_title="p95 of waits, s (0.1: none)",
        logarithmic=True,
    )
    for name, figures in curves.items():
        points = sorted((each.pod_seconds / 3600, max(each.wait_p95, 0.1)) for each in figures)
        chart.add(name, points)
    chart.add("perfect foresight", [(bound / 3600, 0.1)], dots_size=8)
    file.write_bytes(chart.render())


def draw_sizes(
    sizes: Mapping[str, Sequence[tuple[float, int]]], trace: Trace, title: str, file: Path
) -> None:
    """Pods over time, beside the jobs that would run if each began at once. Raises ImportError."""
    end = max(times[-1][0] for times in sizes.values())
    steps = [end * number / _POINTS for number in range(_POINTS + 1)]
    chart = _chart(title, x_title="hours", y_title="pods", show_dots=False)
    chart.add("wanted", _line(_wanted(trace), steps))
    for name, times in sizes.items():
        chart.add(name, _line(times, steps))
    file.write_bytes(chart.render())


def _chart(title: str, **options: object) -> Any:
    pygal: Any = importlib.import_module("pygal")
    return pygal.XY(title=title, js=[], width=1000, height=600, **options)


def _line(changes: Sequence[tuple[float, int]], steps: Sequence[float]) -> list[tuple[float, int]]:
    """The greatest value in each step, so that no peak is lost."""
    points, at, held = [], 0, 0
    for step in steps:
        most = held
        while at < len(changes) and changes[at][0] <= step:
            held = changes[at][1]
            most = max(most, held)
            at += 1
        points.append((step / 3600, most))
    return points


def _wanted(trace: Trace) -> list[tuple[float, int]]:
    changes = sorted(
        [(job.arrival, 1) for job in trace.jobs] + [(job.arrival + job.duration, -1) for job in trace.jobs]
    )
    found, count = [], 0
    for time, by in changes:
        count += by
        found.append((time, count))
    return found
