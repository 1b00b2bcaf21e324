"""Prometheus histograms of executions, by property label."""

import threading
from collections.abc import Iterable

from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import ExecutedActionMetadata
from prometheus_client import CollectorRegistry, Histogram, Metric
from prometheus_client.registry import Collector

from buildgrid_scheduler.stats.durations import durations

MOST_LABELS = 100
"""Distinct property labels that metrics tell apart: clients may make labels up, and each is a time series."""
OTHER_LABELS = "other"

# Seconds: a wait for a bot is milliseconds, a test suite hours.
_BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 1800, 3600, 7200)


class BoundedLabels:
    """The first labels that come along are told apart; all others are one. Thread-safe."""

    def __init__(self, most: int = MOST_LABELS) -> None:
        self._most = most
        self._known: set[str] = set()
        self._lock = threading.Lock()

    def __call__(self, label: str) -> str:
        """The label itself, or OTHER_LABELS."""
        if label in self._known:
            return label
        with self._lock:
            if len(self._known) >= self._most:
                return OTHER_LABELS
            self._known.add(label)
            return label


class ExecutionHistograms(Collector):
    """What jobs took that completed on this replica. A collector of its own, for any registry."""

    def __init__(self, registry: CollectorRegistry | None = None, *, most_labels: int = MOST_LABELS) -> None:
        """`registry`: where to register; None: the caller does it, or nobody looks."""
        self._labels = BoundedLabels(most_labels)
        self._durations = Histogram(
            "buildgrid_execution_seconds",
            "Time that the steps of executions took",
            labelnames=("property_label", "step"),
            buckets=_BUCKETS,
            registry=None,
        )
        if registry is not None:
            registry.register(self)

    def observe(self, metadata: ExecutedActionMetadata, property_label: str) -> None:
        """Count an execution. Steps without timestamps are passed over."""
        label = self._labels(property_label)
        for step, duration in durations(metadata).items():
            self._durations.labels(label, step.value).observe(duration.total_seconds())

    def collect(self) -> Iterable[Metric]:
        """See prometheus_client."""
        return self._durations.collect()
