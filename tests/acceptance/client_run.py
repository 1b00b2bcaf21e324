"""A client in the middle of its build, and what it said in the end. For clients that are plain programs."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

END_SECONDS = 90.0
"""No build of the tests takes a third of it."""


@dataclass(frozen=True)
class ClientResult:
    """How a build ended; `output` is what its user saw, standard error included."""

    exit_code: int
    output: str


class ClientRun:
    """A build that goes on."""

    def __init__(self, arguments: Sequence[str | Path], folder: Path, environment: Mapping[str, str]) -> None:
        """`environment` is in addition to this process's own, without what is meant for its own Python."""
        own = {
            key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))
        }
        self._name = Path(arguments[0]).name
        self._process = subprocess.Popen(
            arguments,
            cwd=folder,
            env={**own, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def result(self) -> ClientResult:
        """Wait for the end."""
        try:
            output, _ = self._process.communicate(timeout=END_SECONDS)
        except subprocess.TimeoutExpired as error:
            so_far = error.output or b""
            self.abandon()
            raise AssertionError(f"{self._name} does not end:\n{so_far.decode(errors='replace')}") from error
        return ClientResult(self._process.returncode, output)

    def abandon(self) -> None:
        """For a test that failed: no process is left."""
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()
