"""CPU time of a process and everything below it, from /proc (Linux)."""

import os
from pathlib import Path
from typing import NamedTuple

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class _Process(NamedTuple):
    parent: int
    ticks: int


def cpu_seconds(root: int) -> float:
    """User and system seconds used so far by `root`, its living descendants and their reaped children.

    A descendant that exits moves its time into what its parent has waited for, so that differences
    of two samples lose nothing. Raises ProcessLookupError when `root` is gone.
    """
    processes = _processes()
    if root not in processes:
        raise ProcessLookupError(f"no process {root}")
    members = {root}
    grown = True
    while grown:
        below = {pid for pid, process in processes.items() if process.parent in members}
        grown = not below <= members
        members |= below
    return sum(processes[pid].ticks for pid in members) / _TICKS_PER_SECOND


def parent_of(pid: int) -> int:
    """The parent of a living process; ProcessLookupError when it is gone."""
    process = _read(Path("/proc") / str(pid))
    if process is None:
        raise ProcessLookupError(f"no process {pid}")
    return process.parent


def _processes() -> dict[int, _Process]:
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and (process := _read(folder)):
            found[int(folder.name)] = process
    return found


def _read(folder: Path) -> _Process | None:
    try:
        stat = (folder / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command may hold spaces and parentheses; after the last one comes the state, field 3.
    fields = stat[stat.rindex(")") + 2 :].split()
    return _Process(parent=int(fields[1]), ticks=sum(map(int, fields[11:15])))
