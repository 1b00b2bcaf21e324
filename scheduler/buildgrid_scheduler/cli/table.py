"""Tables for people: aligned columns, one line a row, never wider than the terminal."""

import shutil
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta

_GAP = "  "
_LEAST = 12
"""characters that are left of the last column at least"""


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print it. The last column is cut at the edge of a terminal; into a file or a pipe it goes whole."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in table(headings, rows, width):
        print(line)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """The lines. `width`: of the terminal; None: there is none."""
    shown = [list(map(_one_line, row)) for row in (headings, *rows)]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    lines = []
    for row in shown:
        cells = [cell.ljust(wide) for cell, wide in zip(row[:-1], widths[:-1], strict=True)]
        start = _GAP.join([*cells, ""])
        last = row[-1]
        if width is not None and len(last) > (room := max(_LEAST, width - len(start))):
            last = last[: room - 1] + "…"
        lines.append((start + last).rstrip())
    return lines


def ago(now: datetime, moment: datetime | None) -> str:
    """How long since, in two units at most: `3s`, `12m`, `4h03m`, `2d5h`."""
    return "" if moment is None else brief(now - moment)


def brief(duration: timedelta) -> str:
    """A duration in two units at most; nothing is shorter than 0s."""
    seconds = max(0, int(duration.total_seconds()))
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02}s" if seconds < 600 else f"{seconds // 60}m"
    if seconds < 86400:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02}m"
    return f"{seconds // 86400}d{seconds % 86400 // 3600}h"


def _one_line(cell: str) -> str:
    """What comes from clients and bots must not break the table, or move the terminal's cursor."""
    return "".join(character if character.isprintable() else " " for character in cell)
