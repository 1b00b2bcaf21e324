"""What the engine does, counted as it happens, and what waits in it, read when it is asked for."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric
from prometheus_client.registry import Collector

from buildgrid_scheduler.core.completion import code_name
from buildgrid_scheduler.server.metrics import catalogue
from buildgrid_scheduler.stats.histograms import BoundedLabels

if TYPE_CHECKING:
    from buildgrid_scheduler.core.completed_job import CompletedJob
    from buildgrid_scheduler.engine.engine import Engine
    from buildgrid_scheduler.engine.items import Effects
    from buildgrid_scheduler.engine.lease_ends import LeaseChanges
    from buildgrid_scheduler.engine.round import Round


M = TypeVar("M", Counter, Histogram)


class _Series(dict[str, M]):
    """The series of a metric by its only label. `labels` checks and locks, each time that it is asked."""

    def __init__(self, metric: M) -> None:
        super().__init__()
        self._metric: M = metric

    def __missing__(self, label: str) -> M:
        series: M = self._metric.labels(label)
        self[label] = series
        return series


class EngineMetrics:
    """An EngineObserver."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._labels = BoundedLabels()
        self._items = _Series(catalogue.BATCH_ITEMS.histogram(registry))
        self._seconds = _Series(catalogue.BATCH_SECONDS.histogram(registry))
        self._statements = _Series(catalogue.STATEMENT_SECONDS.histogram(registry))
        self._assignment = _Series(catalogue.ASSIGNMENT.histogram(registry))
        enqueued = catalogue.ENQUEUED.counter(registry)
        self._queued, self._shared, self._cached, self._refused = (
            enqueued.labels(outcome) for outcome in ("queued", "shared", "cached", "refused")
        )
        ends = catalogue.LEASE_ENDS.counter(registry)
        self._completed, self._requeued, self._discarded = (
            ends.labels(outcome) for outcome in ("completed", "requeued", "discarded")
        )
        self._jobs_completed = _Series(catalogue.JOBS_COMPLETED.counter(registry))

    def batch(self, thread: str, items: int, seconds: float) -> None:
        """See EngineObserver."""
        self._items[thread].observe(items)
        self._seconds[thread].observe(seconds)

    def statement(self, name: str, seconds: float) -> None:
        """See EngineObserver."""
        self._statements[name].observe(seconds)

    def round(self, work: "Round") -> None:
        """See EngineObserver."""
        made = {job.name for job in work.new_jobs}
        for item, enqueued in work.enqueued:
            if enqueued.cached is not None:
                continue  # it comes again, with the result or to be queued
            if enqueued.job_name == item.job.name and enqueued.job_name in made:
                self._queued.inc()
            elif enqueued.job_name == item.job.name and item.job.response is not None:
                self._cached.inc()
            else:
                self._shared.inc()
        if work.batch is not None:
            self._refused.inc(len(work.batch.refused))
        for claim in work.claims:
            for label, waited in claim.waits:
                self._assignment[self._labels(label)].observe(max(0.0, waited.total_seconds()))
        self._changed(work.changes)
        self._ended(work.effects.completed)

    def errand(self, effects: "Effects") -> None:
        """See EngineObserver."""
        for changes in effects.lease_changes:
            self._changed(changes)
        self._ended(effects.completed)

    def _changed(self, changes: "LeaseChanges") -> None:
        self._completed.inc(len(changes.completed))
        self._requeued.inc(len(changes.requeued))
        self._discarded.inc(len(changes.freed))

    def _ended(self, jobs: "Sequence[CompletedJob]") -> None:
        for job in jobs:
            self._jobs_completed[code_name(job.status_code)].inc()


class EngineState(Collector):
    """How many wait here."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine

    def collect(self) -> Iterable[Metric]:
        """See prometheus_client."""
        held, watched = catalogue.HELD_CALLS.gauges(), catalogue.WATCHED_JOBS.gauges()
        held.add_metric([], self._engine.waiting.held)
        watched.add_metric([], self._engine.watches.jobs)
        return (held, watched)
