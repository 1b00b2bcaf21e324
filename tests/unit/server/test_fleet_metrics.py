"""The farm in numbers: bounded, the same on every replica, and left out rather than wrong."""

from datetime import UTC, datetime, timedelta

import pytest
from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.engine.fleet_counts import FleetCounts
from buildgrid_scheduler.server.metrics.fleet import FleetCollector
from buildgrid_scheduler.stats.histograms import MOST_LABELS, OTHER_LABELS
from prometheus_client import CollectorRegistry

NOW = datetime(2030, 1, 31, 12, tzinfo=UTC)
INTERVAL = timedelta(seconds=10)


class Fleet:
    """A collector over counts of the test's, at a time of the test's."""

    def __init__(self) -> None:
        self.now = NOW
        self.counts = FleetCounts(NOW)
        self.error: Exception | None = None
        self.registry = CollectorRegistry()
        self.collector = FleetCollector(self._read, INTERVAL, self.registry, clock=lambda: self.now)

    def _read(self) -> FleetCounts:
        if self.error is not None:
            raise self.error
        return self.counts

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)

    def labels(self, name: str) -> dict[str, float]:
        return {
            sample.labels["property_label"]: sample.value
            for family in self.registry.collect()
            for sample in family.samples
            if sample.name == name
        }


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


def test_the_counts_are_told(fleet: Fleet) -> None:
    fleet.counts = FleetCounts(
        NOW,
        waiting={"gpu": (3, NOW - timedelta(minutes=2)), "unknown": (1, NOW)},
        assigned=2,
        executing=5,
        bots={**dict.fromkeys(BotStatus, 0), BotStatus.OK: 4, BotStatus.BOT_TERMINATING: 1},
        drained=1,
        slots=6,
    )
    fleet.collector.look()
    assert fleet.labels("buildgrid_queue_jobs") == {"gpu": 3, "unknown": 1}
    assert fleet.labels("buildgrid_queue_oldest_seconds") == {"gpu": 120, "unknown": 0}
    # A job that its bot has not been told of waits, as its clients see it.
    assert fleet.value("buildgrid_jobs", stage="queued") == 6
    assert fleet.value("buildgrid_jobs", stage="executing") == 5
    assert fleet.value("buildgrid_leases") == 7
    assert fleet.value("buildgrid_bots", status="ok") == 4
    assert fleet.value("buildgrid_bots", status="bot_terminating") == 1
    assert fleet.value("buildgrid_bots", status="unhealthy") == 0
    assert fleet.value("buildgrid_bots_drained") == 1
    assert fleet.value("buildgrid_bot_slots") == 6


def test_labels_are_bounded_and_the_deepest_keep_their_names(fleet: Fleet) -> None:
    many = {f"label-{n:04}": (n + 1, NOW - timedelta(seconds=n)) for n in range(150)}
    fleet.counts = FleetCounts(NOW, waiting={**many, OTHER_LABELS: (1000, NOW)})
    fleet.collector.look()
    jobs = fleet.labels("buildgrid_queue_jobs")
    assert len(jobs) == MOST_LABELS
    assert jobs["label-0149"] == 150
    assert "label-0000" not in jobs
    assert sum(jobs.values()) == sum(number for number, _ in fleet.counts.waiting.values())
    assert max(fleet.labels("buildgrid_queue_oldest_seconds").values()) == 149


def test_what_is_too_old_is_left_out(fleet: Fleet) -> None:
    fleet.collector.look()
    fleet.error = OSError("away")
    fleet.now += INTERVAL * 3
    fleet.collector.look()
    assert fleet.value("buildgrid_jobs", stage="queued") == 0
    fleet.now += INTERVAL * 10
    assert fleet.value("buildgrid_jobs", stage="queued") is None
    assert fleet.value("buildgrid_fleet_read_age_seconds") == 130
    assert fleet.value("buildgrid_fleet_read_failures_total") == 1
    fleet.error = None
    fleet.counts = FleetCounts(fleet.now, executing=1)
    fleet.collector.look()
    assert fleet.value("buildgrid_jobs", stage="executing") == 1


def test_an_outage_is_logged_once(fleet: Fleet, caplog: pytest.LogCaptureFixture) -> None:
    fleet.error = OSError("away")
    for _ in range(3):
        fleet.collector.look()
    assert [record.message for record in caplog.records] == [
        "the numbers about the farm cannot be read: away"
    ]
    fleet.error = None
    fleet.collector.look()
    fleet.error = OSError("again")
    fleet.collector.look()
    assert len(caplog.records) == 2


def test_nothing_is_told_before_it_was_read(fleet: Fleet) -> None:
    assert fleet.value("buildgrid_jobs", stage="queued") is None
    assert fleet.value("buildgrid_fleet_read_age_seconds") is None
