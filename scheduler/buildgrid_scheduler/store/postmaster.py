"""The PostgreSQL of a data folder, seen from outside: whether its postmaster lives, and what a dead one left.

A process id alone proves nothing: a killed postmaster may still be in the process table (a zombie, where
nobody asked for its exit code), and its id may be somebody else's by now. Where there is no /proc, the
process id is all that is known, and PostgreSQL's own checks are what is left.
"""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from buildgrid_scheduler.core.errors import FailedPrecondition, Unavailable

_PROC = Path("/proc")
_PROGRAM = "postgres"
_LOOK_EVERY = 0.05  # seconds
_READY = "ready"


@dataclass(frozen=True, slots=True)
class Postmaster:
    """One that lives. Where it is reached is known soon after its start; it answers when it is `ready`."""

    pid: int
    port: str = ""
    sockets: str = ""
    """the folder of its socket"""
    ready: bool = False

    @property
    def url(self) -> str | None:
        """None: not known yet."""
        if not (self.port and self.sockets):
            return None
        return f"postgresql://postgres@/postgres?host={quote(self.sockets, safe='')}&port={self.port}"


def find_postmaster(folder: Path) -> Postmaster | None:
    """The one that runs on this folder; None if none does. Starts nothing, joins nothing.

    Read from PostgreSQL's own postmaster.pid: process id, data folder, start time, port, socket folder,
    address, shared memory, status; the last ones are added while it starts.
    """
    lines = _lock_file(folder)
    pid = _pid_in(lines)
    if pid is None or not _is_postgres(pid, folder):
        return None
    port, sockets, status = ([*lines, *[""] * 8][place] for place in (3, 4, 7))
    return Postmaster(pid, port, sockets, ready=status == _READY)


def lives(pid: int) -> bool:
    """Whether a process works; one that has ended and is not collected yet does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is someone else's
    return _state(pid) not in ("Z", "X")


def make_way(folder: Path, patience: float) -> None:
    """After a postmaster was killed: let nothing of it be in the way of the next one.

    Its other processes end by themselves as soon as they notice. Those that have not within `patience`
    seconds are ended: with one of them alive the folder is not safe for another postmaster, and PostgreSQL
    refuses to start. A postmaster that somebody else has started meanwhile is left alone.

    Raises Unavailable when a process cannot be ended, FailedPrecondition when it is not ours to end.
    """
    lines = _lock_file(folder)
    if (pid := _pid_in(lines)) is not None:
        with suppress(ChildProcessError):  # it is our own child where we are the first process of a container
            os.waitpid(pid, os.WNOHANG)
    for number in (signal.SIGQUIT, signal.SIGKILL):
        if _within(patience, lambda: not _processes_of(folder)):
            break
        if find_postmaster(folder) is not None:
            return
        for left in _processes_of(folder):
            _signal(left, number, folder)
    else:
        if not _within(patience, lambda: not _processes_of(folder)):
            raise Unavailable(f"processes of a PostgreSQL on {folder} do not end: {_processes_of(folder)}")
    if find_postmaster(folder) is not None:
        return
    if not lines or not _PROC.exists():
        return
    # PostgreSQL takes over the lock files of a process that is gone, and believes any other one.
    if pid is None or len(lines) < 8 or _exists(pid):
        (folder / "postmaster.pid").unlink(missing_ok=True)
        for lock in _socket_lock(lines):
            lock.unlink(missing_ok=True)


def _signal(pid: int, number: int, folder: Path) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it has just ended
    except PermissionError as error:
        raise FailedPrecondition(
            f"process {pid} of a PostgreSQL on {folder} is another user's: end it, or use another folder"
        ) from error


def _lock_file(folder: Path) -> list[str]:
    try:
        return [line.strip() for line in (folder / "postmaster.pid").read_text().splitlines()]
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise FailedPrecondition(f"{folder / 'postmaster.pid'} cannot be read: {error}") from error


def _pid_in(lines: list[str]) -> int | None:
    # A postmaster that was started by hand without -D writes its id as a negative number.
    return abs(int(lines[0])) if lines and lines[0].lstrip("-").isdigit() else None


def _socket_lock(lines: list[str]) -> list[Path]:
    if len(lines) < 5 or not lines[4]:
        return []
    return [Path(lines[4]) / f".s.PGSQL.{lines[3]}.lock"]


def _is_postgres(pid: int, folder: Path) -> bool:
    if not lives(pid):
        return False
    if not _PROC.exists():
        return True
    try:
        if (_PROC / str(pid) / "comm").read_text().strip() != _PROGRAM:
            return False
        return _PROC.joinpath(str(pid), "cwd").resolve(strict=True) == folder.resolve()
    except PermissionError:
        return True  # it is another user's, and a PostgreSQL at least
    except OSError:
        return False  # it has just ended


def _processes_of(folder: Path) -> list[int]:
    """The processes of a PostgreSQL on this folder, by the folder that they work in."""
    numbers = [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()] if _PROC.exists() else []
    return [pid for pid in numbers if _works_in(pid, folder)]


def _works_in(pid: int, folder: Path) -> bool:
    try:
        return (
            (_PROC / str(pid) / "comm").read_text().strip() == _PROGRAM
            and _state(pid) not in ("Z", "X")
            and _PROC.joinpath(str(pid), "cwd").resolve(strict=True) == folder.resolve()
        )
    except OSError:
        return False  # it has ended, or is another user's


def _exists(pid: int) -> bool:
    """Also a zombie does."""
    return (_PROC / str(pid)).exists()


def _state(pid: int) -> str:
    """One letter, as in proc(5); empty where that is not known."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def _within(seconds: float, come: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not come():
        if time.monotonic() > end:
            return False
        time.sleep(_LOOK_EVERY)
    return True
