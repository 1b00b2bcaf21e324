"""Pants: shell commands on the farm."""

import re
import shutil
from pathlib import Path

from tests.acceptance.client_run import ClientRun
from tests.acceptance.clients.client import COMPLAINT, Target, endless
from tests.acceptance.gate import Gate

CONFIG = """
[GLOBAL]
pants_version = "2.17.1"
backend_packages = ["pants.backend.shell"]
pantsd = false
watch_filesystem = false
dynamic_ui = false
colors = false
local_cache = false
local_store_dir = "{folder}/store"
named_caches_dir = "{folder}/named"
remote_execution = true
remote_cache_read = true
remote_execution_address = "{endpoint}"
remote_store_address = "{endpoint}"

[shell-setup]
executable_search_paths = ["/usr/bin", "/bin"]

[stats]
log = true

[anonymous-telemetry]
enabled = false
"""
# The PATH that this Pants gives a shell_command is a folder in its own sandbox, which it does not fill in for
# remote execution.
BUILD = """
files(name="sources", sources=["in.txt"])

shell_command(
    name="good",
    command="PATH=/usr/bin:/bin; cat in.txt in.txt > out.txt",
    tools=["cat"],
    execution_dependencies=[":sources"],
    output_files=["out.txt"],
)

shell_command(name="fails", command="echo '{complaint}' >&2; exit 7", tools=["cat"], output_files=["out"])

shell_command(
    name="endless",
    command="PATH=/usr/bin:/bin; {endless}",
    tools=["sleep"],
    output_files=["out"],
    timeout=600,
)
"""


class Pants:
    """A project of one shell command for each target."""

    instance = ""
    remembers_failures = False

    def __init__(self, installed: Path, folder: Path, gate: Gate) -> None:
        self._program = installed / "bin" / "pants"
        self._folder = folder
        self._project = folder / "project"
        self._runs: list[ClientRun] = []
        self._project.mkdir()
        (self._project / "BUILD").write_text(BUILD.format(complaint=COMPLAINT, endless=endless(gate)))
        (self._project / "in.txt").write_text("hello\n")

    def start(self, endpoint: str, target: Target) -> ClientRun:
        """See Client."""
        (self._project / "pants.toml").write_text(CONFIG.format(folder=self._folder, endpoint=endpoint))
        arguments = [str(self._program), "export-codegen", f"//:{target.value}"]
        run = ClientRun(arguments, self._project, {"PANTS_CONCURRENT": "true"})
        self._runs.append(run)
        return run

    def forget(self) -> None:
        """See Client."""
        for path in (self._folder / "store", self._folder / "named", self._project / "dist"):
            shutil.rmtree(path, ignore_errors=True)
        shutil.rmtree(self._project / ".pants.d", ignore_errors=True)

    def check_output(self) -> None:
        """See Client."""
        assert (self._project / "dist" / "codegen" / "out.txt").read_text() == "hello\nhello\n"

    def came_from_cache(self, output: str, executed: int) -> bool:
        """See Client. Pants races its lookup against an execution, and counts who was first."""
        return re.search(r"remote_cache_requests_cached: [1-9]", output) is not None

    def hang_up(self) -> None:
        """See Client."""

    def close(self) -> None:
        """See Client."""
        for run in self._runs:
            run.abandon()
