"""One command as a process of its own session: start, wait, stop with everything that it started.

Standard output and error go to files, so that nothing has to read while the command runs, and a grandchild
that keeps them open cannot hold the action up.
"""

import asyncio
import ctypes
import errno
import json
import logging
import os
import resource
import select
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from buildgrid_bot.errors import SandboxFailed
from buildgrid_bot.sandbox import Launch
from buildgrid_bot.threads import ended, in_thread

_log = logging.getLogger(__name__)

# As shells say it.
NOT_FOUND = 127
NOT_EXECUTABLE = 126
# What bubblewrap says when all is set up and only the command cannot be started.
_NO_PROGRAM = "bwrap: execvp "
_PR_SET_CHILD_SUBREAPER = 36
# Between SIGTERM and SIGKILL of a command whose result nobody wants any more, in seconds.
CANCELLED_GRACE = 0.5
# SIGKILL takes effect at once, except on a process that waits for a broken disk.
_DEATH_SECONDS = 5.0

# Processes that somebody waits for. The lock also keeps one from being reaped between its start and its
# entry.
_children: set[int] = set()
_children_lock = threading.Lock()


@dataclass(frozen=True)
class Exit:
    """How a command ended: the exit code as a shell tells it (128 + signal), and what it used."""

    code: int
    usage: resource.struct_rusage | None
    timed_out: bool = False


