"""Prometheus metrics of outboxes, read when they are asked for."""

from collections.abc import Iterator, Sequence
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from buildgrid_scheduler.outgoing.outbox import Outbox


class OutboxCollector(Collector):
    """Numbers of this replica alone."""

    def __init__(self, outboxes: Sequence[Outbox[Any]]) -> None:
        self._outboxes = outboxes

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client."""
        items = CounterMetricFamily(
            "buildgrid_outbox_items", "Items for other services", labels=["outbox", "outcome"]
        )
        waiting = GaugeMetricFamily("buildgrid_outbox_waiting", "Items not sent yet", labels=["outbox"])
        for outbox in self._outboxes:
            counts = outbox.counts()
            items.add_metric([outbox.name, "sent"], counts.sent)
            items.add_metric([outbox.name, "failed"], counts.failed)
            items.add_metric([outbox.name, "dropped"], counts.dropped)
            waiting.add_metric([outbox.name], counts.waiting)
        yield items
        yield waiting
