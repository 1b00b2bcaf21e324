"""The processes of PostgreSQL that can be seen from here, and which data folder each works on.

/proc shows where a process works only to its own user, and to one with CAP_SYS_PTRACE: root in a container
does not have it, and runs PostgreSQL as somebody else. Then the owner and the command line have to tell, and
where they do not, nobody knows.
"""

import os
from pathlib import Path

PROC = Path("/proc")
_PROGRAM = "postgres"
_TITLE = b"postgres: "
"""Begins what the processes of a postmaster call themselves; it does not call itself so."""


def lives(pid: int) -> bool:
    """Whether a process works; one that has ended and is not collected yet does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is someone else's
    return _state(pid) not in ("Z", "X")


def exists(pid: int) -> bool:
    """Also a zombie does."""
    return (PROC / str(pid)).exists()


def works_on(pid: int, folder: Path) -> bool | None:
    """Whether this is a live process of a PostgreSQL on this folder; None: that cannot be told."""
    try:
        if not _is_postgres(pid):
            return False
        real = folder.stat()
        try:
            return os.path.samestat((PROC / str(pid) / "cwd").stat(), real)
        except PermissionError:
            pass
        if _owner(pid) != real.st_uid:
            return False  # PostgreSQL works on no folder that is not its user's
        named = _folder_named(pid)
        if named is None and _is_postgres(parent := _parent(pid)):
            named = _folder_named(parent)
    except OSError:
        return False  # it has just ended
    return None if named is None else named.resolve() == folder.resolve()


def processes_on(folder: Path) -> dict[int, bool]:
    """The processes that work on the folder, or may do so: True where that is certain."""
    numbers = [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()] if PROC.exists() else []
    found = {pid: works_on(pid, folder) for pid in numbers}
    return {pid: bool(certain) for pid, certain in found.items() if certain is not False}


def is_orphan(pid: int) -> bool:
    """Whether it is what a postmaster that has ended left behind."""
    try:
        return _command(pid).startswith(_TITLE) and not _is_postgres(_parent(pid))
    except OSError:
        return False


def started_at(pid: int) -> float | None:
    """When a process began, in seconds since 1970; None where that cannot be told."""
    try:
        ticks = int(_stat(pid)[19])
        (booted,) = (
            int(line.split()[1])
            for line in (PROC / "stat").read_text().splitlines()
            if line.startswith("btime ")
        )
    except (OSError, IndexError, ValueError):
        return None
    return booted + ticks / os.sysconf("SC_CLK_TCK")


def _is_postgres(pid: int) -> bool:
    try:
        name = (PROC / str(pid) / "comm").read_text().strip()
    except OSError:
        return False
    return name == _PROGRAM and _state(pid) not in ("Z", "X")


def _owner(pid: int) -> int:
    """The user that it acts as."""
    for line in (PROC / str(pid) / "status").read_text().splitlines():
        if line.startswith("Uid:"):
            return int(line.split()[2])
    raise ProcessLookupError(pid)


def _command(pid: int) -> bytes:
    return (PROC / str(pid) / "cmdline").read_bytes()


def _folder_named(pid: int) -> Path | None:
    """The data folder on the command line, where there is a whole one."""
    arguments = _command(pid).split(b"\0")
    for option, following in zip(arguments, [*arguments[1:], b""], strict=True):
        if option.startswith(b"-D"):
            path = Path(os.fsdecode(option[2:] or following))
            return path if path.is_absolute() else None
    return None


def _parent(pid: int) -> int:
    return int(_stat(pid)[1])


def _state(pid: int) -> str:
    """One letter; empty where that is not known."""
    try:
        return _stat(pid)[0]
    except (OSError, IndexError):
        return ""


def _stat(pid: int) -> list[str]:
    """What proc(5) lists of `stat`, from its third field on: state, parent, ..."""
    return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
