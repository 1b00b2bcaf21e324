"""Bazel in a pod, which builds on the Scheduler of a release, and a bot whose actions can be held."""

import io
import os
import re
import select
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from tests.acceptance.bazel import REPOSITORIES, SMALL_JVM
from tests.cluster.conftest import ROOT
from tests.cluster.images.built import manifest
from tests.cluster.images.installation import Installation

WORKSPACE = ROOT / "tests/acceptance/workspace"
PACKAGES = Path(__file__).parent / "packages"
"""more of it, for this folder's tests only"""
TOOLCHAIN_POOL = "toolchain"
"""the property Pool of the bot made by hand"""
GATED = "//gated:gated"
STEPS = tuple(f"step_{number}" for number in range(6))
BUILD_SECONDS = 240.0
_HOME = "/home/bazel"
_SUMMARY = re.compile(r"^INFO: \d+ process(?:es)?: (.*?)\.?$", re.MULTILINE)


class Build:
    """A run of Bazel that goes on."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._output = ""

    def runs(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def succeeded(self) -> dict[str, int]:
        """Wait for the end, which must be a good one. How many processes ran where, if Bazel tells."""
        try:
            output, _ = self._process.communicate(timeout=BUILD_SECONDS)
        except subprocess.TimeoutExpired as error:
            self.abandon()
            raise AssertionError(f"Bazel does not end: {error.output!r}") from error
        assert self._process.returncode == 0, output
        found = _SUMMARY.findall(output)
        parts = (part.partition(" ") for part in found[-1].split(", ")) if found else ()
        return {kind: int(number) for number, _, kind in parts}

    def abandon(self) -> None:
        """Whatever it does."""
        if self.runs():
            self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


class Bazel:
    """Bazel in the pod `bazel`, in a copy of the workspace of the acceptance tests."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._builds: list[Build] = []

    def set_up(self) -> None:
        """Make the pod, and bring the workspace there."""
        rules = _overrides()
        self._installation.run("apply", "-f", "-", stdin=manifest("bazel.yaml"))
        self._installation.wait_for_pod("bazel")
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as archive:
            archive.add(WORKSPACE, "workspace")
            archive.add(PACKAGES, "workspace")
            for name in REPOSITORIES:
                archive.add(rules / name, f"rules/{name}", filter=_writable)
        copied = subprocess.run(
            [*self._exec("-i"), "tar", "-x", "--no-same-owner", "-C", _HOME],
            input=content.getvalue(),
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert copied.returncode == 0, copied.stderr.decode()

    def start(self, *arguments: str, pool: str = TOOLCHAIN_POOL) -> Build:
        """Start `bazel ARGUMENTS`, everything remote, through the Scheduler's Service.

        `pool`: of the bots that may have its actions; empty: any bot may.
        """
        endpoint = self._installation.scheduler()["status"]["endpoints"]["scheduler"]
        command, *rest = arguments
        # 10 s between two tries at most: what is tested takes longer than Bazel's patience of 5 tries.
        flags = [
            *("--spawn_strategy=remote", "--genrule_strategy=remote", "--noremote_local_fallback"),
            f"--remote_executor={endpoint}",
            *((f"--remote_default_exec_properties=Pool={pool}",) if pool else ()),
            *("--remote_timeout=60", "--remote_retries=30", "--jobs=8", "--color=no", "--curses=no"),
            *("--noshow_progress", "--show_result=0"),
            *(f"--override_repository={name}={_HOME}/rules/{name}" for name in REPOSITORIES),
        ]
        startup = ["--nohome_rc", "--max_idle_secs=600", *(f"--host_jvm_args={each}" for each in SMALL_JVM)]
        words = " ".join(["exec", "bazel", *startup, command, *flags, *rest])
        process = subprocess.Popen(
            [*self._exec(), "sh", "-c", f"cd {_HOME}/workspace && {words}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        build = Build(process)
        self._builds.append(build)
        return build

    def run(self, *arguments: str, pool: str = TOOLCHAIN_POOL) -> dict[str, int]:
        """`bazel ARGUMENTS` to its good end; how many processes ran where."""
        return self.start(*arguments, pool=pool).succeeded()

    def output(self, path: str) -> str:
        """The text of an output, by its path in bazel-bin."""
        return self._installation.in_pod("bazel", "cat", f"{_HOME}/workspace/bazel-bin/{path}")

    def close(self) -> None:
        """No process is left here."""
        for build in self._builds:
            build.abandon()

    def _exec(self, *flags: str) -> list[str]:
        return ["kubectl", "-n", self._installation.namespace, "exec", *flags, "bazel", "--"]


class Gate:
    """Holds the actions of //gated in the pod `toolchain` in the middle of their run.

    Each step writes its name into a named pipe when it starts, and goes on when a file appears: so a test
    knows that actions run while it does harm, and how often each was begun.
    """

    def __init__(self, installation: Installation, name: str) -> None:
        self._installation = installation
        self._folder = f"/gate/{name}"
        pipe = f"{self._folder}/arrivals"
        script = f"mkdir {self._folder} && mkfifo -m 666 {pipe} && exec 3<>{pipe}"
        self._reader = subprocess.Popen(
            [
                *("kubectl", "-n", installation.namespace, "exec", "toolchain", "-c", "bot", "--"),
                *("sh", "-c", f"{script} && echo ready && exec cat <&3"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        self._lines: list[str] = []
        self._rest = b""
        self._wait(1)

    @property
    def flags(self) -> list[str]:
        """For Bazel."""
        return [f"--define=GATE={self._folder}"]

    @property
    def arrived(self) -> list[str]:
        """Names of the steps that were begun, as far as was waited for."""
        return self._lines[1:]

    def wait_for(self, count: int) -> None:
        """Until so many steps were begun."""
        self._wait(count + 1)

    def open(self) -> None:
        """Let all pass, for good."""
        self._installation.in_pod("toolchain", "touch", f"{self._folder}/open")

    def close(self) -> None:
        """Steps that still run are let go."""
        self._reader.kill()
        self._reader.wait()
        assert self._reader.stdout is not None
        self._reader.stdout.close()
        self._installation.kubectl(
            *("-n", self._installation.namespace, "exec", "toolchain", "-c", "bot", "--"),
            *("touch", f"{self._folder}/open"),
        )

    def _wait(self, count: int, timeout: float = 120.0) -> None:
        assert self._reader.stdout is not None
        give_up = time.monotonic() + timeout
        while len(self._lines) < count:
            left = max(0.0, give_up - time.monotonic())
            readable, _, _ = select.select([self._reader.stdout], [], [], left)
            assert readable, f"only {self._lines} in {timeout:g} s, expected {count}"
            read = os.read(self._reader.stdout.fileno(), 65536)
            assert read, f"the reader of the gate ended after {self._lines}"
            *lines, self._rest = (self._rest + read).split(b"\n")
            self._lines += [line.decode() for line in lines]


def all_steps() -> str:
    """What //gated makes."""
    return "".join(f"{step} is done\n" for step in STEPS)


def _overrides() -> Path:
    """The folder with the repositories that Bazel cannot fetch without a network."""
    named = os.environ.get("BAZEL_OVERRIDES")
    missing = [name for name in REPOSITORIES if not named or not (Path(named) / name).is_dir()]
    if missing or not named:
        pytest.skip(f"set BAZEL_OVERRIDES to a folder with {', '.join(missing)}, for Bazel without a network")
    return Path(named)


def _writable(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.mode |= 0o200
    return info
