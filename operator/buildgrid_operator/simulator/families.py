"""Made-up traces, each of a kind that farms see. The same seed makes the same trace."""

import random
from collections.abc import Callable, Iterator
from math import log, pi, sin

from buildgrid_operator.simulator.trace import Job, Trace, trace_of

HOUR = 3600.0


def _build(
    rng: random.Random, at: float, actions: int, median: float, *, width: int = 50, requirement: str = "linux"
) -> Iterator[Job]:
    """A build: its actions become ready in waves, as its graph allows, not more than `width` in a wave."""
    left = actions
    while left > 0:
        wave = min(left, rng.randint(1, width))
        durations = [rng.lognormvariate(log(median), 1.0) for _ in range(wave)]
        for duration in durations:
            yield Job(at + rng.random() * 2, requirement, min(duration, 1800.0))
        at += sorted(durations)[len(durations) * 3 // 4] + rng.random() * 3
        left -= wave


def _moments(rng: random.Random, per_hour: float, hours: float) -> Iterator[float]:
    """Seconds at which something happens, so often on average, until the hours are over."""
    at = 0.0
    while at < hours * HOUR:
        at += rng.expovariate(per_hour / HOUR)
        yield at


def working_day(seed: int) -> Trace:
    """Two days of a team: builds come with the hours, most before noon and in the afternoon, few at night."""
    rng = random.Random(seed)
    jobs: list[Job] = []
    at = 0.0
    while at < 48 * HOUR:
        hour = at / HOUR % 24
        busy = max(0.03, sin((hour - 7) / 11 * pi)) if 7 <= hour <= 18 else 0.03
        at += rng.expovariate(busy * 12 / HOUR)
        jobs += _build(rng, at, rng.randint(20, 300), 4.0)
    return trace_of("working day", jobs)


def ci_burst(seed: int) -> Trace:
    """Eight hours of merges: now and then a burst of hundreds of actions, and quiet in between."""
    rng = random.Random(seed)
    jobs: list[Job] = []
    for at in _moments(rng, 2, 8):
        jobs += _build(rng, at, rng.randint(200, 800), 8.0, width=200)
    return trace_of("CI burst", jobs)


def release_storm(seed: int) -> Trace:
    """An hour in which twenty large builds begin within five minutes."""
    rng = random.Random(seed)
    jobs: list[Job] = []
    for _ in range(20):
        jobs += _build(rng, 600 + rng.random() * 300, 400, 10.0, width=150)
    return trace_of("release storm", jobs)


def long_tail(seed: int) -> Trace:
    """Many short actions and, in each build, some tests of half an hour."""
    rng = random.Random(seed)
    jobs: list[Job] = []
    for at in _moments(rng, 4, 8):
        jobs += _build(rng, at, 150, 3.0)
        jobs += (
            Job(at + rng.random() * 120, "linux", rng.uniform(900, 1800)) for _ in range(rng.randint(1, 4))
        )
    return trace_of("long tail", jobs)


def two_labels(seed: int) -> Trace:
    """Two kinds of work, one rare and dear."""
    rng = random.Random(seed)
    jobs: list[Job] = []
    for at in _moments(rng, 6, 8):
        jobs += _build(rng, at, 120, 5.0)
        if rng.random() < 0.3:
            jobs += _build(rng, at + 30, 10, 60.0, width=10, requirement="gpu")
    return trace_of("two labels", jobs)


def steady(seed: int) -> Trace:
    """Six hours of independent jobs at an even rate."""
    rng = random.Random(seed)
    jobs = [Job(at, "linux", rng.expovariate(1 / 20)) for at in _moments(rng, 1800, 6)]
    return trace_of("steady", jobs)


def spot_loss(seed: int) -> Trace:
    """Eight hours of builds, each with some long tests, for pods that are often taken away."""
    rng = random.Random(seed)
    jobs: list[Job] = []
    for at in _moments(rng, 4, 8):
        jobs += _build(rng, at, rng.randint(100, 400), 8.0, width=80)
        jobs += (Job(at + 60 + rng.random() * 60, "linux", rng.uniform(300, 900)) for _ in range(4))
    return trace_of("spot loss", jobs)


def slow_images(seed: int) -> Trace:
    """Eight hours of builds for pods that take minutes to start, some far longer, and often fail to."""
    rng = random.Random(seed)
    jobs: list[Job] = []
    for at in _moments(rng, 3, 8):
        jobs += _build(rng, at, rng.randint(100, 500), 15.0, width=80)
    return trace_of("slow images", jobs)


FAMILIES: dict[str, Callable[[int], Trace]] = {
    "working-day": working_day,
    "ci-burst": ci_burst,
    "release-storm": release_storm,
    "long-tail": long_tail,
    "two-labels": two_labels,
    "steady": steady,
    "spot-loss": spot_loss,
    "slow-images": slow_images,
}
