"""One data folder, one PostgreSQL: whoever else has the folder, and whatever a dead one left in it."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from buildgrid_scheduler.core.errors import SchedulerError
from buildgrid_scheduler.store.embedded import EmbeddedPostgres
from buildgrid_scheduler.store.folder_lock import FolderInUse, folder_lock, lock_file
from buildgrid_scheduler.store.postgres_processes import started_at
from buildgrid_scheduler.store.postmaster import find_postmaster, make_way

from tests.farm.database import new_folder
from tests.farm.waiting import eventually_sync

WITHIN = 60.0
ROOT = Path(__file__).parents[3]
SERVE = [sys.executable, "-W", "ignore", "-m", "tests.farm.embedded_postgres"]
CONTAINER = ["unshare", "--pid", "--ipc", "--fork", "--kill-child", "--mount-proc"]
"""what hides the processes and the shared memory of one from the other"""
# Root in a container is root without this capability: it sees of other users' processes less than of its own.
LIKE_ROOT_IN_A_CONTAINER = ["setpriv", "--bounding-set=-sys_ptrace"]
# Whose processes these are decides: no other test that runs meanwhile has any of them.
NOBODY = 60_000 + os.getpid() % 2_000
SOMEBODY = NOBODY + 2_000


def works(command: list[str]) -> bool:
    """Whether this user may do that on this machine."""
    try:
        return subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


in_containers = pytest.mark.skipif(not works(CONTAINER), reason="this user may not make namespaces")
as_root = pytest.mark.skipif(
    os.geteuid() != 0 or not works(LIKE_ROOT_IN_A_CONTAINER), reason="only root can act as other users"
)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A data folder that does not exist yet."""
    above = new_folder()
    above.chmod(0o755)
    yield above / "data"
    shutil.rmtree(above)


