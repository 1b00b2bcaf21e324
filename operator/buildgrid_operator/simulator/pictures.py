"""Two pictures of a comparison, as SVG: waits against pods, and sizes over time against what was wanted."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from buildgrid_operator.simulator.report import Figures, Setting
from buildgrid_operator.simulator.svg import (
    COLOURS,
    INK,
    Plane,
    Points,
    even,
    logarithmic,
    picture,
    text,
)
from buildgrid_operator.simulator.trace import Trace

_STEPS = 600
"""of a line over time"""
_NO_WAIT = 0.1
"""seconds; a logarithmic axis has no zero"""
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP = 1000, 600, 70, 190, 72
_PANEL, _BETWEEN = 90, 14
_WANTED = "#c9ccd1"


def draw_curves(curves: Mapping[str, Sequence[Figures]], setting: Setting, title: str, file: Path) -> None:
    """p95 of waits against pod-hours, both logarithmic: down and to the left is better. Raises OSError."""
    bound = (setting.bounds.packed / 3600, _NO_WAIT)
    lines: dict[str, Points] = {
        name: sorted((each.cost / 3600, max(each.wait_p95, _NO_WAIT)) for each in figures)
        for name, figures in curves.items()
    }
    points = [bound, *(point for line in lines.values() for point in line)]
    xs, ys = logarithmic([x for x, _ in points]), logarithmic([y for _, y in points])
    plane = Plane(_LEFT, _WIDTH - _RIGHT, _TOP, _HEIGHT - 60, xs, ys)
    price = "pod-hours" if setting.one_price else "pod-hours times cost"
    parts = [
        *_heading(title, f"p95 of waits in seconds ({_NO_WAIT:g}: none); down and to the left is better"),
        *plane.grid(),
        text((plane.left + plane.right) / 2, _HEIGHT - 16, price, anchor="middle"),
        *plane.dots([bound], INK, 6),
    ]
    keys = [("perfect foresight", INK)]
    for number, (name, line) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        parts += [plane.line(line, colour), *plane.dots(line, colour)]
        keys.append((name, colour))
    for number, (name, colour) in enumerate(keys):
        x, y = plane.right + 18, plane.top + 10 + 22 * number
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>')
        parts.append(text(x + 12, y + 4, name, colour=colour))
    file.write_text(picture(_WIDTH, _HEIGHT, parts), encoding="utf-8")


def draw_sizes(
    sizes: Mapping[str, Sequence[tuple[float, int]]], slots: int, trace: Trace, title: str, file: Path
) -> None:
    """A panel for each policy: pods over time, before the pods that would work if each job began at once.

    `slots`: of a pod. Raises OSError.
    """
    end = max(changes[-1][0] for changes in sizes.values()) or 1.0
    steps = [end * number / _STEPS for number in range(_STEPS + 1)]
    wanted = [(x, y / slots) for x, y in _line(_wanted(trace), steps)]
    lines = {name: _line(changes, steps) for name, changes in sizes.items()}
    most = max(y for line in (wanted, *lines.values()) for _, y in line) or 1.0
    xs, ys = even(end / 3600), even(most, most=3)
    parts = _heading(title, "pods over time; grey: pods that would work if each job began at once")
    top = float(_TOP)
    for number, (name, line) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        plane = Plane(_LEFT, _WIDTH - _RIGHT, top, top + _PANEL, xs, ys)
        parts += [plane.area(_thinned(wanted), _WANTED), *plane.grid(x_words=number == len(lines) - 1)]
        parts.append(plane.line(_thinned(line), colour))
        kind, _, settings = name.partition(":")
        parts.append(text(plane.right + 14, top + 18, kind, size=14, colour=colour))
        for row, part in enumerate(filter(None, settings.split(","))):
            parts.append(text(plane.right + 14, top + 38 + 16 * row, part, size=12, colour=colour))
        top = plane.bottom + _BETWEEN
    bottom = top - _BETWEEN
    parts.append(text((_LEFT + _WIDTH - _RIGHT) / 2, bottom + 40, "hours", anchor="middle"))
    file.write_text(picture(_WIDTH, round(bottom + 56), parts), encoding="utf-8")


def _heading(title: str, words: str) -> list[str]:
    return [text(_LEFT, 28, title, size=17), text(_LEFT, 52, words)]


def _line(changes: Sequence[tuple[float, int]], steps: Sequence[float]) -> list[tuple[float, float]]:
    """The greatest value in each step, so that no peak is lost."""
    points: list[tuple[float, float]] = []
    at, held = 0, 0
    for step in steps:
        most = held
        while at < len(changes) and changes[at][0] <= step:
            held = changes[at][1]
            most = max(most, held)
            at += 1
        points.append((step / 3600, most))
    return points


def _thinned(points: Points) -> Points:
    """Without those in the middle of a level part."""
    middle = zip(points, points[1:], points[2:], strict=False)
    return [
        points[0],
        *(here for before, here, after in middle if not before[1] == here[1] == after[1]),
        points[-1],
    ]


def _wanted(trace: Trace) -> list[tuple[float, int]]:
    changes = sorted(
        [(job.arrival, 1) for job in trace.jobs] + [(job.arrival + job.duration, -1) for job in trace.jobs]
    )
    found, count = [], 0
    for time, by in changes:
        count += by
        found.append((time, count))
    return found
