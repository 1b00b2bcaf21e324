"""Holds actions of the package //gated in the middle of their run, for as long as a test wants.

Each step writes its name into a named pipe when it starts, and goes on when a file appears. So a test knows
for certain that an action runs while something is killed, and how often each action was started.
"""

import os
import select
import time
from pathlib import Path

STEPS = frozenset(f"step_{number}" for number in range(6))


class Gate:
    """A gate in a folder that bots show to their actions. Shut until `open`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        # Actions run as another user in their sandbox.
        folder.chmod(0o755)
        self.folder = folder
        pipe = folder / "arrivals"
        os.mkfifo(pipe)
        pipe.chmod(0o666)
        # Open for writing too: no action ever waits for a reader, and reading never meets an end.
        self._pipe = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
        self._rest = b""
        self.arrived: list[str] = []
        """Names of the steps that were started, in order, as far as was waited for."""

    @property
    def flags(self) -> list[str]:
        """For Bazel."""
        return [f"--define=GATE={self.folder}"]

    def wait_for(self, count: int, timeout: float = 60.0) -> None:
        """Until so many steps were started since the beginning."""
        give_up = time.monotonic() + timeout
        while len(self.arrived) < count:
            left = give_up - time.monotonic()
            readable, _, _ = select.select([self._pipe], [], [], max(0.0, left))
            assert readable, f"only {self.arrived} started in {timeout:g} s, expected {count}"
            self._read()

    def all_arrivals(self) -> list[str]:
        """Everything that was started up to now, sorted."""
        while select.select([self._pipe], [], [], 0)[0]:
            self._read()
        return sorted(self.arrived)

    def open(self) -> None:
        """Let all pass, for good."""
        (self.folder / "open").touch()

    def close(self) -> None:
        """Give the pipe back; steps that still run are let go."""
        self.open()
        os.close(self._pipe)

    def _read(self) -> None:
        *lines, self._rest = (self._rest + os.read(self._pipe, 65536)).split(b"\n")
        self.arrived += [line.decode() for line in lines]
