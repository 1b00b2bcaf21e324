"""What an uninstallation waits for."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from buildgrid_operator.cli.drain import is_held_by_somebody, jobs_left
from buildgrid_operator.cluster.kinds import SCHEDULER

from tests.unit.operator.reconcile.objects import obj

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
DRAIN = {"deletion": {"drain": True}}


@pytest.mark.parametrize(
    ("spec", "status", "words"),
    [
        (DRAIN, {"version": "1", "queuedJobs": 2, "executingJobs": 0}, "0 jobs executing, 2 queued"),
        (DRAIN, {"version": "1", "queuedJobs": 0, "executingJobs": 1}, "1 jobs executing, 0 queued"),
        (DRAIN, {"version": "1"}, "is not known"),
        (DRAIN, {"version": "1", "queuedJobs": 0, "executingJobs": 0}, ""),
        (DRAIN, {}, ""),
        ({}, {"version": "1", "queuedJobs": 2, "executingJobs": 1}, ""),
    ],
    ids=["queued", "executing", "unknown", "idle", "never served", "not to drain"],
)
def test_jobs_of_those_that_are_to_drain(spec: Any, status: Any, words: str) -> None:
    found = jobs_left(obj(SCHEDULER, "main", spec=spec, status=status))
    assert words in found
    assert bool(found) == bool(words)


def _lease(holder: str = "pod-0", renewed: timedelta = timedelta(seconds=5)) -> dict[str, Any]:
    spec = {
        "holderIdentity": holder,
        "leaseDurationSeconds": 15,
        "renewTime": (NOW - renewed).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    }
    return {"spec": spec}


@pytest.mark.parametrize(
    ("lease", "held"),
    [
        (_lease(), True),
        (_lease(renewed=timedelta(seconds=16)), False),
        (_lease(holder=""), False),
        ({"spec": {}}, False),
        (None, False),
    ],
    ids=["held", "ran out", "free", "new", "none"],
)
def test_an_operator_leads_while_its_lease_is_good(lease: dict[str, Any] | None, held: bool) -> None:
    assert is_held_by_somebody(lease, NOW) is held
