"""What a Scheduler that is being deleted waits for, and until when."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from buildgrid_operator.api.scheduler import Deletion
from buildgrid_operator.cluster.fleet_state import FleetState, Requirement
from buildgrid_operator.cluster.kinds import DEPLOYMENT, SCHEDULER
from buildgrid_operator.reconcile.deletion import FINALIZER, still_draining, wait_until
from buildgrid_operator.status.scheduler_conditions import ConfigState, Draining

from tests.unit.operator.reconcile.objects import Json, obj

SINCE = datetime(2026, 1, 2, tzinfo=UTC)
UNTIL = SINCE + timedelta(minutes=10)
DRAIN = Deletion.model_validate({"drain": True, "drainTimeout": "10m"})
BUSY = FleetState(requirements=(Requirement("", "h", {}, queued=2, executing=1),))
EXECUTING = FleetState(requirements=(Requirement("", "h", {}, executing=1),))
TOLD = ConfigState("new", ready=2, configured=2)
HALF = ConfigState("new", ready=2, configured=1)


def _scheduler(*finalizers: str) -> Json:
    scheduler = obj(SCHEDULER, "main")
    found = {"deletionTimestamp": "2026-01-02T00:00:00Z", "finalizers": [FINALIZER, *finalizers]}
    scheduler["metadata"] |= found
    return scheduler


def _deployment(owner: str = "uid-main", *, ends: bool = False) -> Json:
    deployment = obj(DEPLOYMENT, "main-scheduler")
    deployment["metadata"]["ownerReferences"] = [{"uid": owner}]
    if ends:
        deployment["metadata"]["deletionTimestamp"] = "2026-01-02T00:00:00Z"
    return deployment


def _until(after: timedelta = timedelta(minutes=1), **otherwise: Any) -> datetime | None:
    given: dict[str, Any] = {"scheduler": _scheduler(), "deletion": DRAIN, "deployment": _deployment()}
    given |= {"served": True, **otherwise}
    scheduler, deletion, deployment = (given.pop(name) for name in ("scheduler", "deletion", "deployment"))
    return wait_until(scheduler, deletion, deployment, now=SINCE + after, **given)


def test_it_waits_for_its_jobs_until_the_drain_timeout() -> None:
    assert _until() == UNTIL


@pytest.mark.parametrize(
    "otherwise",
    [
        {"after": timedelta(minutes=10)},
        {"deletion": Deletion()},
        {"deletion": None},
        {"served": False},
        {"deployment": None},
        {"deployment": _deployment(ends=True)},
        {"scheduler": _scheduler("orphan")},
        {"deployment": _deployment(owner="another")},
    ],
    ids=[
        "time is up",
        "not to drain",
        "unreadable spec",
        "never served",
        "no Deployment",
        "a Deployment that goes",
        "to be orphaned",
        "orphaned",
    ],
)
def test_else_it_does_not_wait(otherwise: dict[str, Any]) -> None:
    assert _until(**otherwise) is None


def test_it_waits_for_jobs_that_are_queued_or_execute() -> None:
    assert still_draining(BUSY, TOLD, UNTIL) == Draining(2, 1, UNTIL, 2, 2)
    assert still_draining(EXECUTING, TOLD, UNTIL) == Draining(0, 1, UNTIL, 2, 2)


def test_without_jobs_it_waits_until_no_replica_takes_new_ones() -> None:
    assert still_draining(FleetState(), HALF, UNTIL) == Draining(0, 0, UNTIL, 1, 2)
    assert still_draining(FleetState(), TOLD, UNTIL) is None


def test_it_waits_for_replicas_that_do_not_tell() -> None:
    assert still_draining(None, HALF, UNTIL) == Draining(None, None, UNTIL)


def test_a_replica_that_cannot_refuse_jobs_is_waited_for_only_while_there_are_some() -> None:
    old = ConfigState("new", ready=2, configured=1, errors=(("pod", "accept_new_jobs: is not known"),))
    assert still_draining(FleetState(), old, UNTIL) is None
    told = still_draining(BUSY, old, UNTIL)
    assert told is not None and told.accepts == "accept_new_jobs: is not known"


def test_where_nobody_can_be_told_to_refuse_jobs_it_waits_for_those_that_there_are() -> None:
    assert still_draining(FleetState(), HALF, UNTIL, "no ConfigMap") is None
    told = still_draining(BUSY, HALF, UNTIL, "no ConfigMap")
    assert told is not None and (told.queued, told.accepts) == (2, "no ConfigMap")
