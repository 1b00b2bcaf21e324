"""Finished jobs as a trace: what the simulator of fleets replays. See docs/simulator.md for the format."""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TextIO
from urllib.parse import urlencode

from buildgrid_scheduler.fleet.finished_jobs import FinishedJob

COLUMNS = ("arrival_seconds", "requirement", "duration_seconds")


@dataclass(frozen=True, slots=True)
class Written:
    """What became of the jobs."""

    jobs: int
    without_bot: int
    """left out, since no bot ever had them: they took nothing of a fleet"""


def write_trace(jobs: Iterable[FinishedJob], file: TextIO) -> Written:
    """Write those that a bot had, a line a job, as CSV with COLUMNS. `jobs`: oldest first.

    Arrivals are since the first one. A requirement is its properties, as in a URL's query, so that the same
    text means the same requirement.
    """
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    first, written, without_bot = None, 0, 0
    for job in jobs:
        if job.duration is None:
            without_bot += 1
            continue
        first = first or job.queued_at
        arrival = (job.queued_at - first).total_seconds()
        writer.writerow((f"{arrival:.3f}", requirement(job), f"{job.duration.total_seconds():.3f}"))
        written += 1
    return Written(written, without_bot)


def requirement(job: FinishedJob) -> str:
    """For example `ISA=x86-64&OSFamily=linux`."""
    pairs = [(key, value) for key, values in sorted(job.requirements.items()) for value in sorted(values)]
    return urlencode(pairs, safe="/:@")
