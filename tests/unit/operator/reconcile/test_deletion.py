"""What a Scheduler that is being deleted waits for."""

from datetime import UTC, datetime, timedelta

import pytest
from buildgrid_operator.api.scheduler import Deletion
from buildgrid_operator.cluster.fleet import FleetState, Requirement
from buildgrid_operator.reconcile.deletion import still_draining
from buildgrid_operator.status.scheduler_conditions import Draining

SINCE = datetime(2026, 1, 2, tzinfo=UTC)
DRAIN = Deletion.model_validate({"drain": True, "drainTimeout": "10m"})
BUSY = FleetState(requirements=(Requirement("", "h", {}, queued=2, executing=1),))
EXECUTING = FleetState(requirements=(Requirement("", "h", {}, executing=1),))


def _draining(
    deletion: Deletion | None = DRAIN,
    state: FleetState | None = BUSY,
    *,
    served: bool = True,
    after: timedelta = timedelta(minutes=1),
) -> Draining | None:
    return still_draining(deletion, state, served=served, since=SINCE, now=SINCE + after)


def test_for_jobs_that_wait_or_execute() -> None:
    assert _draining() == Draining(2, 1)
    assert _draining(state=EXECUTING) == Draining(0, 1)


def test_for_replicas_that_do_not_tell() -> None:
    assert _draining(state=None) == Draining(None, None)


@pytest.mark.parametrize(
    "draining",
    [
        _draining(state=FleetState()),
        _draining(after=timedelta(minutes=10)),
        _draining(state=None, after=timedelta(minutes=10)),
        _draining(deletion=Deletion()),
        _draining(deletion=None),
        _draining(served=False, state=None),
    ],
    ids=["no jobs", "time is up", "time is up, unknown", "not to drain", "unreadable spec", "never served"],
)
def test_else_for_nothing(draining: Draining | None) -> None:
    assert draining is None
