"""What the operator counts, for Prometheus."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from buildgrid_operator.api.status import Condition
from buildgrid_operator.cluster.client import Call
from buildgrid_operator.cluster.errors import ClusterError
from buildgrid_operator.cluster.kinds import BOT_FLEET, ObjectRef
from buildgrid_operator.reconcile.key_states import Figures

_STATES = ("True", "False", "Unknown")
_PASS_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_CALL_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


Queue = tuple[Callable[[], Figures], Callable[[], int]]
"""its figures, and how many passes failed so far"""
_FIGURES: tuple[tuple[str, Callable[[Figures], float], str], ...] = (
    ("queue_depth", lambda figures: figures.waiting, "Keys that wait for a pass."),
    ("queue_running", lambda figures: figures.running, "Passes that run."),
    ("queue_failing", lambda figures: figures.failing, "Keys whose last pass failed."),
    ("queue_objects", lambda figures: figures.known, "Keys that are looked after."),
    (
        "queue_oldest_age_seconds",
        lambda figures: figures.oldest_seconds,
        "How long the oldest key waits.",
    ),
)


class Metrics:
    """All metrics of the process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._passes = Counter(
            "buildgrid_operator_reconcile",
            "Passes, by kind of object and whether they succeeded.",
            ["kind", "result"],
            registry=self.registry,
        )
        self._pass_seconds = Histogram(
            "buildgrid_operator_reconcile_duration_seconds",
            "How long a pass takes.",
            ["kind"],
            buckets=_PASS_SECONDS,
            registry=self.registry,
        )
        self._errors = Counter(
            "buildgrid_operator_reconcile_errors",
            "Passes that failed, by the type of the error.",
            ["kind", "error"],
            registry=self.registry,
        )
        self._calls = Counter(
            "buildgrid_operator_api_calls",
            "Calls of the API server, by HTTP status; 0: there was no answer.",
            ["verb", "kind", "code"],
            registry=self.registry,
        )
        self._call_seconds = Histogram(
            "buildgrid_operator_api_call_duration_seconds",
            "How long a call of the API server takes.",
            ["verb"],
            buckets=_CALL_SECONDS,
            registry=self.registry,
        )
        self._conditions = Gauge(
            "buildgrid_operator_condition",
            "1 for the status that a condition of an object has.",
            ["kind", "namespace", "name", "type", "status"],
            registry=self.registry,
        )
        self._leader = Gauge(
            "buildgrid_operator_leader", "Whether this replica is the one that acts.", registry=self.registry
        )
        self._types: dict[ObjectRef, tuple[str, ...]] = {}

    def watch_queues(self, queues: Mapping[str, Queue]) -> None:
        """Show queues by name; they are asked when the metrics are scraped."""
        self.registry.register(_QueueCollector(queues))

    def watch_leadership(self, leads: Callable[[], bool]) -> None:
        """Show whether this replica acts."""
        self._leader.set_function(lambda: float(leads()))

    def passed(self, key: object, seconds: float, error: Exception | None) -> None:
        """A pass ended (see `PassObserver`)."""
        kind = key.kind.kind if isinstance(key, ObjectRef) else BOT_FLEET.kind
        self._passes.labels(kind, "success" if error is None else "error").inc()
        self._pass_seconds.labels(kind).observe(seconds)
        if error is not None:
            name = type(error).__name__ if isinstance(error, ClusterError) else "Unexpected"
            self._errors.labels(kind, name).inc()

    def called(self, call: Call) -> None:
        """The API server was called; from any thread."""
        self._calls.labels(call.verb, call.kind, str(call.code)).inc()
        self._call_seconds.labels(call.verb).observe(call.seconds)

    def show_conditions(self, ref: ObjectRef, conditions: Sequence[Condition]) -> None:
        """The conditions of an object, as they are now."""
        types = tuple(condition.type for condition in conditions)
        self._remove(ref, set(self._types.get(ref, ())) - set(types))
        self._types[ref] = types
        for condition in conditions:
            for state in _STATES:
                value = float(condition.status == state)
                self._conditions.labels(*_labels(ref), condition.type, state).set(value)

    def forget(self, ref: ObjectRef) -> None:
        """The object is gone."""
        self._remove(ref, self._types.pop(ref, ()))

    def _remove(self, ref: ObjectRef, types: Iterable[str]) -> None:
        for name in types:
            for state in _STATES:
                self._conditions.remove(*_labels(ref), name, state)


def _labels(ref: ObjectRef) -> tuple[str, str, str]:
    return ref.kind.kind, ref.namespace, ref.name


class _QueueCollector(Collector):
    def __init__(self, queues: Mapping[str, Queue]) -> None:
        self._queues = queues

    def collect(self) -> Iterator[Metric]:
        figures = {name: ask() for name, (ask, _) in self._queues.items()}
        for name, read, words in _FIGURES:
            metric = GaugeMetricFamily(f"buildgrid_operator_{name}", words, labels=["queue"])
            for queue, found in figures.items():
                metric.add_metric([queue], float(read(found)))
            yield metric
        retries = CounterMetricFamily(
            "buildgrid_operator_queue_retries",
            "Passes that failed and were put back into the queue.",
            labels=["queue"],
        )
        for queue, (_, ask_retries) in self._queues.items():
            retries.add_metric([queue], float(ask_retries()))
        yield retries
