"""The farm in numbers, read from the database now and then, on a thread of its own."""

import logging
import threading
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector

from buildgrid_scheduler.core.clock import Clock, utc_now
from buildgrid_scheduler.engine.fleet_counts import FleetCounts
from buildgrid_scheduler.server.metrics import catalogue
from buildgrid_scheduler.stats.histograms import MOST_LABELS, OTHER_LABELS

log = logging.getLogger(__name__)

TOO_OLD = 6
"""Intervals after which numbers that could not be read again are left out: nothing is better than wrong."""


class FleetCollector(Collector):
    """Tells what was read last. `start` reads for the first time at once, `stop` waits for what is read."""

    def __init__(
        self,
        read: Callable[[], FleetCounts],
        interval: timedelta,
        registry: CollectorRegistry,
        *,
        clock: Clock = utc_now,
    ) -> None:
        """`read` blocks, and may raise; a failure is logged once until it succeeds again."""
        self._read = read
        self._interval = interval
        self._clock = clock
        self._latest: FleetCounts | None = None
        self._failures = catalogue.FLEET_FAILURES.counter(registry)
        self._failing = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fleet-metrics", daemon=True)
        registry.register(self)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while True:
            self.look()
            if self._stopping.wait(self._interval.total_seconds()):
                return

    def look(self) -> None:
        """Read once."""
        try:
            self._latest = self._read()
            self._failing = False
        except Exception as error:  # noqa: BLE001 - numbers are not worth more than a line in the log
            self._failures.inc()
            if not self._failing:
                log.warning("the numbers about the farm cannot be read: %s", str(error).split("\n")[0])
            self._failing = True

    def collect(self) -> Iterable[Metric]:
        """See prometheus_client."""
        counts, now = self._latest, self._clock()
        if counts is None:
            return []
        age = now - counts.read_at
        old = catalogue.FLEET_AGE.gauges()
        old.add_metric([], age.total_seconds())
        if age > self._interval * TOO_OLD:
            return [old]
        return [old, *_queue(counts, now), *_jobs(counts), *_bots(counts)]


def _queue(counts: FleetCounts, now: datetime) -> list[Metric]:
    """The deepest labels by name, so that all replicas name the same ones; the others together."""
    jobs, oldest = catalogue.QUEUE_JOBS.gauges(), catalogue.QUEUE_OLDEST.gauges()
    ranked = sorted(counts.waiting.items(), key=lambda entry: (-entry[1][0], entry[0]))
    shown, others = dict(ranked[:MOST_LABELS]), [entry for _, entry in ranked[MOST_LABELS:]]
    if others:
        if OTHER_LABELS in shown:  # a client's own label of that name
            others.append(shown[OTHER_LABELS])
        shown[OTHER_LABELS] = (sum(n for n, _ in others), min(since for _, since in others))
    for label, (number, since) in sorted(shown.items()):
        jobs.add_metric([label], number)
        oldest.add_metric([label], max(0.0, (now - since).total_seconds()))
    return [jobs, oldest]


def _jobs(counts: FleetCounts) -> list[Metric]:
    jobs, leases = catalogue.JOBS.gauges(), catalogue.LEASES.gauges()
    # A job that its bot was not told of yet waits, as its clients see it.
    waiting = sum(number for number, _ in counts.waiting.values())
    jobs.add_metric(["queued"], waiting + counts.assigned)
    jobs.add_metric(["executing"], counts.executing)
    leases.add_metric([], counts.assigned + counts.executing)
    return [jobs, leases]


def _bots(counts: FleetCounts) -> list[Metric]:
    bots = catalogue.BOTS.gauges()
    for status, number in counts.bots.items():
        bots.add_metric([status.name.lower()], number)
    drained, slots = catalogue.BOTS_DRAINED.gauges(), catalogue.BOT_SLOTS.gauges()
    drained.add_metric([], counts.drained)
    slots.add_metric([], counts.slots)
    return [bots, drained, slots]
