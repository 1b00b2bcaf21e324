"""What is wrong with a configuration, for the person who wrote it."""

from collections.abc import Sequence
from dataclasses import dataclass

Location = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to mend. The message says what is wrong and how to mend it."""

    message: str
    field: str = ""
    """dotted, with numbers of list items in brackets; empty where it is about the whole file"""
    line: int | None = None
    nearest: str | None = None
    """the known field that was probably meant"""
    source: str | None = None
    """where the value is from, if not from where the others are"""


class ConfigError(Exception):
    """The configuration cannot be used. The text has a line for each problem."""

    def __init__(self, source: str, problems: Sequence[Problem] = ()) -> None:
        """`source`: the file, or where else the values are from; without problems, the whole text."""
        self.source = source
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line or 0))
        super().__init__("\n".join(self._lines()) if problems else source)

    def _lines(self) -> list[str]:
        lines = []
        for problem in self.problems:
            where = problem.source or self.source
            where = where if problem.line is None else f"{where}:{problem.line}"
            field = f" {problem.field}:" if problem.field else ""
            hint = f"; did you mean {problem.nearest}?" if problem.nearest else ""
            lines.append(f"{where}:{field} {problem.message}{hint}")
        return lines


def show_path(path: Location) -> str:
    """`scheduler.pruning`, `instances[1]`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