def adopt_orphans() -> None:
    """Makes processes whose parent ended children of this one (a subreaper, prctl(2)).

    bubblewrap's outer process ends before the one that has waited for the command; only who adopts that one
    learns from it what the command used.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Process:
    """A started command. Made by `start`; `wait` must follow."""

    def __init__(self, popen: subprocess.Popen[bytes], status_fd: int | None, stderr: Path) -> None:
        self.pid = popen.pid
        self._popen = popen
        self._status_fd = status_fd
        self._status = b""
        self._stderr = stderr

    async def wait(self, executor: Executor, timeout: float | None, kill_grace: float) -> Exit:
        """Returns once the command ended; whatever else it started is killed then.

        After `timeout` seconds it gets SIGTERM, after `kill_grace` more seconds SIGKILL. The same when the
        caller is cancelled, with less grace: nobody waits for what it still has to say. The executor needs a
        thread for each running command.
        """
        # WNOWAIT leaves a zombie, so that its process id is not given to another while it may be signalled.
        dead = executor.submit(os.waitid, os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        ended = asyncio.wrap_future(dead)
        timed_out = cancelled = False
        try:
            await asyncio.wait([ended], timeout=timeout)
            timed_out = not ended.done()
        except asyncio.CancelledError:
            cancelled = True
        if not ended.done():
            try:
                await in_thread(self._signal_all, signal.SIGTERM)
                grace = min(kill_grace, CANCELLED_GRACE) if cancelled else kill_grace
                await asyncio.wait([ended], timeout=grace)
            except asyncio.CancelledError:  # in the grace: there is no more grace
                cancelled = True
        exit_ = await in_thread(self._finish, dead)
        if cancelled:
            raise asyncio.CancelledError
        return replace(exit_, timed_out=timed_out)

    def _finish(self, dead: Future[Any]) -> Exit:
        """Kills what is left, and collects the exit code and the usage once it is gone."""
        if not dead.done():
            self._signal_all(signal.SIGKILL)
        dead.result()
        _, wait_status, usage = os.wait4(self.pid, 0)
        with _children_lock:
            _children.discard(self.pid)
        code = _shell_code(os.waitstatus_to_exitcode(wait_status))
        self._popen.returncode = code  # Popen would warn that nobody waited
        if self._status_fd is None:
            _end_group(self.pid)
            return Exit(code, usage)
        init, reported = self._sandbox_status()
        os.close(self._status_fd)
        self._status_fd = None
        if init is not None:
            # The first process of the sandbox's process namespace: once it is gone, so is everything in it.
            with suppress(ChildProcessError, ProcessLookupError):
                os.kill(init, signal.SIGKILL)
                _, _, usage = os.wait4(init, 0)
        if reported is None and wait_status != signal.SIGKILL:
            message = self._stderr.read_bytes()[-2000:].decode(errors="replace").strip()
            if message.startswith(_NO_PROGRAM):
                # The sandbox stands, and there is no such program in it: that is the action's own failure.
                missing = message.endswith(os.strerror(errno.ENOENT))
                return Exit(NOT_FOUND if missing else NOT_EXECUTABLE, usage)
            raise SandboxFailed(f"the sandbox could not be set up: {message or f'bwrap exited with {code}'}")
        return Exit(code if reported is None else reported, usage)

    def _signal_all(self, number: signal.Signals) -> None:
        pids = [self.pid]
        if self._status_fd is None:
            # Once their parents are gone, those that left the group cannot be found any more.
            pids += descendants(self.pid)
        elif number == signal.SIGTERM:
            # The outer process would die of it at once and take the sandbox along; the command is to have its
            # chance to end in order.
            init, _ = self._sandbox_status()
            if init is not None:
                pids = descendants(init)
        for pid in pids:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        if self._status_fd is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def _sandbox_status(self) -> tuple[int | None, int | None]:
        """The process id of the sandbox's first process, and the command's exit code; None: not told yet."""
        assert self._status_fd is not None  # noqa: S101 - for the type checker
        with suppress(BlockingIOError):
            while data := os.read(self._status_fd, 4096):
                self._status += data
        init = reported = None
        for line in self._status.splitlines():
            with suppress(ValueError):
                message = json.loads(line)
                init = message.get("child-pid", init)
                reported = message.get("exit-code", reported)
        return init, reported


async def started(
    executor: Executor, launch: Launch, bwrap: str | None, stdout: Path, stderr: Path
) -> Process | int:
    """As `start`, off the event loop. A command that is started while the caller is cancelled is stopped."""
    starting = asyncio.ensure_future(asyncio.to_thread(start, launch, bwrap, stdout, stderr))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        await ended(starting)
        if starting.exception() is None and isinstance(command := starting.result(), Process):
            with suppress(SandboxFailed):  # whatever became of it, nobody wants it
                await command.wait(executor, 0, CANCELLED_GRACE)
        raise


def start(launch: Launch, bwrap: str | None, stdout: Path, stderr: Path) -> Process | int:
    """Starts the command; blocking. An exit code where there is no such program, the reason in `stderr`."""
    with ExitStack() as stack:
        out = stack.enter_context(stdout.open("wb"))
        err = stack.enter_context(stderr.open("wb"))
        arguments, environment = launch.arguments, launch.environment
        inherited: list[int] = []
        status_fd = None
        if bwrap is not None:
            options = stack.enter_context(tempfile.TemporaryFile())
            options.write(launch.sandbox_options or b"")
            options.seek(0)
            status_fd, status_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            stack.callback(os.close, status_end)
            inherited = [options.fileno(), status_end]
            own = ["--args", str(inherited[0]), "--json-status-fd", str(status_end)]
            arguments = [bwrap, *own, "--", *arguments]
        try:
            with _children_lock:
                popen = subprocess.Popen(
                    arguments,
                    cwd=launch.directory,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    start_new_session=True,
                    pass_fds=inherited,
                )
                _children.add(popen.pid)
        except OSError as error:
            if status_fd is not None:
                os.close(status_fd)
                raise
            # Users know this from their shell, and see it where they look first.
            err.write(f"{arguments[0]}: {error.strerror}\n".encode())
            return NOT_FOUND if isinstance(error, FileNotFoundError | NotADirectoryError) else NOT_EXECUTABLE
    return Process(popen, status_fd, stderr)


class _Row(NamedTuple):
    pid: int
    state: str
    parent: int
    group: int
    session: int


def _processes() -> Iterator[_Row]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                # The name, in parentheses, may hold anything; see proc(5), stat, for what follows it.
                fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
                yield _Row(int(entry.name), fields[0].decode(), *map(int, fields[1:4]))


def descendants(pid: int) -> list[int]:
    """All processes below this one, nearest first."""
    children: dict[int, list[int]] = {}
    for row in _processes():
        children.setdefault(row.parent, []).append(row.pid)
    found: list[int] = []
    level = [pid]
    while level:
        level = [child for parent in level for child in children.get(parent, ())]
        found += level
    return found


def _end_group(group: int) -> None:
    """Kills what a command that has ended left in its group and session, and waits until it is dead."""
    for _ in range(100):  # something that forks faster than this is not worth the bot's life
        try:
            os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return
        left = [
            row.pid for row in _processes() if group in (row.group, row.session) and row.state not in "ZX"
        ]
        if not left:
            return
        for pid in left:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
                # Readable once the process is dead, whoever its parent is now.
                handle = os.pidfd_open(pid)
                try:
                    select.select([handle], [], [], _DEATH_SECONDS)
                finally:
                    os.close(handle)


def reap_orphans() -> None:
    """Forgets ended processes that nobody waits for, as the first process of a container has to."""
    with _children_lock, suppress(OSError):
        for task in Path("/proc/self/task").iterdir():
            for pid in map(int, (task / "children").read_text().split()):
                if pid not in _children:
                    with suppress(ChildProcessError):
                        os.waitpid(pid, os.WNOHANG)


def _shell_code(code: int) -> int:
    return 128 - code if code < 0 else code
