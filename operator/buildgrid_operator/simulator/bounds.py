"""What nobody can beat: the pod-seconds of a farm that knows the future."""

import heapq
from dataclasses import dataclass

from buildgrid_operator.simulator.trace import Trace


@dataclass(frozen=True, slots=True)
class Bounds:
    """Pod-seconds."""

    work: float
    """of the work alone, as if pods were there in no time and never idle"""
    packed: float
    """every job begins at once, on pods that were started ahead of it; between two jobs a pod is kept, or
    ended and started again, whichever is cheaper"""


def bounds_of(trace: Trace, start_time: float, slots: int = 1) -> Bounds:
    """`start_time` in seconds: what a pod costs before it works."""
    work = trace.work / slots
    if slots > 1:
        return Bounds(work, work)
    free: list[float] = []  # ends of pods without a job, negated: the one that became free last is used first
    busy: list[float] = []
    total = 0.0
    for job in trace.jobs:
        while busy and busy[0] <= job.arrival:
            heapq.heappush(free, -heapq.heappop(busy))
        if free:
            gap = job.arrival + heapq.heappop(free)
            total += min(gap, start_time)
        else:
            total += start_time
        total += job.duration
        heapq.heappush(busy, job.arrival + job.duration)
    return Bounds(work, total)
