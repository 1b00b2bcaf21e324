"""What this replica does to the farm is heard of at once, and what does nothing to it is not."""

from collections.abc import Callable
from typing import Any

import pytest
from buildgrid_scheduler.core.requirements import requirement_hash
from buildgrid_scheduler.engine.assigning import assign_waiting
from buildgrid_scheduler.engine.draining import drain_if_idle, drain_some_if_idle, drain_when_idle, undrain
from buildgrid_scheduler.engine.farm_changes import FarmChanges

from tests.integration.engine.faults import ERRANDS, first_commit_unheard
from tests.integration.engine.replica import (
    ACTIVE,
    LONGEST_PAUSE,
    Replica,
    Report,
    failure,
    result,
    success,
)


class Hearing:
    """Of what a replica does."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._heard = 0
        changes = FarmChanges()
        replica.engine.observe_work(changes)
        changes.listen(self._hear)

    def _hear(self) -> None:
        self._heard += 1

    def of(self, act: Callable[[], Any]) -> bool:
        """Whether anything is heard while somebody acts, and until all that led to is done."""
        self._replica.settle()
        self._heard = 0
        act()
        self._replica.settle()
        return self._heard > 0


@pytest.fixture
def hears(replica: Replica) -> Hearing:
    return Hearing(replica)


def test_the_life_of_a_job_and_of_its_bot_is_heard_of(replica: Replica, hears: Hearing) -> None:
    sessions: list[str] = []
    assert hears.of(lambda: sessions.append(replica.open()))
    (session,) = sessions
    jobs: list[str] = []
    assert hears.of(lambda: jobs.append(replica.enqueue("action").job_name))
    (job,) = jobs
    assert hears.of(lambda: replica.take(session))
    assert hears.of(lambda: replica.sync(session, reports={job: failure()}))
    replica.clock.advance(LONGEST_PAUSE)
    assert hears.of(lambda: replica.take(session))
    replica.sync(session, reports={job: Report(ACTIVE)})
    assert hears.of(lambda: replica.sync(session, reports={job: success()}))
    assert hears.of(lambda: replica.close(session))


def test_a_job_that_is_cancelled_or_assigned_by_name_is_heard_of(replica: Replica, hears: Hearing) -> None:
    session = replica.open()
    operations = [replica.enqueue(word).operation_name for word in ("first", "second")]
    assert hears.of(lambda: replica.cancel(operations[0]))
    assign = assign_waiting("", requirement_hash({}), [session], by_age=False)
    assert hears.of(lambda: replica.call(assign))
    assert hears.of(lambda: replica.cancel(operations[1]))


def test_marks_are_heard_of_with_and_without_a_session(replica: Replica, hears: Hearing) -> None:
    replica.open("idle")
    for transaction in (
        drain_when_idle("", ["absent"]),
        drain_if_idle("", ["another"]),
        drain_some_if_idle("", 1),
        undrain("", ["absent"]),
    ):
        assert hears.of(lambda transaction=transaction: replica.call(transaction))  # type: ignore[misc]


def test_what_was_committed_unheard_is_heard_of_in_the_end(
    replica: Replica, hears: Hearing, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica.call(drain_when_idle("", ["absent"]))

    def unheard() -> None:
        with first_commit_unheard(monkeypatch, ERRANDS):
            replica.call(undrain("", ["absent"]))

    assert hears.of(unheard)


def test_a_session_that_a_report_closes_is_heard_of(replica: Replica, hears: Hearing) -> None:
    session = replica.open()
    job = replica.enqueue("action").job_name
    replica.take(session)
    replica.sync(session, reports={job: Report(ACTIVE)})
    assert hears.of(lambda: result(replica.submitted_sync(session), quiet=True))


def test_reports_that_change_nothing_are_not_heard_of(replica: Replica, hears: Hearing) -> None:
    session, idle = replica.open(), replica.open("idle")
    job = replica.enqueue("action").job_name
    replica.take(session)
    assert not hears.of(lambda: replica.sync(idle, "idle"))
    assert not hears.of(lambda: replica.sync(session, reports={job: Report(ACTIVE)}))
    assert not hears.of(lambda: replica.sync(session, reports={job: Report(ACTIVE, partial_metadata=b"x")}))
