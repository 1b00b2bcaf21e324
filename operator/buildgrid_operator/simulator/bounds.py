"""What nobody can beat: the price of a farm that knows the future."""

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from buildgrid_operator.simulator.trace import Job, Trace
from buildgrid_operator.simulator.world import FleetModel


@dataclass(frozen=True, slots=True)
class Bounds:
    """Pod-seconds, each times the cost of its fleet."""

    work: float
    """of the work alone, as if pods were there in no time and never idle"""
    packed: float
    """every job begins at once, on pods that were started ahead of it; between two jobs a pod is kept, or
    ended and started again, whichever is cheaper. Of pods with several slots only the work and the start of
    one pod"""


def bounds_of(trace: Trace, fleets: Sequence[FleetModel]) -> Bounds:
    """Where several fleets serve a job: as if all their slots were as cheap as the cheapest, and all their
    pods as quick to start as the quickest. None is lost, and every start succeeds.
    """
    work = packed = 0.0
    for together in _sharing(trace, fleets):
        jobs = [job for job in trace.jobs if any(job.requirement in fleet.serves for fleet in together)]
        seconds = sum(job.duration for job in jobs)
        price = min(fleet.cost / fleet.slots for fleet in together)
        start = min(fleet.start_median for fleet in together)
        work += seconds * price
        if all(fleet.slots == 1 for fleet in together):
            packed += _packed(jobs, start) * price
        else:
            packed += seconds * price + start * min(fleet.cost for fleet in together)
    return Bounds(work, packed)


def _sharing(trace: Trace, fleets: Iterable[FleetModel]) -> list[list[FleetModel]]:
    """Fleets that serve some of the same jobs, in groups; those that serve none are left out."""
    wanted = {job.requirement for job in trace.jobs}
    groups: list[tuple[set[str], list[FleetModel]]] = []
    for fleet in fleets:
        serves, together = wanted & fleet.serves, [fleet]
        for other in [group for group in groups if group[0] & serves]:
            groups.remove(other)
            serves, together = serves | other[0], other[1] + together
        if serves:
            groups.append((serves, together))
    return [together for _, together in groups]


def _packed(jobs: Iterable[Job], start_time: float) -> float:
    """Pod-seconds; `start_time`: what a pod takes before it works."""
    free: list[float] = []  # ends of pods without a job, negated: the one that became free last is used first
    busy: list[float] = []
    total = 0.0
    for job in jobs:
        while busy and busy[0] <= job.arrival:
            heapq.heappush(free, -heapq.heappop(busy))
        if free:
            gap = job.arrival + heapq.heappop(free)
            total += min(gap, start_time)
        else:
            total += start_time
        total += job.duration
        heapq.heappush(busy, job.arrival + job.duration)
    return total
