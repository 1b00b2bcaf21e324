"""Two pictures of a comparison, as SVG: waits against pods, and sizes over time against what was wanted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10
from pathlib import Path

from buildgrid_operator.simulator.report import Figures
from buildgrid_operator.simulator.trace import Trace

Points = Sequence[tuple[float, float]]
_POINTS = 600
"""of a line over time"""
_NO_WAIT = 0.1
"""seconds; a logarithmic axis has no zero"""
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 1000, 600, 80, 200, 50, 60
_COLOURS = ("#444444", "#0b6e99", "#c4570e", "#2e7d32", "#8e24aa", "#b71c1c", "#00838f", "#6d4c41")


def draw_curves(curves: Mapping[str, Sequence[Figures]], bound: float, title: str, file: Path) -> None:
    """p95 of waits against pod-hours, both logarithmic: down and to the left is better. Raises OSError."""
    lines: dict[str, Points] = {"perfect foresight": [(bound / 3600, _NO_WAIT)]}
    for name, figures in curves.items():
        lines[name] = sorted((each.pod_seconds / 3600, max(each.wait_p95, _NO_WAIT)) for each in figures)
    xs = _decades([x for points in lines.values() for x, _ in points])
    ys = _decades([y for points in lines.values() for _, y in points])
    words = f"p95 of waits, s ({_NO_WAIT:g}: none)"
    file.write_text(_chart(title, "pod-hours", words, lines, xs, ys, dots=True), encoding="utf-8")


def draw_sizes(
    sizes: Mapping[str, Sequence[tuple[float, int]]], trace: Trace, title: str, file: Path
) -> None:
    """Pods over time, beside the jobs that would run if each began at once. Raises OSError."""
    end = max(changes[-1][0] for changes in sizes.values()) or 1.0
    steps = [end * number / _POINTS for number in range(_POINTS + 1)]
    lines: dict[str, Points] = {"wanted": _line(_wanted(trace), steps)}
    lines |= {name: _line(changes, steps) for name, changes in sizes.items()}
    most = max(y for points in lines.values() for _, y in points) or 1.0
    xs, ys = _Axis(0.0, end / 3600, _even(end / 3600)), _Axis(0.0, most, _even(most))
    file.write_text(_chart(title, "hours", "pods", lines, xs, ys, dots=False), encoding="utf-8")


@dataclass(frozen=True, slots=True)
class _Axis:
    """From one value to another, with marks between them."""

    first: float
    last: float
    marks: Sequence[float]
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """Where a value lies: 0 at the first, 1 at the last."""
        first, last = self.first, self.last
        if self.logarithmic:
            first, last, value = log10(first), log10(last), log10(value)
        return (value - first) / (last - first)


def _decades(values: Sequence[float]) -> _Axis:
    low, high = floor(log10(min(values))), ceil(log10(max(values)))
    high = max(high, low + 1)
    return _Axis(10.0**low, 10.0**high, [10.0**power for power in range(low, high + 1)], logarithmic=True)


def _even(most: float) -> list[float]:
    """Some five round steps from 0 on."""
    size = 10.0 ** floor(log10(most / 5))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor * 6 >= most)
    return [step * number for number in range(int(most / step) + 1)]


def _chart(
    title: str, x_words: str, y_words: str, lines: Mapping[str, Points], xs: _Axis, ys: _Axis, *, dots: bool
) -> str:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def x_of(value: float) -> float:
        return _LEFT + xs.share(value) * (right - _LEFT)

    def y_of(value: float) -> float:
        return bottom - ys.share(value) * (bottom - _TOP)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        'font-family="sans-serif" font-size="13">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        _text(_LEFT, 28, title, size=17),
        _text((_LEFT + right) / 2, _HEIGHT - 12, x_words, anchor="middle"),
        _text(_LEFT, _TOP - 8, y_words),
    ]
    for mark in xs.marks:
        x = x_of(mark)
        parts.append(f'<path d="M{x:.1f} {_TOP}V{bottom}" stroke="#dddddd"/>')
        parts.append(_text(x, bottom + 18, f"{mark:g}", anchor="middle"))
    for mark in ys.marks:
        y = y_of(mark)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{right}" stroke="#dddddd"/>')
        parts.append(_text(_LEFT - 8, y + 4, f"{mark:g}", anchor="end"))
    for number, (name, points) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        at = [(x_of(x), y_of(y)) for x, y in points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in at)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        if dots:
            parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in at]
        parts.append(_text(right + 16, _TOP + 14 + 22 * number, name, fill=colour))
    return "\n".join([*parts, "</svg>\n"])


def _text(
    x: float, y: float, words: str, *, anchor: str = "start", size: int = 13, fill: str = "#222222"
) -> str:
    where = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{fill}"'
    return f"<text {where}>{escape(words)}</text>"


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


def _wanted(trace: Trace) -> list[tuple[float, int]]:
    changes = sorted(
        [(job.arrival, 1) for job in trace.jobs] + [(job.arrival + job.duration, -1) for job in trace.jobs]
    )
    found, count = [], 0
    for time, by in changes:
        count += by
        found.append((time, count))
    return found
