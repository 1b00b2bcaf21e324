"""What the operator tells of fleets, for Prometheus, and for HPAs that scale by it."""

import threading
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from buildgrid_scheduler.core.clock import Clock, utc_now
from prometheus_client import Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from buildgrid_operator.cluster.kinds import ObjectRef
from buildgrid_operator.keda.numbers import FleetNumbers
from buildgrid_operator.planner.plan import FleetPlan
from buildgrid_operator.process.metrics import Metrics
from buildgrid_operator.reconcile.fleet_preparing import Prepared
from buildgrid_operator.reconcile.fleet_steps import Done

_START_SECONDS = (1, 2, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600, 1200)
_LABELS = ["namespace", "name"]
_GAUGES = (
    ("desired_bots", "Bots that there should be."),
    ("replicas", "Bot pods that have not ended."),
    ("ready_bots", "Bots with a session."),
    ("starting_bots", "Pods without a session yet."),
    ("idle_bots", "Bots without an action."),
    ("busy_bots", "Bots with an action."),
    ("draining_bots", "Bots that finish what they have, and go."),
    ("updated_bots", "Pods of the newest template."),
    ("queued_jobs", "Waiting jobs that bots of the fleet could take."),
    ("executing_jobs", "Actions that run on the fleet's bots."),
)


class FleetMetrics(Collector):
    """Gauges are those of each fleet's latest pass. Called from threads."""

    def __init__(self, metrics: Metrics, numbers: FleetNumbers, clock: Clock = utc_now) -> None:
        """`numbers` is told of passes, too, so that Prometheus and KEDA are answered the same."""
        self._metrics = metrics
        self._numbers = numbers
        self._clock = clock
        self._lock = threading.Lock()
        self._figures: dict[ObjectRef, dict[str, Any]] = {}
        self._starts: dict[ObjectRef, int] = {}
        registry = metrics.registry
        self._decisions = Counter(
            "buildgrid_operator_fleet_decisions",
            "Passes that changed the number of bots, by what they did.",
            [*_LABELS, "action"],
            registry=registry,
        )
        self._pods = Counter(
            "buildgrid_operator_fleet_pods",
            "Bot pods that were created and deleted.",
            [*_LABELS, "action"],
            registry=registry,
        )
        self._interrupted = Counter(
            "buildgrid_operator_fleet_interrupted_actions",
            "Actions that were ended because spec.drain.timeout was over.",
            _LABELS,
            registry=registry,
        )
        self._start_seconds = Histogram(
            "buildgrid_operator_fleet_start_seconds",
            "From making a pod until its bot had a session.",
            _LABELS,
            buckets=_START_SECONDS,
            registry=registry,
        )
        registry.register(self)

    def seen(self, each: Prepared, plan: FleetPlan, done: Done, figures: Mapping[str, Any]) -> None:
        """A pass ended."""
        self._numbers.seen(each, plan, done, figures)
        ref = each.read.ref
        place = (ref.namespace, ref.name)
        with self._lock:
            self._figures[ref] = dict(figures)
        interrupted = sum(deletion.interrupts for deletion in done.deleted)
        self._interrupted.labels(*place).inc(interrupted)
        for action, count in (("create", done.created), ("delete", len(done.deleted))):
            if count:
                self._decisions.labels(*place, action).inc()
                self._pods.labels(*place, action).inc(count)
        for start in each.measured:
            self._start_seconds.labels(*place).observe(start.total_seconds())

    def gone(self, ref: ObjectRef) -> None:
        """There is no such fleet any more."""
        self._numbers.gone(ref)
        place = (ref.namespace, ref.name)
        with self._lock:
            self._figures.pop(ref, None)
        self._metrics.forget(ref)
        for metric in (self._interrupted, self._start_seconds):
            metric.remove(*place)
        for counter in (self._decisions, self._pods):
            for action in ("create", "delete"):
                counter.remove(*place, action)

    def collect(self) -> Iterator[Metric]:
        """The gauges, by fleet."""
        with self._lock:
            found = dict(self._figures)
        for attribute, words in _GAUGES:
            metric = GaugeMetricFamily(f"buildgrid_operator_fleet_{attribute}", words, labels=_LABELS)
            for ref, figures in found.items():
                if attribute in figures:
                    metric.add_metric([ref.namespace, ref.name], float(figures[attribute]))
            yield metric
        needed = GaugeMetricFamily(
            "buildgrid_operator_fleet_needed_bots",
            "What an autoscaler should write: bots that the work needs, within minBots and maxBots. "
            "Not there while the scheduler does not tell what waits.",
            labels=_LABELS,
        )
        for ref, bots in self._numbers.known().items():
            needed.add_metric([ref.namespace, ref.name], float(bots))
        yield needed
        age = GaugeMetricFamily(
            "buildgrid_operator_fleet_oldest_queued_age_seconds",
            "How long the oldest waiting job waits that bots of the fleet could take; 0: none does.",
            labels=_LABELS,
        )
        for ref, figures in found.items():
            since = figures.get("oldest_queued_time")
            waits = timedelta() if since is None else self._clock() - datetime.fromisoformat(since)
            age.add_metric([ref.namespace, ref.name], max(0.0, waits.total_seconds()))
        yield age
