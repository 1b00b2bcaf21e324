"""What a load run found, for people and for programs."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.options import Window
from benchmarks.tallies import BotTally, ClientTally


@dataclass(frozen=True)
class Percentiles:
    """Milliseconds; not a number where nothing was measured."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class LoadReport:
    """One run. CPU by the names of the measured process trees, milliseconds per lease of the window."""

    jobs: int
    jobs_per_second: float
    done_ms: Percentiles
    first_update_ms: Percentiles
    cpu_ms_per_job: dict[str, float]
    leases_per_second: float
    """As jobs per second, and more when there is a backlog."""
    handed_out_twice: int
    unfinished: int
    retries: int
    late_uploads: int
    errors: dict[str, int]

    @property
    def sound(self) -> bool:
        """Every job was done once and well."""
        return self.jobs > 0 and not (self.errors or self.handed_out_twice or self.unfinished)

    def as_json(self) -> dict[str, Any]:
        return {name: _finite(value) for name, value in asdict(self).items()}

    def lines(self) -> list[str]:
        """For people."""
        cpu = ", ".join(f"{name} {value:.2f}" for name, value in self.cpu_ms_per_job.items())
        lines = [
            f"{self.jobs_per_second:.1f} jobs/s ({self.jobs} jobs)",
            f"done          {_milliseconds(self.done_ms)}",
            f"first update  {_milliseconds(self.first_update_ms)}",
            f"CPU ms/job    {cpu}",
            f"leases/s {self.leases_per_second:.1f}, handed out twice {self.handed_out_twice}, "
            f"unfinished {self.unfinished}, retries {self.retries}, "
            f"late uploads {self.late_uploads}, errors {sum(self.errors.values())}",
        ]
        return lines + [f"  {count} x {what}" for what, count in self.errors.items()]


def report_of(
    window: Window, clients: ClientTally, bots: BotTally, cpu_seconds: dict[str, float]
) -> LoadReport:
    """Sums a run up; `cpu_seconds` were used within the window."""
    jobs = len(clients.done_ms)
    leases = sum(map(window.holds, bots.leased_at))
    seconds = window.end - window.start
    return LoadReport(
        jobs=jobs,
        jobs_per_second=jobs / seconds,
        done_ms=percentiles(clients.done_ms),
        first_update_ms=percentiles(clients.first_update_ms),
        cpu_ms_per_job={
            name: 1000 * value / leases if leases else math.nan for name, value in cpu_seconds.items()
        },
        leases_per_second=leases / seconds,
        handed_out_twice=bots.twice,
        unfinished=clients.unfinished,
        retries=clients.retries + bots.retries,
        late_uploads=clients.late_uploads,
        errors=dict((clients.errors + bots.errors).most_common()),
    )


def percentiles(values: list[float]) -> Percentiles:
    ordered = sorted(values)
    return Percentiles(*(_nearest_rank(ordered, share) for share in (0.50, 0.95, 0.99)))


def _finite(value: Any) -> Any:
    """JSON knows no number that is none."""
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value


def _nearest_rank(ordered: list[float], share: float) -> float:
    return ordered[math.ceil(share * len(ordered)) - 1] if ordered else math.nan


def _milliseconds(found: Percentiles) -> str:
    return f"p50 {found.p50:.1f} ms, p95 {found.p95:.1f} ms, p99 {found.p99:.1f} ms"