class Serving:
    """A process that has a PostgreSQL on the folder until it is stopped."""

    def __init__(self, folder: Path, inside: list[str]) -> None:
        self._process = subprocess.Popen(
            [*inside, *SERVE, str(folder)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        """empty: it did not start, and `stop` says why"""

    def stop(self) -> str:
        """Returns what it said."""
        return self._process.communicate()[1]

    def kill(self) -> None:
        """In a container all others of it go down with it."""
        self._process.kill()
        self._process.communicate()


Serve = Callable[..., Serving]


@pytest.fixture
def serve(folder: Path) -> Iterator[Serve]:
    """Starts a PostgreSQL, or joins it."""
    with ExitStack() as stack:

        def start(inside: list[str] | None = None) -> Serving:
            made = Serving(folder, inside or [])
            stack.callback(made.stop)
            return made

        yield start


Pretend = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def pretend(folder: Path) -> Iterator[Pretend]:
    """Runs what looks like a process of PostgreSQL."""
    program = folder.with_name("postgres")
    program.symlink_to("/bin/sh")
    folder.mkdir()
    with ExitStack() as stack:

        def run(*arguments: str, user: int | None = None, cwd: Path = Path("/")) -> subprocess.Popen[bytes]:
            command = ["read line", *arguments[1:]]
            process = subprocess.Popen(
                [arguments[0], "-c", *command], executable=program, stdin=subprocess.PIPE, cwd=cwd, user=user
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield run


def note(folder: Path, pid: int, started: float) -> None:
    """Let the folder name a process as its postmaster."""
    lines = [pid, folder, round(started), 5432, folder, "", "1 2", "ready"]
    (folder / "postmaster.pid").write_text("\n".join(map(str, lines)) + "\n")


def seen_like_root_in_a_container(folder: Path) -> str:
    """What `find_postmaster` finds, and what is in the way of starting another."""
    look = (
        "import sys, threading, pathlib\n"
        "from buildgrid_scheduler.core.errors import SchedulerError\n"
        "from buildgrid_scheduler.store.postmaster import find_postmaster, make_way\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "found = find_postmaster(folder)\n"
        "print('nobody' if found is None else found.pid)\n"
        "try:\n"
        "    with make_way(folder, threading.Event()):\n"
        "        print('nothing is in the way')\n"
        "except SchedulerError as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    command = [*LIKE_ROOT_IN_A_CONTAINER, sys.executable, "-c", look, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def held(folder: Path) -> bool:
    """Whether somebody has the lock of the folder."""
    with lock_file(folder).open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


@in_containers
def test_two_containers_with_one_folder_start_one_postgres(folder: Path, serve: Serve) -> None:
    one = serve(CONTAINER)
    assert one.url
    written = (folder / "postmaster.pid").read_text()
    two = serve(CONTAINER)
    refused = two.stop()
    assert not two.url, refused
    assert (
        f"a PostgreSQL runs on {folder} that this process does not see, started on {os.uname().nodename}"
        in refused
    )
    assert "Stop it there, or give this server another data folder" in refused
    assert (folder / "postmaster.pid").read_text() == written
    one.kill()
    assert serve(CONTAINER).url


@in_containers
def test_a_container_s_postgres_is_not_ended_by_one_who_sees_it_from_outside(
    folder: Path, serve: Serve
) -> None:
    one = serve(CONTAINER)
    assert one.url
    two = serve()
    refused = two.stop()
    assert not two.url, refused
    assert (
        f"is of a PostgreSQL that runs on {folder}, though the postmaster.pid there does not name it"
        in refused
    )
    assert held(folder)


def test_while_somebody_holds_the_folder_nothing_in_it_is_touched(folder: Path) -> None:
    folder.mkdir()
    note(folder, os.getpid(), 0)  # a process that lives, and is no PostgreSQL: what a dead one left
    with folder_lock(folder, threading.Event()):
        with pytest.raises(FolderInUse, match=f"a PostgreSQL runs on {folder} that"):
            EmbeddedPostgres(folder).start()
        assert (folder / "postmaster.pid").exists()
        assert not (folder / "PG_VERSION").exists()
    with make_way(folder, threading.Event()):
        assert not (folder / "postmaster.pid").exists()


def test_the_lock_outlives_the_server_and_ends_with_its_postgres(folder: Path, serve: Serve) -> None:
    one = serve()
    postmaster = find_postmaster(folder)
    assert postmaster is not None
    assert held(folder)
    one.kill()
    assert held(folder)
    os.kill(postmaster.pid, signal.SIGKILL)
    eventually_sync(lambda: not held(folder), WITHIN, lambda: "the lock is not released")
    two = serve()
    assert two.url
    three = serve()
    assert three.url, "a process on the same machine joins it"
    assert held(folder)
    two.stop()
    assert held(folder)
    three.stop()
    eventually_sync(lambda: not held(folder), WITHIN, lambda: "the lock is not released")


def test_a_lock_that_cannot_be_had_is_named(folder: Path) -> None:
    folder.mkdir()
    lock_file(folder).mkdir()
    with pytest.raises(
        SchedulerError, match=rf"{lock_file(folder)}.* cannot be opened .*use another data folder"
    ):
        EmbeddedPostgres(folder).start()


def test_a_postgres_that_lost_its_lock_file_is_told_of_and_lives_on(folder: Path, serve: Serve) -> None:
    serve()
    found = find_postmaster(folder)
    assert found is not None
    lock = folder / "postmaster.pid"
    lock.rename(lock.with_suffix(".away"))
    refused = f"runs on {folder}, though the postmaster.pid there does not name it"
    with pytest.raises(FolderInUse, match=refused), make_way(folder, threading.Event()):
        pytest.fail("a way was made")
    lock.with_suffix(".away").rename(lock)
    assert find_postmaster(folder) == found


@as_root
def test_another_user_s_postgres_is_seen_by_what_its_command_line_names(
    folder: Path, pretend: Pretend
) -> None:
    shutil.chown(folder, NOBODY)
    process = pretend("postgres", "-D", str(folder), user=NOBODY, cwd=folder)
    nobody, in_the_way = seen_like_root_in_a_container(folder).splitlines()
    assert nobody == "nobody"
    assert in_the_way.startswith(
        f"FolderInUse process {process.pid} is of a PostgreSQL that runs on {folder}"
    )
    note(folder, process.pid, time.time())
    assert seen_like_root_in_a_container(folder).splitlines()[0] == str(process.pid)


@in_containers
@as_root
def test_the_first_process_of_a_container_starts_its_killed_postgres_again(folder: Path) -> None:
    live = (
        "import os, pathlib, signal, sys, threading, time\n"
        "from buildgrid_scheduler.core.errors import SchedulerError\n"
        "from buildgrid_scheduler.store.embedded import EmbeddedPostgres\n"
        "from buildgrid_scheduler.store.postmaster import find_postmaster\n"
        "folder, end = pathlib.Path(sys.argv[1]), time.monotonic() + float(sys.argv[2])\n"
        "embedded = EmbeddedPostgres(folder)\n"
        "embedded.start()\n"
        "first = find_postmaster(folder)\n"
        "os.kill(first.pid, signal.SIGKILL)\n"
        "while embedded.running:\n"
        "    time.sleep(0.01)\n"
        "while time.monotonic() < end:\n"
        "    try:\n"
        "        embedded.restart(threading.Event())\n"
        "        break\n"
        "    except SchedulerError as error:\n"
        "        print(error, file=sys.stderr)\n"
        "second = find_postmaster(folder)\n"
        "print(os.getpid(), second.ready, second.pid != first.pid)\n"
        "embedded.stop()\n"
        "print(find_postmaster(folder))\n"
    )
    command = [*CONTAINER, *LIKE_ROOT_IN_A_CONTAINER, sys.executable, "-W", "ignore", "-c", live]
    done = subprocess.run(
        [*command, str(folder), str(WITHIN)], capture_output=True, text=True, check=False, timeout=3 * WITHIN
    )
    assert done.stdout.split() == ["1", "True", "True", "None"], done.stderr


@as_root
def test_a_process_of_which_nobody_can_tell_is_in_the_way(folder: Path, pretend: Pretend) -> None:
    shutil.chown(folder, NOBODY)
    left = pretend("postgres: checkpointer ", user=NOBODY, cwd=folder)
    in_the_way = seen_like_root_in_a_container(folder).splitlines()[1]
    assert in_the_way.startswith(
        f"FailedPrecondition process {left.pid} is of a PostgreSQL, and whether it works"
    )
    assert "cannot be told without CAP_SYS_PTRACE: end it, or use another data folder" in in_the_way
    assert left.poll() is None, "it may be somebody else's, and lives"


@as_root
def test_a_number_that_another_postgres_has_by_now_is_not_ours(folder: Path, pretend: Pretend) -> None:
    shutil.chown(folder, NOBODY)
    elsewhere = folder.with_name("elsewhere")
    for process in (
        pretend("postgres", "-D", str(folder), user=SOMEBODY),
        pretend("postgres", "-D", str(elsewhere), user=NOBODY),
    ):
        note(folder, process.pid, time.time())
        assert seen_like_root_in_a_container(folder).splitlines() == ["nobody", "nothing is in the way"]
        assert not (folder / "postmaster.pid").exists()


@as_root
def test_where_nothing_else_tells_the_start_must_be_the_noted_one(folder: Path, pretend: Pretend) -> None:
    shutil.chown(folder, NOBODY)
    process = pretend("postgres", user=NOBODY, cwd=folder)
    began = started_at(process.pid)
    assert began is not None
    assert abs(began - time.time()) < WITHIN
    for noted, seen in ((began, str(process.pid)), (began - 3600, "nobody")):
        note(folder, process.pid, noted)
        assert seen_like_root_in_a_container(folder).splitlines()[0] == seen


def test_a_number_that_any_other_process_has_by_now_is_not_ours(folder: Path) -> None:
    folder.mkdir()
    note(folder, os.getpid(), time.time())
    assert find_postmaster(folder) is None
