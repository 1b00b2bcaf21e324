"""The keeper of the embedded PostgreSQL, told to stop in the middle of its work."""

import os
import shutil
import signal
import threading
from pathlib import Path

import pytest
from buildgrid_scheduler.server.postgres_keeper import PostgresKeeper
from buildgrid_scheduler.store import folder_lock
from buildgrid_scheduler.store.embedded import EmbeddedPostgres
from buildgrid_scheduler.store.postmaster import find_postmaster

from tests.farm.database import new_folder
from tests.farm.waiting import eventually_sync

WITHIN = 60.0


def test_it_stops_soon_where_a_restart_waits_for_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_lock, "RELEASED_WITHIN", 10 * WITHIN)
    above = new_folder()
    folder = above / "data"
    embedded = EmbeddedPostgres(folder)
    embedded.start()
    keeper = PostgresKeeper(embedded)
    try:
        postmaster = find_postmaster(folder)
        assert postmaster is not None
        os.kill(postmaster.pid, signal.SIGKILL)
        with folder_lock.folder_lock(folder, threading.Event()):  # as another container that was faster
            keeper.start()
            eventually_sync(lambda: keeper.problem is not None, WITHIN, lambda: "it has noticed nothing")
            eventually_sync(lambda: waits_for(folder), WITHIN, lambda: "it does not try")
            stop = threading.Thread(target=keeper.stop, daemon=True)
            stop.start()
            stop.join(WITHIN)
            assert not stop.is_alive()
        assert find_postmaster(folder) is None, "and nothing was started"
    finally:
        embedded.stop()
        shutil.rmtree(above)


def waits_for(folder: Path) -> bool:
    """Whether this process has the folder's lock open twice: for the test, and for the keeper."""
    path = folder_lock.lock_file(folder)
    opened = [entry for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()]
    return sum(os.path.realpath(entry) == str(path) for entry in opened) == 2
