"""Bazel, of whatever version."""

import shutil
from pathlib import Path

from tests.acceptance.bazel import Bazel, BazelRun
from tests.acceptance.client_run import ClientResult
from tests.acceptance.clients.client import Target
from tests.acceptance.gate import Gate

LABELS = {
    Target.GOOD: "//app:report",
    Target.FAILS: "//broken:exits_with_7",
    Target.ENDLESS: "//slow:endless",
}


class _Run:
    def __init__(self, run: BazelRun) -> None:
        self._run = run

    def interrupt(self) -> None:
        self._run.interrupt()

    def result(self) -> ClientResult:
        result = self._run.result()
        return ClientResult(result.exit_code, result.output)


class BazelClient:
    """In a copy of the workspace."""

    instance = ""
    remembers_failures = False

    def __init__(
        self,
        program: str,
        workspace: Path,
        folder: Path,
        overrides: Path,
        gate: Gate,
        *,
        server_goes_on: bool = False,
    ) -> None:
        """`server_goes_on`: after Ctrl-C Bazel's server still follows the action, until it is shut down."""
        self._gate = gate
        self._server_goes_on = server_goes_on
        shutil.copytree(workspace, folder / "workspace")
        self._bazel = Bazel(program, folder / "workspace", folder / "state", overrides)

    def start(self, endpoint: str, target: Target) -> _Run:
        """See Client."""
        return _Run(self._bazel.start(endpoint, "build", LABELS[target], *self._gate.flags))

    def forget(self) -> None:
        """See Client."""
        self._bazel.clean()

    def check_output(self) -> None:
        """See Client."""
        assert "2 tree\n" in self._bazel.output("app/report.txt").read_text()

    def came_from_cache(self, output: str, executed: int) -> bool:
        """See Client."""
        return executed == 0

    def hang_up(self) -> None:
        """See Client."""
        if self._server_goes_on:
            self._bazel.shutdown()

    def close(self) -> None:
        """See Client."""
        self._bazel.abandon_runs()
        self._bazel.shutdown()
