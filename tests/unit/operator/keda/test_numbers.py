"""What passes leave for autoscalers: KEDA and Prometheus are told one number, or both none."""

from datetime import datetime

import pytest
from buildgrid_operator.cluster.fleet_state import Requirement
from buildgrid_operator.cluster.kinds import BOT_FLEET, ObjectRef
from buildgrid_operator.keda.answers import Refused, Target, Why
from buildgrid_operator.keda.numbers import FleetNumbers
from buildgrid_operator.process.fleet_metrics import FleetMetrics
from buildgrid_operator.process.metrics import Metrics

from tests.unit.operator.reconcile.farm_world import NOON, FarmWorld

LINUX = Target("farm", "linux")
REF = ObjectRef(BOT_FLEET, "farm", "linux")
LABELS = {"namespace": "farm", "name": "linux"}


class Asked:
    """A farm whose passes are observed, and who may ask."""

    def __init__(self, world: FarmWorld, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = world
        self.numbers = FleetNumbers(world.cache.get, self._heard, lambda: None, lambda: world.now)
        self._metrics = Metrics()
        observer = FleetMetrics(self._metrics, self.numbers, lambda: world.now)
        monkeypatch.setattr(world.nobody, "seen", observer.seen)
        monkeypatch.setattr(world.nobody, "gone", observer.gone)

    def _heard(self, scheduler: ObjectRef) -> datetime | None:
        return self.world.nobody.heard.at if scheduler.name == "main" else None

    def gauge(self, name: str) -> float | None:
        return self._metrics.registry.get_sample_value(f"buildgrid_operator_fleet_{name}", LABELS)

    def keda(self) -> int | Why:
        try:
            return self.numbers.bots(LINUX)
        except Refused as refused:
            return refused.why


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(FarmWorld(), monkeypatch)


def waiting(jobs: int) -> Requirement:
    return Requirement("", "hash", {"OSFamily": ("linux",)}, jobs, oldest_queued=NOON)


def test_both_are_told_what_the_work_needs_and_the_status_what_was_written(asked: Asked) -> None:
    asked.world.fleet(replicas=1, scaling={"mode": "External", "maxBots": 4})
    asked.world.hears(waiting(3)).run()
    assert (asked.keda(), asked.gauge("needed_bots")) == (3, 3.0)
    assert asked.gauge("desired_bots") == asked.world.status()["desiredBots"] == 1
    assert len(asked.world.names()) == 1


def test_of_a_fleet_that_decides_itself_prometheus_is_told_and_keda_is_not(asked: Asked) -> None:
    asked.world.fleet(scaling={"maxBots": 4})
    asked.world.hears(waiting(3)).run()
    assert (asked.keda(), asked.gauge("needed_bots")) == (Why.NOT_EXTERNAL, 3.0)


def test_none_is_told_once_the_scheduler_is_silent_although_no_pass_has_seen_it(asked: Asked) -> None:
    asked.world.fleet(replicas=0, scaling={"mode": "External"})
    asked.world.hears(waiting(3)).run()
    asked.world.after(16)
    assert (asked.keda(), asked.gauge("needed_bots")) == (Why.NOT_KNOWN, None)
    asked.world.run()
    assert (asked.keda(), asked.gauge("needed_bots")) == (Why.NOT_KNOWN, None)
    asked.world.hears(waiting(2)).run()
    assert (asked.keda(), asked.gauge("needed_bots")) == (2, 2.0)


def test_a_fleet_that_is_gone_is_forgotten(asked: Asked) -> None:
    asked.world.fleet(replicas=0, scaling={"mode": "External"})
    asked.world.hears().run()
    assert asked.keda() == 0
    obj = asked.world.cache.get(REF)
    assert obj is not None
    asked.world.cache.remove(obj)
    asked.world.run()
    assert (asked.keda(), asked.gauge("needed_bots")) == (Why.NO_FLEET, None)
