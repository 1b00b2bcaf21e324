"""What is written into a status where the cluster's CRD is older than the operator."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from buildgrid_operator.api.status import PropertySetStatus
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.errors import Cause, Invalid
from buildgrid_operator.cluster.kinds import PROPERTY_SET, Manifest, ObjectRef
from buildgrid_operator.reconcile.cache import Cache
from buildgrid_operator.reconcile.event_recorder import EventRecorder
from buildgrid_operator.reconcile.status_writer import StatusWriter, Told
from buildgrid_operator.status.conditions import PROPERTY_SET_CONDITIONS
from buildgrid_operator.status.property_set_conditions import property_set_verdicts
from buildgrid_operator.status.writes import PROPERTY_SET_FIGURES

from tests.unit.operator.reconcile.objects import obj

TOLD = Told(property_set_verdicts([], []), PROPERTY_SET_CONDITIONS, PROPERTY_SET_FIGURES)


class OldCluster:
    """Refuses a status for the first field that it does not know, as server-side apply does."""

    def __init__(self, *unknown: str, code: int = 500) -> None:
        self.unknown = unknown
        self._code = code
        self.calls = 0
        self.live: Manifest = obj(PROPERTY_SET, "usual")

    def patch_status(self, ref: ObjectRef, status: Mapping[str, Any], *, resource_version: str) -> Manifest:
        self.calls += 1
        for name in self.unknown:
            if name in status:
                raise Invalid("refused", [Cause(f"status.{name}", "no such field")], code=self._code)
        self.live = {**self.live, "status": dict(status)}
        return self.live

    def create(self, event: Manifest) -> Manifest:
        return event


class World:
    """A PropertySet, and a clock that is set."""

    def __init__(self, cluster: OldCluster) -> None:
        self.cluster = cluster
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        client = cast(Client, cluster)
        recorder = EventRecorder(client, "pod-0", self._clock)
        self.writer = StatusWriter(client, Cache(), recorder, lambda *_: None, self._clock)

    def _clock(self) -> datetime:
        return self.now

    def told(self, used_by: int = 3) -> Manifest:
        """A pass; returns the status that the cluster has then."""
        before = PropertySetStatus.model_validate(self.cluster.live.get("status") or {})
        after = before.model_copy(update={"kind": "Dynamic", "used_by": used_by, "schedulers": ("main",)})
        self.writer.write(self.cluster.live, before, after, TOLD, 1)
        self.now += timedelta(seconds=10)
        status: Manifest = self.cluster.live.get("status") or {}
        return status


def test_fields_that_it_does_not_know_are_left_out() -> None:
    world = World(OldCluster("usedBy", "schedulers"))
    status = world.told()
    assert status["kind"] == "Dynamic"
    assert status["conditions"][0]["type"] == "Ready"
    assert not {"usedBy", "schedulers"} & set(status)


def test_what_cannot_be_told_causes_no_writes() -> None:
    world = World(OldCluster("usedBy", "schedulers"))
    world.told(1)
    calls = world.cluster.calls
    for used_by in range(2, 9):
        world.told(used_by)
    assert world.cluster.calls == calls


def test_a_newer_crd_is_noticed_ten_minutes_later() -> None:
    world = World(OldCluster("usedBy"))
    world.told()
    world.cluster.unknown = ()
    assert "usedBy" not in world.told(4)
    world.now += timedelta(minutes=10)
    assert world.told(4)["usedBy"] == 4


@pytest.mark.parametrize(("field", "code"), [("conditions", 500), ("kind", 422)])
def test_what_must_be_told_and_what_is_wrong_is_no_matter_of_versions(field: str, code: int) -> None:
    with pytest.raises(Invalid):
        World(OldCluster(field, code=code)).told()
