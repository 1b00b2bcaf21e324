"""One PostgreSQL on a data folder, also where its users cannot see each other's processes.

PostgreSQL's own guards are a process id and a shared memory segment. In containers with process and IPC
namespaces of their own both mean nothing to the neighbour that mounts the same folder, and two postmasters
would write to one database. A lock on a file (flock) holds between them.

The file is beside the folder, `NAME.lock`: inside, initdb would find a folder that is not empty. It is a
file, not the folder itself, because NFS hands only locks on files to its server, and so to other machines.
It is never deleted: a lock on a deleted file guards nothing.

The lock belongs to the open file, not to a process. A postmaster that inherits it, and the processes that
inherit it in turn, hold it until the last of them has ended, whatever becomes of the server that started
them; and then it is free, whatever became of them.
"""

import fcntl
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from buildgrid_scheduler.core.errors import FailedPrecondition, Unavailable
from buildgrid_scheduler.store.waiting import within

RELEASED_WITHIN = 5.0
"""Seconds that processes which are about to end are given to end."""


class FolderInUse(Unavailable):
    """Somebody else's PostgreSQL runs on the folder."""


def lock_file(folder: Path) -> Path:
    """Where the lock of a data folder is."""
    real = folder.resolve()
    return real.with_name(f"{real.name}.lock")


@contextmanager
def folder_lock(folder: Path, stopping: threading.Event) -> Iterator[int]:
    """Hold the lock; gives the file descriptor, for the postmaster to inherit.

    Raises FolderInUse when it is not released, FailedPrecondition when there can be none, and Unavailable
    when `stopping` is set meanwhile.
    """
    path = lock_file(folder)
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FailedPrecondition(
            f"{path}, which keeps two PostgreSQL off {folder}, cannot be opened ({error.strerror}): "
            "let this user write there, or use another data folder"
        ) from error
    try:
        if not within(RELEASED_WITHIN, lambda: _taken(lock, path), stopping):
            raise FolderInUse(
                f"a PostgreSQL runs on {folder} that this process does not see, started on {_holder(lock)}: "
                f"it holds {path}. Stop it there, or give this server another data folder; for more than "
                "one machine or container, give database.url"
            )
        os.ftruncate(lock, 0)
        os.pwrite(lock, socket.gethostname().encode(), 0)
        yield lock
    finally:
        os.close(lock)


def _taken(lock: int, path: Path) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise FailedPrecondition(
            f"{path} cannot be locked ({error.strerror}): use a data folder on a file system with flock"
        ) from error
    return True


def _holder(lock: int) -> str:
    """The host (in a container, its name) that wrote itself down; one that just starts has not yet."""
    return os.pread(lock, 256, 0).decode(errors="replace") or "an unknown host"
