"""What the operator counts, for Prometheus."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from buildgrid_operator.api.status import Condition
from buildgrid_operator.cluster.client import Call
from buildgrid_operator.cluster.errors import ClusterError
from buildgrid_operator.cluster.kinds import ObjectRef
from buildgrid_operator.reconcile.key_states import Figures

_STATES = ("True", "False", "Unknown")
_PASS_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_CALL_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


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

    def watch_queue(self, figures: Callable[[], Figures], retries: Callable[[], int]) -> None:
        """Show a queue; it is asked when the metrics are scraped."""
        self.registry.register(_QueueCollector(figures, retries))

    def watch_leadership(self, leads: Callable[[], bool]) -> None:
        """Show whether this replica acts."""
        self._leader.set_function(lambda: float(leads()))

    def passed(self, key: object, seconds: float, error: Exception | None) -> None:
        """A pass ended (see `PassObserver`)."""
        kind = key.kind.kind if isinstance(key, ObjectRef) else type(key).__name__
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
    def __init__(self, figures: Callable[[], Figures], retries: Callable[[], int]) -> None:
        self._figures = figures
        self._retries = retries

    def collect(self) -> Iterator[Metric]:
        figures = self._figures()
        for name, value, words in (
            ("queue_depth", figures.waiting, "Objects that wait for a pass."),
            ("queue_running", figures.running, "Passes that run."),
            ("queue_failing", figures.failing, "Objects whose last pass failed."),
            ("queue_objects", figures.known, "Objects that are looked after."),
            ("queue_oldest_age_seconds", figures.oldest_seconds, "How long the oldest object has waited."),
        ):
            yield GaugeMetricFamily(f"buildgrid_operator_{name}", words, value=float(value))
        retries = Metric(
            "buildgrid_operator_queue_retries",
            "Passes that failed and were put back into the queue.",
            "counter",
        )
        retries.add_sample("buildgrid_operator_queue_retries_total", {}, float(self._retries()))
        yield retries
