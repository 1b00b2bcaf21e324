"""A real Bazel in the workspace beside this file, everything remote, its state in one folder."""

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORIES = ("rules_cc", "rules_java", "remote_coverage_tools")
"""External repositories that Bazel 4 wants for C++ and tests."""
SMALL_JVM = ("-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
BUILD_SECONDS = 90.0
"""None of the builds takes a quarter of it."""
_SUMMARY = re.compile(r"^INFO: (\d+) process(?:es)?: (.*?)\.?$", re.MULTILINE)


def find_bazel() -> str | None:
    """The path of bazel or bazelisk."""
    return shutil.which("bazel") or shutil.which("bazelisk")


@dataclass(frozen=True)
class Spawn:
    """One action of a build that is a command, as Bazel's execution log has it."""

    label: str
    mnemonic: str
    runner: str
    cache_hit: bool
    exit_code: int


@dataclass(frozen=True)
class BazelResult:
    """How a run of Bazel ended. `spawns` is empty for builds that were interrupted."""

    exit_code: int
    output: str
    spawns: list[Spawn]

    @property
    def executed(self) -> list[Spawn]:
        """The spawns that were run on the farm, not found in its cache."""
        return [spawn for spawn in self.spawns if not spawn.cache_hit]

    @property
    def summary(self) -> dict[str, int]:
        """Bazel's own count of processes by how they were run, for example {"remote": 3}."""
        found = _SUMMARY.findall(self.output)
        parts = (part.partition(" ") for part in found[-1][1].split(", ")) if found else ()
        return {kind: int(number) for number, _, kind in parts}

    def succeeded(self) -> "BazelResult":
        """Itself, having checked that all is well and that nothing was run on this machine."""
        assert self.exit_code == 0, f"exit code {self.exit_code}:\n{self.output}"
        elsewhere = [spawn for spawn in self.spawns if spawn.runner not in ("remote", "remote cache hit")]
        assert not elsewhere, f"not run on the farm: {elsewhere}"
        return self


class BazelRun:
    """A run that goes on."""

    def __init__(self, process: subprocess.Popen[str], execution_log: Path) -> None:
        self._process = process
        self._execution_log = execution_log
        self._output = ""

    def wait_for_line(self, text: str, times: int = 1) -> None:
        """Until Bazel has printed so many more lines that contain the text."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._output += line
            times -= text in line
            if times == 0:
                return
        raise AssertionError(f"Bazel ended without {text!r}:\n{self._output}")

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def result(self) -> BazelResult:
        """Wait for the end."""
        try:
            rest, _ = self._process.communicate(timeout=BUILD_SECONDS)
        except subprocess.TimeoutExpired as error:
            so_far = error.output or b""
            raise AssertionError(f"Bazel does not end:\n{self._output}{so_far.decode()}") from error
        self._output += rest
        return BazelResult(self._process.returncode, self._output, _read_spawns(self._execution_log))

    def abandon(self) -> None:
        """For a test that failed: no process is left."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.communicate()


class Bazel:
    """Runs of one Bazel server in one workspace. `endpoint` of a run is the farm's."""

    def __init__(self, program: str, workspace: Path, state: Path, overrides: Path) -> None:
        self.workspace = workspace
        self._startup = [
            *(program, "--nohome_rc", f"--output_user_root={state}", "--max_idle_secs=120"),
            *(f"--host_jvm_args={argument}" for argument in SMALL_JVM),
        ]
        self._flags = [
            *("--spawn_strategy=remote", "--genrule_strategy=remote", "--noremote_local_fallback"),
            *("--remote_timeout=60", "--jobs=16", "--symlink_prefix=/"),
            *("--color=no", "--curses=no", "--noshow_progress", "--show_result=0"),
            *(f"--override_repository={name}={overrides / name}" for name in REPOSITORIES),
        ]
        self._state = state
        self._runs: list[BazelRun] = []
        self._outputs: Path | None = None

    def start(self, endpoint: str, command: str, *arguments: str) -> BazelRun:
        """Start `bazel build` or `bazel test`."""
        execution_log = self._state.parent / f"execution-{len(self._runs)}.json"
        process = subprocess.Popen(
            [
                *(*self._startup, command, *self._flags, f"--remote_executor={endpoint}"),
                *(f"--execution_log_json_file={execution_log}", *arguments),
            ],
            cwd=self.workspace,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        run = BazelRun(process, execution_log)
        self._runs.append(run)
        return run

    def run(self, endpoint: str, command: str, *arguments: str) -> BazelResult:
        """`bazel build` or `bazel test`, to its end."""
        return self.start(endpoint, command, *arguments).result()

    def clean(self) -> None:
        """Forget all outputs on this machine."""
        self._call("clean", "--symlink_prefix=/")

    def output(self, path: str, kind: str = "bazel-bin") -> Path:
        """An output by its path in bazel-bin (or bazel-testlogs), without options that move it elsewhere."""
        if self._outputs is None:
            self._outputs = Path(self._call("info", "bazel-bin").strip()).parent
        return self._outputs / kind.removeprefix("bazel-") / path

    def abandon_runs(self) -> None:
        """End all that still runs."""
        for run in self._runs:
            run.abandon()

    def shutdown(self) -> None:
        """End Bazel's server."""
        self._call("shutdown")

    def _call(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._startup, *arguments], cwd=self.workspace, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def _read_spawns(execution_log: Path) -> list[Spawn]:
    """The log is JSON objects, one after the other, without commas."""
    text = execution_log.read_text() if execution_log.exists() else ""
    decoder, position = json.JSONDecoder(), 0
    spawns: list[Spawn] = []
    while position < len(text):
        entry, position = decoder.raw_decode(text, position)
        spawns.append(_spawn(entry))
        while position < len(text) and text[position].isspace():
            position += 1
    return spawns


def _spawn(entry: dict[str, Any]) -> Spawn:
    outputs: Sequence[str] = entry.get("listedOutputs", ())
    return Spawn(
        label=outputs[0] if outputs else "",
        mnemonic=entry.get("mnemonic", ""),
        runner=entry.get("runner", ""),
        cache_hit=entry.get("remoteCacheHit", False),
        exit_code=entry.get("exitCode", 0),
    )
