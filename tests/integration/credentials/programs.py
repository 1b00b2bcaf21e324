"""Our own bot and `execute`, as processes that show credentials."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.farm.waiting import eventually_sync

WITHIN = 60.0
"""Seconds in which anything must have happened, on a machine that is busy."""
# A bot that is refused gives up after a moment, and not after a minute.
_IMPATIENT = """
import functools, sys
from buildgrid_bot import cli
cli.BotSession = functools.partial(cli.BotSession, refused_for=0.3)
sys.exit(cli.main(sys.argv[1:]))
"""


class BotProcess:
    """`buildgrid-bot run` with these flags and variables, and its log."""

    def __init__(
        self,
        folder: Path,
        *flags: str | Path,
        impatient: bool = False,
        environment: dict[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "bot.log"
        program = ["-c", _IMPATIENT] if impatient else ["-m", "buildgrid_bot"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, *program, "run", "--sandbox", "none"),
                    *("--cache-dir", str(folder / "cache"), *map(str, flags)),
                ],
                stderr=log,
                env={**os.environ, **(environment or {})},
            )

    @property
    def log(self) -> str:
        """All that it has logged."""
        return self._log.read_text(errors="replace")

    def until(self, text: str, times: int = 1) -> None:
        """Return once it has logged this so often."""
        eventually_sync(lambda: self.log.count(text) >= times, WITHIN, lambda: f"not {text!r} in\n{self.log}")

    def exit_code(self) -> int:
        """Of a bot that ends by itself."""
        return self._process.wait(WITHIN)

    def close(self) -> None:
        """However it is."""
        self._process.kill()
        self._process.wait()


@dataclass(frozen=True)
class Ended:
    """How a program ended."""

    code: int
    out: str
    err: str


def execute(
    folder: Path,
    *flags: str | Path,
    command: Sequence[str] = ("/bin/echo", "done"),
    environment: dict[str, str] | None = None,
) -> Ended:
    """Run `buildgrid-scheduler execute` in a folder. Without a bot it gives up."""
    ended = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("buildgrid-scheduler")), "execute"),
            *("--wait", str(WITHIN), "--no-cache", *map(str, flags), "--", *command),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=2 * WITHIN,
        env={**os.environ, **(environment or {})},
        check=False,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)
