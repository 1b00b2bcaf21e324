"""A build farm on this machine: one server and some bots as child processes, with their logs in files."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import grpc

_SERVER = "server"
_READY_TIMEOUT_S = 90.0
_POLL_S = 0.1
_STOP_TIMEOUT_S = 10.0
_LOG_TAIL_LINES = 15
# HealthCheckResponse(status=SERVING), as it is on the wire.
_SERVING = b"\x08\x01"


class FarmFailed(Exception):
    """The farm did not start, or a process of it ended. The text is for people, with the end of the log."""


class Farm:
    """Starts in `start`, runs until `stop`. Everything it writes is below `data`."""

    def __init__(self, data: Path, *, bots: int) -> None:
        self._data = data
        self._bots = bots
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.logs = data / "logs"
        self._port = free_port()
        self._metrics_port = free_port()

    @property
    def endpoint(self) -> str:
        return f"grpc://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start everything; returns when the server serves. Raises FarmFailed."""
        self.logs.mkdir(parents=True, exist_ok=True)
        configuration = self._data / "server.yaml"
        # The default port for metrics may be taken by a server that already runs here.
        configuration.write_text(f"monitoring: {{listen: '127.0.0.1:{self._metrics_port}'}}\n")
        self._spawn(
            _SERVER,
            [_program("buildgrid-scheduler"), "serve"],
            "--config",
            str(configuration),
            "--data",
            str(self._data / "server"),
            "--listen",
            f"127.0.0.1:{self._port}",
        )
        self._wait_until_serving()
        for number in range(1, self._bots + 1):
            self._spawn(
                f"bot-{number}",
                [_program("buildgrid-bot"), "run"],
                "--endpoint",
                self.endpoint,
                "--slots",
                "1",
                "--bot-id",
                f"demo-bot-{number}",
                "--cache-dir",
                str(self._data / f"bot-{number}"),
            )

    def check(self) -> None:
        """Raises FarmFailed when a process has ended."""
        for name, process in self._processes.items():
            if (code := process.poll()) is not None:
                raise FarmFailed(
                    f"the {name} ended with exit code {code}; the end of {self.log(name)}:\n"
                    f"{self.log_tail(name)}"
                )

    def save_metrics(self) -> Path:
        """A copy of the server's metrics, because the server will not be there to ask. Raises OSError."""
        copy = self._data / "metrics.txt"
        with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics_port}/metrics", timeout=5) as answer:
            copy.write_bytes(answer.read())
        return copy

    def stop(self) -> None:
        """Stop everything, bots first, so that no lease is left behind. Kills what does not end in time."""
        server = self._processes.pop(_SERVER, None)
        _end(list(self._processes.values()))
        self._processes.clear()
        if server is not None:
            _end([server])
            self._end_orphaned_database()

    def _end_orphaned_database(self) -> None:
        """A server that was killed could not stop its PostgreSQL, which then runs on."""
        pid_file = self._data / "server" / "postgres" / "postmaster.pid"
        with contextlib.suppress(OSError, ValueError, IndexError):
            pid, folder = pid_file.read_text().splitlines()[:2]
            if Path(folder) == pid_file.parent.resolve():
                os.kill(int(pid), signal.SIGINT)  # PostgreSQL's word for a fast shutdown

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def log_tail(self, name: str) -> str:
        """The last lines of a log, indented."""
        try:
            lines = self.log(name).read_text(errors="replace").splitlines()
        except FileNotFoundError:
            lines = []
        return "\n".join(f"    {line}" for line in lines[-_LOG_TAIL_LINES:]) or "    (it is empty)"

    def _spawn(self, name: str, program: Sequence[str], *arguments: str) -> None:
        # The farm brings its own database; one that is meant for something else must not be touched.
        environment = {key: value for key, value in os.environ.items() if key != "DATABASE_URL"}
        with self.log(name).open("wb") as log:
            try:
                self._processes[name] = subprocess.Popen(
                    [*program, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=environment,
                    # Ctrl-C in the terminal reaches us alone; we stop the others in order.
                    start_new_session=True,
                )
            except FileNotFoundError:
                raise FarmFailed(f"{program[0]} is not there; run `make install` first") from None

    def _wait_until_serving(self) -> None:
        give_up = time.monotonic() + _READY_TIMEOUT_S
        with grpc.insecure_channel(f"127.0.0.1:{self._port}") as channel:
            # Empty request, answer in one field: the bytes say as much as the generated classes would.
            check: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
                "/grpc.health.v1.Health/Check"
            )
            while time.monotonic() < give_up:
                self.check()
                # Not listening yet is no error; a server that never will is noticed by its end or the clock.
                with contextlib.suppress(grpc.RpcError):
                    if check(b"", timeout=1.0) == _SERVING:
                        return
                time.sleep(_POLL_S)
        raise FarmFailed(
            f"the server does not serve after {_READY_TIMEOUT_S:.0f} s; the end of {self.log(_SERVER)}:\n"
            f"{self.log_tail(_SERVER)}"
        )


def free_port() -> int:
    """A TCP port of the loopback interface that is free just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _program(name: str) -> str:
    """A command of the environment that this script runs in."""
    return str(Path(sys.executable).parent / name)


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """TERM to each; then KILL to their groups, because children of theirs (a command) may be left."""
    for process in processes:
        process.terminate()
    give_up = time.monotonic() + _STOP_TIMEOUT_S
    for process in processes:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, give_up - time.monotonic()))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
