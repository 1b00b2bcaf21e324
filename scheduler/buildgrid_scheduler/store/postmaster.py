"""The PostgreSQL of a data folder, seen from outside: whether its postmaster lives, and what a dead one left.

A process id alone proves nothing: a killed postmaster may still be in the process table (a zombie, where
nobody asked for its exit code), its id may be somebody else's by now, or be one of another container. Where
there is no /proc, the process id is all that is known, and the folder's lock is what is left.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from buildgrid_scheduler.core.errors import FailedPrecondition, Unavailable
from buildgrid_scheduler.store.folder_lock import FolderInUse, folder_lock
from buildgrid_scheduler.store.postgres_processes import (
    PROC,
    exists,
    is_orphan,
    lives,
    processes_on,
    started_at,
    works_on,
)
from buildgrid_scheduler.store.waiting import within

LEFTOVERS_END_WITHIN = 2.0
"""Seconds until processes that a killed postmaster left are told to end, and again until they are killed."""
_CLOCKS_DIFFER = 10.0
"""Seconds between the begin of a process, as the kernel has it, and the start that the postmaster writes."""
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
    if pid is None or not _is_its_postmaster(pid, lines, folder):
        return None
    port, sockets, status = ([*lines, *[""] * 8][place] for place in (3, 4, 7))
    return Postmaster(pid, port, sockets, ready=status == _READY)


@contextmanager
def make_way(folder: Path, stopping: threading.Event) -> Iterator[int]:
    """After a postmaster has ended: let nothing of it be in the way of the next one.

    Gives a file descriptor that holds the folder's lock (see folder_lock): whatever is started meanwhile on
    the folder inherits it. Without it nothing is started, and no file of PostgreSQL is touched.

    Processes that a postmaster left end by themselves as soon as they notice. Those that have not soon
    are ended: with one of them alive the folder is not safe for another postmaster, and PostgreSQL
    refuses to start. A postmaster that somebody else has started meanwhile is left alone.

    Raises FolderInUse where somebody else's PostgreSQL runs on the folder, Unavailable also when a process
    cannot be ended or `stopping` is set, FailedPrecondition when it is not ours to end.
    """
    if (pid := _pid_in(_lock_file(folder))) is not None:
        with suppress(ChildProcessError):  # it is our own child where we are the first process of a container
            os.waitpid(pid, os.WNOHANG)
    _end_leftovers(folder, stopping)
    with folder_lock(folder, stopping) as lock:
        if find_postmaster(folder) is None:
            _remove_stale_files(folder)
        yield lock


def _end_leftovers(folder: Path, stopping: threading.Event) -> None:
    def gone() -> bool:
        return not processes_on(folder)

    for number in (signal.SIGQUIT, signal.SIGKILL):
        if within(LEFTOVERS_END_WITHIN, gone, stopping) or find_postmaster(folder) is not None:
            return
        for pid, certain in processes_on(folder).items():
            _signal(pid, certain, number, folder)
    if not within(LEFTOVERS_END_WITHIN, gone, stopping):
        raise Unavailable(f"processes of a PostgreSQL on {folder} do not end: {[*processes_on(folder)]}")


def _remove_stale_files(folder: Path) -> None:
    lines = _lock_file(folder)
    if not lines or not PROC.exists():
        return
    # PostgreSQL takes over the lock files of a process that is gone, and believes any other one.
    pid = _pid_in(lines)
    if pid is None or len(lines) < 8 or exists(pid):
        (folder / "postmaster.pid").unlink(missing_ok=True)
        for lock in _socket_lock(lines):
            lock.unlink(missing_ok=True)


def _signal(pid: int, certain: bool, number: signal.Signals, folder: Path) -> None:
    if certain and not is_orphan(pid) and lives(pid):
        raise FolderInUse(
            f"process {pid} is of a PostgreSQL that runs on {folder}, though the postmaster.pid there does "
            "not name it: stop it, or use another data folder"
        )
    if not certain and lives(pid):
        raise FailedPrecondition(
            f"process {pid} is of a PostgreSQL, and whether it works on {folder} cannot be told without "
            "CAP_SYS_PTRACE: end it, or use another data folder"
        )
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


def _is_its_postmaster(pid: int, lines: list[str], folder: Path) -> bool:
    if not lives(pid):
        return False
    if not PROC.exists():
        return True
    certain = works_on(pid, folder)
    if certain is None:
        began, written = started_at(pid), lines[2] if len(lines) > 2 else ""
        return began is not None and written.isdigit() and abs(began - int(written)) < _CLOCKS_DIFFER
    return certain
