"""Axes, lines and words of a chart, as SVG."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from math import floor, log10

Points = Sequence[tuple[float, float]]
GRID = "#dddddd"
INK = "#222222"
COLOURS = ("#0b6e99", "#c4570e", "#2e7d32", "#8e24aa", "#b71c1c", "#5d6d00", "#6d4c41", "#1a237e")
"""told apart on white, also by who sees no difference between red and green: they differ in lightness"""
_FEW_DECADES = 4
"""an axis of not more has marks within them, too"""


@dataclass(frozen=True, slots=True)
class Axis:
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


@dataclass(frozen=True, slots=True)
class Plane:
    """A part of a picture with two axes: `left`, `right`, `top` and `bottom` are its edges."""

    left: float
    right: float
    top: float
    bottom: float
    xs: Axis
    ys: Axis

    def at(self, point: tuple[float, float]) -> tuple[float, float]:
        """Where values lie in the picture."""
        x = self.left + self.xs.share(point[0]) * (self.right - self.left)
        return x, self.bottom - self.ys.share(point[1]) * (self.bottom - self.top)

    def grid(self, *, x_words: bool = True) -> list[str]:
        """Lines at the marks, with their values."""
        parts = []
        for mark in self.xs.marks:
            x, _ = self.at((mark, self.ys.first))
            parts.append(f'<path d="M{x:.1f} {self.top:.1f}V{self.bottom:.1f}" stroke="{GRID}"/>')
            if x_words:
                parts.append(text(x, self.bottom + 18, f"{mark:g}", anchor="middle"))
        for mark in self.ys.marks:
            _, y = self.at((self.xs.first, mark))
            parts.append(f'<path d="M{self.left:.1f} {y:.1f}H{self.right:.1f}" stroke="{GRID}"/>')
            parts.append(text(self.left - 8, y + 4, f"{mark:g}", anchor="end"))
        return parts

    def line(self, points: Points, colour: str) -> str:
        """From point to point."""
        return f'<polyline points="{self._path(points)}" fill="none" stroke="{colour}" stroke-width="1.5"/>'

    def area(self, points: Points, colour: str) -> str:
        """What is below the line."""
        first, last = (points[0][0], self.ys.first), (points[-1][0], self.ys.first)
        return f'<polygon points="{self._path([first, *points, last])}" fill="{colour}"/>'

    def dots(self, points: Points, colour: str, radius: float = 4) -> list[str]:
        """One each."""
        return [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{colour}"/>'
            for x, y in map(self.at, points)
        ]

    def _path(self, points: Points) -> str:
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in map(self.at, points))


def logarithmic(values: Sequence[float]) -> Axis:
    """All of the values, from one round number (1, 2 or 5 times a power of ten) to another."""
    low, high = min(values), max(values)
    steps = [
        factor * 10.0**power
        for power in range(floor(log10(low)) - 1, floor(log10(high)) + 2)
        for factor in (1, 2, 5)
    ]
    first = max(step for step in steps if step <= low * 1.001)
    last = min(step for step in steps if step >= high * 0.999 and step > first)
    marks = [step for step in steps if first <= step <= last]
    if log10(last / first) > _FEW_DECADES:
        marks = [step for step in marks if f"{step:e}".startswith("1.0")]
    return Axis(first, last, marks, logarithmic=True)


def even(last: float, *, most: int = 6) -> Axis:
    """From 0 on, with not more than so many round steps."""
    size = 10.0 ** floor(log10(last / most))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor * most >= last)
    return Axis(0.0, last, [step * number for number in range(int(last / step * 1.001) + 1)])


def text(x: float, y: float, words: str, *, anchor: str = "start", size: int = 13, colour: str = INK) -> str:
    """`anchor`: which end of the words is at x."""
    where = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}"'
    return f"<text {where}>{escape(words)}</text>"


def picture(width: int, height: int, parts: Iterable[str]) -> str:
    """The whole, on white."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            'font-family="sans-serif" font-size="13">',
            f'<rect width="{width}" height="{height}" fill="white"/>',
            *parts,
            "</svg>\n",
        ]
    )
