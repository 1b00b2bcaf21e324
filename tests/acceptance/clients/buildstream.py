"""BuildStream: its actions bring the whole system that they run in."""

import shutil
from pathlib import Path

import yaml

from tests.acceptance.client_run import ClientRun
from tests.acceptance.clients.client import COMPLAINT, Target, endless
from tests.acceptance.gate import Gate
from tests.farm.system_root import write_system

SYSTEM = "system.bst"
# Writes next to its sources and into one of them, as builds do, and installs what it made.
GOOD = ["cat in.txt > out.txt", "echo done >> in.txt", "cat in.txt >> out.txt"]
INSTALL = ["mkdir -p %{install-root}/share", "cp out.txt %{install-root}/share/"]
COMMANDS = {
    Target.GOOD: GOOD,
    Target.FAILS: [f"echo '{COMPLAINT}' >&2; exit 7"],
}


class BuildStream:
    """A project of a system and one element for each target."""

    instance = "systems"
    remembers_failures = True

    def __init__(self, installed: Path, folder: Path, gate: Gate) -> None:
        self._program = installed / "bin" / "bst"
        self._folder = folder
        self._cache = folder / "cache"
        self._runs: list[ClientRun] = []
        write_system(folder / "system")
        (folder / "source").mkdir()
        (folder / "source" / "in.txt").write_text("begun\n")
        self._write("project.conf", {"name": "acceptance", "min-version": "2.0"})
        self._write(SYSTEM, {"kind": "import", "sources": [{"kind": "local", "path": "system"}]})
        for target, commands in {**COMMANDS, Target.ENDLESS: [endless(gate)]}.items():
            element = {
                "kind": "manual",
                "build-depends": [SYSTEM],
                "sources": [{"kind": "local", "path": "source"}],
                "sandbox": {"build-uid": 0, "build-gid": 0},
                "config": {
                    "build-commands": commands,
                    "install-commands": INSTALL if target is Target.GOOD else [],
                },
            }
            self._write(f"{target.value}.bst", element)

    def start(self, endpoint: str, target: Target) -> ClientRun:
        """See Client."""
        service = {"url": endpoint.replace("grpc://", "http://"), "instance-name": self.instance}
        user = {
            "cachedir": str(self._cache),
            "logdir": str(self._folder / "logs"),
            "remote-execution": {
                name: dict(service)  # BuildStream reads no YAML with anchors
                for name in ("execution-service", "storage-service", "action-cache-service")
            },
        }
        self._write("user.conf", user)
        return self._start("build", f"{target.value}.bst")

    def forget(self) -> None:
        """See Client."""
        shutil.rmtree(self._cache, ignore_errors=True)

    def check_output(self) -> None:
        """See Client."""
        target = self._folder / "checked-out"
        done = self._start("artifact", "checkout", "--force", "--directory", str(target), "good.bst").result()
        assert done.exit_code == 0, done.output
        assert (target / "share" / "out.txt").read_text() == "begun\nbegun\ndone\n"

    def came_from_cache(self, output: str, executed: int) -> bool:
        """See Client."""
        return executed == 0

    def hang_up(self) -> None:
        """See Client."""

    def close(self) -> None:
        """See Client."""
        for run in self._runs:
            run.abandon()

    def _start(self, *arguments: str) -> ClientRun:
        options = ["--no-interactive", "--no-colors", "--config", "user.conf", "--error-lines", "200"]
        run = ClientRun([self._program, *options, *arguments], self._folder, {})
        self._runs.append(run)
        return run

    def _write(self, name: str, content: object) -> None:
        (self._folder / name).write_text(yaml.safe_dump(content))
