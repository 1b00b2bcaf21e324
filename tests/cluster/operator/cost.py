"""What the operator spends while something happens: calls of the API server, memory, time."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.cluster.operator.control_plane import audit_log
from tests.cluster.operator.processes import Operator

MEBIBYTE = 1024 * 1024
_READS = ("get", "list", "watch")
_SHOWN = 12


@dataclass
class Cost:
    """Calls are counted by verb and resource: by the API server's audit log where there is one, else by the
    operator's own metrics. The one knows `patch` and `watch`, the other `apply` and no watch."""

    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    audited: bool = False
    passes: int = 0
    seconds: float = 0.0
    cpu: float = 0.0
    memory: int = 0
    """bytes that it has afterwards"""

    @property
    def writes(self) -> int:
        """Calls that may write."""
        return sum(number for (verb, _), number in self.calls.items() if verb not in _READS)

    @property
    def reads(self) -> int:
        """Calls for objects; a watch is one."""
        return self.calls.total() - self.writes

    def show(self, what: str, each: int) -> str:
        """For people; `each` is how many things were done."""
        most = ", ".join(f"{verb} {name} {number}" for (verb, name), number in self.calls.most_common(_SHOWN))
        return (
            f"{what}: {self.writes} writes and {self.reads} reads, {self.calls.total() / each:.1f} calls for "
            f"each ({'audit log' if self.audited else 'metrics'}), {self.passes} passes, "
            f"{self.seconds:.1f} s, {self.cpu:.1f} s of CPU, {self.memory / MEBIBYTE:.0f} MiB: {most}"
        )


@contextmanager
def measured(operator: Operator) -> Iterator[Cost]:
    """What it spends within the block; known at its end. The Lease does not count."""
    log, cost = audit_log(), Cost()
    begun, cpu, passes, calls = time.monotonic(), operator.cpu(), operator.passes(), operator.calls()
    yield cost
    cost.seconds = time.monotonic() - begun
    cost.cpu = operator.cpu() - cpu
    cost.memory = operator.memory()
    cost.passes = int(operator.passes() - passes)
    cost.audited = log is not None
    found = operator.calls() - calls if log is None else log.calls()
    cost.calls = Counter(
        {call: number for call, number in found.items() if not call[1].lower().startswith("lease")}
    )
