"""Prometheus metrics of the engine, read when they are asked for."""

from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from buildgrid_scheduler.engine.engine import Engine


class EngineCollector(Collector):
    """Numbers of this replica alone."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client."""
        engine = self._engine
        yield GaugeMetricFamily(
            "buildgrid_held_bot_calls", "Calls of bots that wait for work here", value=engine.waiting.held
        )
        yield GaugeMetricFamily(
            "buildgrid_watched_jobs", "Jobs that clients follow here", value=engine.watches.jobs
        )
        batches = CounterMetricFamily("buildgrid_batches", "Batches run", labels=["kind"])
        items = CounterMetricFamily("buildgrid_batch_items", "Items in these batches", labels=["kind"])
        seconds = CounterMetricFamily(
            "buildgrid_batch_seconds", "Time spent on these batches", labels=["kind"]
        )
        for kind, counts in engine.batch_counts().items():
            batches.add_metric([kind], counts.batches)
            items.add_metric([kind], counts.items)
            seconds.add_metric([kind], counts.seconds)
        yield batches
        yield items
        yield seconds
