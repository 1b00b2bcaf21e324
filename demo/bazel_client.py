"""Builds the C project on a farm with Bazel: everything remote, all of Bazel's own state in one folder."""

import contextlib
import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

# External repositories that Bazel 4 fetches for C++ and tests; offline, folders can stand in for them.
_REPOSITORIES = ("rules_cc", "rules_java", "remote_coverage_tools")
OVERRIDES_VARIABLE = "BAZEL_OVERRIDES"
_PROCESSES = re.compile(r"INFO: (\d+) process(?:es)?: (.*?)\.?$", re.MULTILINE)
_TIMEOUT_S = 600.0
_TAIL_LINES = 25


class BazelFailed(Exception):
    """Bazel ended with an error. The text is for people, with the end of what it said."""


@dataclass(frozen=True)
class BazelReport:
    """What Bazel says about one run, for example `60 remote`, and how long it took."""

    seconds: float
    summary: str
    remote: int
    cached: int


def find_bazel() -> str | None:
    """The path of bazel or bazelisk."""
    return shutil.which("bazel") or shutil.which("bazelisk")


def parse_summary(output: str) -> tuple[str, int, int]:
    """Bazel's last process summary, how many processes ran remotely, and how many came from the remote cache.

    ("", 0, 0) when there is none.
    """
    matches = _PROCESSES.findall(output)
    if not matches:
        return "", 0, 0
    _, kinds = matches[-1]
    counts: dict[str, int] = {}
    for part in kinds.split(", "):
        number, _, kind = part.partition(" ")
        if number.isdecimal():
            counts[kind] = int(number)
    return kinds, counts.get("remote", 0), counts.get("remote cache hit", 0)


class BazelClient:
    """Bazel in the project's folder, with its state and its log below `data`."""

    def __init__(self, bazel: str, project: Path, data: Path, endpoint: str) -> None:
        self._project = project
        self.log = data / "logs" / "bazel.log"
        self._startup = [bazel, f"--output_user_root={data.resolve() / 'bazel'}", "--max_idle_secs=60"]
        self._flags = [
            f"--remote_executor={endpoint}",
            "--spawn_strategy=remote",
            "--genrule_strategy=remote",
            # More than there are slots: what waits is the farm's to order.
            "--jobs=16",
            "--symlink_prefix=/",
            "--color=no",
            "--curses=no",
            "--noshow_progress",
            *override_flags(os.environ.get(OVERRIDES_VARIABLE)),
        ]

    def run(self) -> BazelReport:
        """Forget local outputs, then build and test everything. Raises BazelFailed."""
        self._call("clean", "--symlink_prefix=/")
        start = time.monotonic()
        output = self._call("test", *self._flags, "--test_output=errors", "//...")
        return BazelReport(time.monotonic() - start, *parse_summary(output))

    def shutdown(self) -> None:
        """End Bazel's own server process. Never raises: there may be none."""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                [*self._startup, "shutdown"], cwd=self._project, capture_output=True, timeout=30, check=False
            )

    def _call(self, command: str, *flags: str) -> str:
        """What Bazel said, which is kept in the log too."""
        arguments = [*self._startup, command, *flags]
        try:
            ended = subprocess.run(
                arguments,
                cwd=self._project,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise BazelFailed(f"bazel {command} was not done after {_TIMEOUT_S:.0f} s") from None
        with self.log.open("a") as log:
            log.write(f"$ {' '.join(arguments)}\n{ended.stdout}")
        if ended.returncode != 0:
            tail = "\n".join(f"    {line}" for line in ended.stdout.splitlines()[-_TAIL_LINES:])
            raise BazelFailed(
                f"bazel {command} ended with exit code {ended.returncode}; the end of {self.log}:\n{tail}"
                + _fetch_remedy(ended.stdout)
            )
        return ended.stdout


def override_problem(folder: str | None) -> str | None:
    """Why no external repository can be taken from there, and the remedy; None if one can, or none is to."""
    if not folder:
        return None
    names = ", ".join(_REPOSITORIES)
    if not Path(folder).is_dir():
        return f"{OVERRIDES_VARIABLE}={folder} is no folder; name one that holds {names}, or unset it"
    if not override_flags(folder):
        return f"{OVERRIDES_VARIABLE}={folder} holds none of {names}; name a folder that does, or unset it"
    return None


def override_flags(folder: str | None) -> list[str]:
    """Flags that take external repositories from folders below `folder`, those that are there."""
    if not folder:
        return []
    home = Path(folder).resolve()
    return [f"--override_repository={name}={home / name}" for name in _REPOSITORIES if (home / name).is_dir()]


def _fetch_remedy(output: str) -> str:
    if "Error downloading" not in output and "UnknownHost" not in output:
        return ""
    return (
        f"\n  Bazel could not download its own rules. Without internet, set {OVERRIDES_VARIABLE} to a folder "
        f"that holds\n  {', '.join(_REPOSITORIES)}; proxies go into ~/.bazelrc."
    )
