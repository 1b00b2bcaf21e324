"""How often a job was tried, for people: as its history says, which the job's own counter does not."""

from datetime import UTC, datetime

import pytest
from buildgrid_scheduler.cli.jobs import attempts_made
from buildgrid_scheduler.core.attempts import Counted
from buildgrid_scheduler.core.history import Event, EventKind

NOW = datetime(2026, 1, 1, tzinfo=UTC)
QUEUED, ASSIGNED, STARTED = (
    Event(kind, NOW) for kind in (EventKind.QUEUED, EventKind.ASSIGNED, EventKind.STARTED)
)
CANCELLED = Event(EventKind.CANCELLED, NOW)


def retried(counted: Counted) -> Event:
    return Event(EventKind.RETRIED, NOW, counted=counted)


FAILED, LOST = retried("try"), retried("infra")


@pytest.mark.parametrize(
    ("events", "done", "shown"),
    [
        ([QUEUED], False, "none yet"),
        ([QUEUED, CANCELLED], True, "none"),
        ([QUEUED, ASSIGNED], False, "1 of 5"),
        ([QUEUED, ASSIGNED, STARTED], False, "1 of 5"),
        ([QUEUED, ASSIGNED, STARTED, FAILED], False, "1 of 5"),
        ([QUEUED, ASSIGNED, STARTED, FAILED, ASSIGNED], False, "2 of 5"),
        ([QUEUED, LOST], False, "0 of 5, and 1 lost for the farm's reasons, which do not count"),
        (
            [QUEUED, ASSIGNED, LOST, ASSIGNED, FAILED, ASSIGNED, CANCELLED],
            True,
            "2 of 5, and 1 lost for the farm's reasons, which do not count",
        ),
    ],
)
def test_attempts_are_those_that_bots_were_given(events: list[Event], done: bool, shown: str) -> None:
    assert attempts_made(events, 5, done=done) == shown
    assert attempts_made(events, None, done=done) == shown.replace(" of 5", "")
