"""Traces: which jobs came when, what they required, and how long they ran."""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

COLUMNS = ("arrival_seconds", "requirement", "duration_seconds")


@dataclass(frozen=True, slots=True)
class Job:
    """Times in seconds; `arrival` since the beginning."""

    arrival: float
    requirement: str
    duration: float


@dataclass(frozen=True, slots=True)
class Trace:
    """Jobs in the order of their arrival."""

    name: str
    jobs: tuple[Job, ...]

    @property
    def work(self) -> float:
        """Slot-seconds."""
        return sum(job.duration for job in self.jobs)

    @property
    def end(self) -> float:
        """Of the last arrival."""
        return self.jobs[-1].arrival if self.jobs else 0.0


def trace_of(name: str, jobs: Iterable[Job]) -> Trace:
    """Sorted."""
    return Trace(name, tuple(sorted(jobs, key=lambda job: (job.arrival, job.requirement, job.duration))))


def read_trace(path: Path) -> Trace:
    """Of a CSV file with the columns `arrival_seconds`, `requirement`, `duration_seconds`, in any order.

    Raises ValueError that names file, line and column; OSError.
    """
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{path}: lacks the column {missing[0]}; needed are {', '.join(COLUMNS)}")
        jobs = list(_jobs(path, reader))
    if not jobs:
        raise ValueError(f"{path}: has no jobs")
    first = min(job.arrival for job in jobs)
    return trace_of(path.stem, (Job(job.arrival - first, job.requirement, job.duration) for job in jobs))


def write_trace(trace: Trace, path: Path) -> None:
    """As `read_trace` reads it."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for job in trace.jobs:
            writer.writerow((f"{job.arrival:.3f}", job.requirement, f"{job.duration:.3f}"))


def _jobs(path: Path, reader: "csv.DictReader[str]") -> Iterator[Job]:
    for row in reader:
        times = []
        for name in ("arrival_seconds", "duration_seconds"):
            text = row[name] or ""
            try:
                value = float(text)
            except ValueError:
                value = -1.0
            if not 0 <= value < 1e11:
                raise ValueError(
                    f"{path}:{reader.line_num}: {name} {text!r} is not a number of seconds from 0 on"
                )
            times.append(value)
        yield Job(times[0], row["requirement"] or "", times[1])
