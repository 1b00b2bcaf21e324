"""`make test-cluster` and `make dev-cluster` where there is no cluster, with a kind that is played."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TOOLS = ("bash", "mktemp", "rm", "dirname", "cat", "sed")
KIND = """#!/bin/bash
echo "$1 $2" >>"$CALLS"
while [ $# -gt 0 ]; do
  case $1 in --name) echo "$2" >>"$NAMES" ;; --kubeconfig) echo made >"$2" ;; esac
  shift
done
exit "${KIND_CODE:-0}"
"""


class Script:
    """Runs one of tools/ with nothing else on PATH."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._bin = folder / "bin"
        self._bin.mkdir()
        for name in TOOLS:
            (self._bin / name).symlink_to(Path("/usr/bin") / name)

    def has_kind(self) -> None:
        kind = self._bin / "kind"
        kind.write_text(KIND)
        kind.chmod(0o755)

    def run(self, name: str, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        given = {
            "PATH": str(self._bin),
            "CALLS": str(self._folder / "calls"),
            "NAMES": str(self._folder / "names"),
            "TMPDIR": str(self._folder),
        }
        return subprocess.run(
            ["/usr/bin/bash", str(ROOT / "tools" / name), *arguments],
            env={**given, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def calls(self) -> list[str]:
        file = self._folder / "calls"
        return file.read_text().splitlines() if file.exists() else []

    def names(self) -> list[str]:
        return (self._folder / "names").read_text().splitlines()


@pytest.fixture
def script(tmp_path: Path) -> Script:
    if not os.access("/usr/bin/bash", os.X_OK):
        pytest.skip("there is no /usr/bin/bash")
    return Script(tmp_path)


def test_with_a_cluster_the_tests_run_against_it(script: Script) -> None:
    script.has_kind()
    answer = script.run("test_cluster.sh", "bash", "-c", "echo on $KUBECONFIG; exit 7", KUBECONFIG="/mine")
    assert (answer.returncode, answer.stdout) == (7, "on /mine\n")
    assert script.calls() == []


def test_without_one_it_says_how_to_get_one(script: Script) -> None:
    answer = script.run("test_cluster.sh", "bash", "-c", "echo run")
    assert answer.returncode == 1
    assert answer.stdout == ""
    assert "set KUBECONFIG" in answer.stderr and "kind or k3d" in answer.stderr


@pytest.mark.parametrize("code", [0, 3])
def test_with_kind_one_is_made_and_removed_whatever_the_tests_say(script: Script, code: int) -> None:
    script.has_kind()
    answer = script.run("test_cluster.sh", "bash", "-c", f"cat $KUBECONFIG; exit {code}")
    assert (answer.returncode, answer.stdout) == (code, "made\n")
    assert script.calls() == ["create cluster", "delete cluster"]
    made, removed = script.names()
    assert made == removed


def test_a_cluster_that_cannot_be_made_is_removed_and_no_test_runs(script: Script) -> None:
    script.has_kind()
    answer = script.run("test_cluster.sh", "bash", "-c", "echo run", KIND_CODE="1")
    assert answer.returncode == 1
    assert answer.stdout == ""
    assert script.calls() == ["create cluster", "delete cluster"]


def test_the_operator_from_source_needs_a_cluster(script: Script) -> None:
    answer = script.run("dev_cluster.sh")
    assert answer.returncode == 1
    assert "set KUBECONFIG" in answer.stderr and "kind create cluster" in answer.stderr
