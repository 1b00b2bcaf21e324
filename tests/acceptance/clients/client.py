"""What the tests ask of each client, so that they are the same for all."""

import os
from enum import Enum
from pathlib import Path
from typing import Protocol

import pytest

from tests.acceptance.client_run import ClientResult
from tests.acceptance.gate import Gate

HERE = Path(__file__).parent


class Target(Enum):
    """Each client has an action of its own for each of them."""

    GOOD = "good"
    """a build of one action or more, whose output is checked"""
    FAILS = "fails"
    """says `there is no cheese left` on standard error, and exits with 7"""
    ENDLESS = "endless"
    """says through the gate that it has started, and runs until it is stopped"""


COMPLAINT = "there is no cheese left"


def endless(gate: Gate) -> str:
    """The shell script of ENDLESS."""
    return f"echo endless 1<> {gate.folder}/arrivals; while :; do sleep 1; done"


class Run(Protocol):
    """A build that goes on."""

    def interrupt(self) -> None:
        """Ctrl-C."""

    def result(self) -> ClientResult:
        """Wait for the end."""


class Client(Protocol):
    """A build tool with a project of its own, everything remote."""

    instance: str
    """the instance of the farm that it uses"""
    remembers_failures: bool
    """whether a build that failed is not tried again until something changes"""

    def start(self, endpoint: str, target: Target) -> Run:
        """Build on the farm at `endpoint`."""

    def forget(self) -> None:
        """Remove everything on this machine that would spare it asking the farm."""

    def check_output(self) -> None:
        """That the output of GOOD is here, and right."""

    def came_from_cache(self, output: str, executed: int) -> bool:
        """Whether a build that said this had its results from the cache; the farm ran `executed` actions."""

    def hang_up(self) -> None:
        """Let go of the farm after an interrupted build, where the client does not do so by itself."""

    def close(self) -> None:
        """End all that still runs."""


def installed(directory: str, script: str) -> Path:
    """Where a client was installed by its script; skips the test where it was not."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    clients = Path(os.environ.get("ACCEPTANCE_CLIENTS") or Path(home) / "buildgrid-acceptance")
    found = clients / directory
    if not (found / ".complete").exists():
        pytest.skip(
            f"{directory} is not in {clients}; install it with {HERE.relative_to(HERE.parents[2]) / script}"
        )
    return found
