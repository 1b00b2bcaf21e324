"""The operator as a process, from its own command, and waiting for what it does."""

import os
import re
import signal
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.kinds import SCHEDULER, ObjectRef

from tests.cluster.conftest import ROOT

T = TypeVar("T")
COMMAND = str(ROOT / ".venv/bin/buildgrid-operator")
LOOK = 0.1
WAIT = 90.0
"""seconds that anything may take on a busy machine"""
_PORT = re.compile(r"served on port (\d+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


class Operator:
    """One that looks after a namespace; with `everywhere`, after all, and its Lease is in this one."""

    def __init__(
        self, namespace: str, log: Path, *flags: str, identity: str = "", everywhere: bool = False
    ) -> None:
        self._log = log
        arguments = [
            *(COMMAND, "run", "--all-namespaces" if everywhere else f"--namespace={namespace}"),
            f"--leader-election-namespace={namespace}",
            *("--monitoring-listen=127.0.0.1:0", "--log-format=text"),
            *("--scheduler-image=example.org/buildgrid/scheduler:1", *flags),
        ]
        environment = {**os.environ, **({"POD_NAME": identity} if identity else {})}
        self._file = log.open("a")
        self._process = subprocess.Popen(arguments, stderr=self._file, env=environment)

    @property
    def log(self) -> str:
        """All that it said."""
        return self._log.read_text()

    def leads(self) -> "Operator":
        """Wait until it does."""
        eventually(lambda: " leads, as " in self.log, f"it leads; it said:\n{self.log}")
        return self

    def metric(self, pattern: str) -> float:
        """The sum of all samples whose line matches."""
        lines = [line for line in self._metrics().splitlines() if re.search(pattern, line)]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def writes(self) -> float:
        """Calls of the API server so far that may write, but for the Lease."""
        return self.metric(r'^buildgrid_operator_api_calls_total\{.*kind="(?!Lease).*verb="(?!get|list)')

    def calls(self) -> Counter[tuple[str, str]]:
        """Calls of the API server so far, by verb and kind."""
        found: Counter[tuple[str, str]] = Counter()
        for line in self._metrics().splitlines():
            if line.startswith("buildgrid_operator_api_calls_total{"):
                labels = dict(_LABEL.findall(line))
                found[labels["verb"], labels["kind"]] += int(float(line.rpartition(" ")[2]))
        return found

    def passes(self) -> float:
        """How often it looked at a Scheduler."""
        return self.metric(r'^buildgrid_operator_reconcile_total\{kind="Scheduler"')

    def passes_again(self, passes: int, timeout: float = WAIT, *, every: float = LOOK) -> None:
        """Wait for so many more passes. `every`: seconds between looks, each of which costs it CPU."""
        begun = self.passes()
        eventually(lambda: self.passes() >= begun + passes, f"{passes} more passes", timeout, every)

    def comes_to_rest(self, passes: int = 8, timeout: float = 110) -> None:
        """Wait until so many passes in a row wrote nothing."""

        def look() -> bool:
            writes = self.writes()
            self.passes_again(passes, timeout)
            return self.writes() == writes

        eventually(look, "passes that write nothing", timeout)

    def memory(self) -> int:
        """Bytes of RAM that it has now."""
        pages = Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGESIZE")

    def cpu(self) -> float:
        """Seconds that it has computed so far."""
        figures = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(figures[11]) + int(figures[12])) / os.sysconf("SC_CLK_TCK")

    def kill(self) -> None:
        """As a node that loses power."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """As a pod that is deleted; returns its exit code."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout=WAIT)

    def goes_on(self) -> bool:
        """Whether it is still the same process, or has ended because it might lead no longer."""
        code = self._process.poll()
        assert code in (None, 1), self.log
        return code is None

    def ended(self) -> int:
        """Wait until it has ended by itself; returns its exit code."""
        return self._process.wait(timeout=WAIT)

    def close(self) -> None:
        """Whatever it does."""
        if self._process.poll() is None:
            self.kill()
        self._file.close()

    def _metrics(self) -> str:
        found = eventually(lambda: _PORT.search(self.log), "it serves metrics")
        with urllib.request.urlopen(f"http://127.0.0.1:{found[1]}/metrics", timeout=10) as answer:
            text: str = answer.read().decode()
            return text


def eventually(look: Callable[[], T | None], what: str, timeout: float = WAIT, every: float = LOOK) -> T:
    """Look until there is something to see, and return it."""
    deadline = time.monotonic() + timeout
    while True:
        if found := look():
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what}")
        time.sleep(every)


class Condition(dict[str, str]):
    """One of a status, as the API server has it."""


def condition(client: Client, ref: ObjectRef, name: str) -> Condition:
    """A condition of an object; empty if it is not there."""
    status = client.get(ref.kind, ref.namespace, ref.name).get("status") or {}
    return Condition(next((each for each in status.get("conditions") or () if each["type"] == name), {}))


def becomes(client: Client, ref: ObjectRef, name: str, status: str, reason: str = "") -> Condition:
    """Wait until a condition is so, for the object's newest generation."""

    def look() -> Condition | None:
        obj = client.get(ref.kind, ref.namespace, ref.name)
        found = condition(client, ref, name)
        current = found.get("observedGeneration") == obj["metadata"]["generation"]
        fits = found.get("status") == status and found.get("reason") == (reason or found.get("reason"))
        return found if current and fits else None

    try:
        return eventually(look, "")
    except AssertionError:
        found = condition(client, ref, name)
        raise AssertionError(f"{name} of {ref} is not {status} {reason}, but {found}") from None


def scheduler_ref(namespace: str, name: str = "main") -> ObjectRef:
    """A Scheduler."""
    return ObjectRef(SCHEDULER, namespace, name)
