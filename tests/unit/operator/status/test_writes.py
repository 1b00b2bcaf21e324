"""When a status is written: a farm under steady load causes at most 12 writes a minute."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from buildgrid_operator.api.status import Condition, SchedulerStatus
from buildgrid_operator.status.writes import SCHEDULER_FIGURES, Due, due

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def ready(status: str = "True", reason: str = "Serving", message: str = "") -> Condition:
    return Condition.model_validate(
        {
            "type": "Ready",
            "status": status,
            "reason": reason,
            "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
    )


def status(**fields: Any) -> SchedulerStatus:
    return SchedulerStatus(**{"observed_generation": 1, "conditions": (ready(),), **fields})


def ask(after: SchedulerStatus, *, age: float | None = 0.0) -> Due:
    last = None if age is None else NOON - timedelta(seconds=age)
    return due(status(), after, figures=SCHEDULER_FIGURES, last_write=last, now=NOON)


def test_nothing_is_written_for_nothing() -> None:
    assert ask(status(), age=100.0) == Due(write=False)


@pytest.mark.parametrize(
    "change",
    [
        {"observed_generation": 2},
        {"conditions": (ready("False"),)},
        {"conditions": (ready(reason="ScaledToZero"),)},
        {"conditions": ()},
        {"image": "x:2"},
        {"config_hash": "abc"},
    ],
)
def test_what_matters_is_written_at_once(change: dict[str, Any]) -> None:
    assert ask(status(**change)) == Due(write=True)


@pytest.mark.parametrize(
    "change",
    [
        {"queued_jobs": 5},
        {"ready_replicas": 2},
        {"oldest_queued_time": "2026-01-01T00:00:00Z"},
        {"conditions": (ready(message="2 of 3 replicas serve"),)},
    ],
)
def test_figures_and_words_wait_for_their_turn(change: dict[str, Any]) -> None:
    assert ask(status(**change), age=2.0) == Due(write=False, wait=timedelta(seconds=3))
    assert ask(status(**change), age=5.0) == Due(write=True)


def test_after_a_restart_it_is_written_without_waiting() -> None:
    assert ask(status(queued_jobs=5), age=None) == Due(write=True)


def test_a_clock_that_was_set_back_holds_nothing_up_for_long() -> None:
    assert ask(status(queued_jobs=5), age=-3600.0) == Due(write=False, wait=timedelta(seconds=5))


def test_steady_load_causes_at_most_12_writes_a_minute() -> None:
    written, last, writes = status(), None, 0
    for tenth in range(600):
        now = NOON + timedelta(seconds=tenth / 10)
        computed = status(queued_jobs=tenth)
        if due(written, computed, figures=SCHEDULER_FIGURES, last_write=last, now=now).write:
            written, last = computed, now
            writes += 1
    assert writes == 12
