"""Capacity classes: a job that a class lost goes to another for a while, and then to any."""

from datetime import timedelta

import pytest
from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.core.requirements import requirement_hash
from buildgrid_scheduler.engine.assigning import assign_waiting
from buildgrid_scheduler.engine.items import Synchronize
from buildgrid_scheduler.store.provider import SqlProvider

from tests.integration.engine.conftest import StartReplica
from tests.integration.engine.replica import (
    ACTIVE,
    Replica,
    Report,
    failure,
    result,
)

A_WHILE = timedelta(seconds=60)


def lost_by(replica: Replica, capacity_class: str, word: str = "action", *, bot_id: str = "victim") -> str:
    """A job that a bot of this class took with it."""
    replica.enqueue(word)
    session = replica.open(bot_id, capacity_class=capacity_class)
    job = replica.take(session, bot_id)
    replica.sync(session, bot_id, reports={job: Report(ACTIVE)})
    replica.close(session)
    return job


def asks(replica: Replica, capacity_class: str, bot_id: str = "bot") -> list[str]:
    """What a new bot of this class is given."""
    replica.look()
    session = replica.open(bot_id, capacity_class=capacity_class)
    return [tell.job_name for tell in replica.sync(session, bot_id).leases]


def held(replica: Replica, capacity_class: str, bot_id: str) -> Synchronize:
    """A call that is held now."""
    session = replica.open(bot_id, capacity_class=capacity_class)
    item = replica.submitted_sync(session, bot_id, hold=True)
    replica.settle()
    assert not item.ticket.future.done()
    return item


def told(item: Synchronize) -> list[str]:
    return [tell.job_name for tell in result(item).leases]


@pytest.mark.parametrize("priority_percentage", [100, 0], ids=["by priority", "by age"])
def test_a_job_that_a_class_lost_goes_to_another(
    start_replica: StartReplica, priority_percentage: int
) -> None:
    replica = start_replica(priority_percentage=priority_percentage)
    job = lost_by(replica, "spot")
    assert asks(replica, "spot") == []
    assert asks(replica, "on-demand") == [job]


def test_a_bot_without_a_class_may_have_it(replica: Replica) -> None:
    job = lost_by(replica, "spot")
    assert asks(replica, "") == [job]


def test_after_a_while_anybody_may_have_it(replica: Replica) -> None:
    job = lost_by(replica, "spot")
    replica.clock.advance(A_WHILE - timedelta(seconds=1))
    assert asks(replica, "spot") == []
    replica.clock.advance(timedelta(seconds=1))
    assert asks(replica, "spot") == [job]


def test_the_class_gets_other_jobs_meanwhile_in_their_order(replica: Replica) -> None:
    lost_by(replica, "spot")
    other = replica.enqueue("other").job_name
    assert asks(replica, "spot") == [other]


def test_what_a_bot_without_a_class_loses_avoids_nobody(replica: Replica) -> None:
    job = lost_by(replica, "")
    assert asks(replica, "") == [job]


def test_a_job_that_another_class_loses_then_avoids_that_one(replica: Replica) -> None:
    job = lost_by(replica, "spot")
    session = replica.open("second", capacity_class="reserved")
    assert replica.take(session, "second") == job
    replica.sync(session, "second", reports={job: Report(ACTIVE)})
    replica.close(session)
    assert asks(replica, "reserved") == []
    assert asks(replica, "spot") == [job]


@pytest.mark.parametrize("started", [True, False])
def test_an_end_that_was_announced_is_a_loss_too(replica: Replica, started: bool) -> None:
    replica.enqueue("action")
    session = replica.open("victim", capacity_class="spot")
    job = replica.take(session, "victim")
    reports = {job: Report(ACTIVE)} if started else {}
    replica.sync(session, "victim", reports=reports, status=BotStatus.BOT_TERMINATING)
    replica.close(session)
    assert asks(replica, "spot") == []
    assert asks(replica, "on-demand") == [job]


def test_a_failure_that_a_bot_reports_is_no_loss(replica: Replica) -> None:
    replica.enqueue("action")
    session = replica.open(capacity_class="spot")
    job = replica.take(session)
    replica.sync(session, reports={job: failure()})
    assert asks(replica, "spot", "another") == [job]


def test_work_by_name_goes_by_the_same_rule(replica: Replica, provider: SqlProvider) -> None:
    lost_by(replica, "spot")
    spot, firm = replica.open("spot", capacity_class="spot"), replica.open("firm", capacity_class="firm")
    transaction = assign_waiting("", requirement_hash({}), [spot, firm], by_age=True)
    assert replica.call(transaction) == [firm]


# --- bots that wait


def test_a_bot_of_another_class_that_waits_is_woken_at_once(replica: Replica) -> None:
    spots = [held(replica, "spot", f"spot {n}") for n in range(3)]
    firm = held(replica, "on-demand", "firm")
    session = replica.open("victim", capacity_class="spot")
    item = replica.submitted_sync(session, "victim")
    assert told(item) == []
    job = replica.enqueue("action").job_name
    got = next(item for item in [*spots, firm] if item.ticket.future.done())
    # Whoever was given it loses it.
    assert got.session_name != firm.session_name
    assert told(got) == [job]
    replica.sync(got.session_name, got.bot_id, reports={job: Report(ACTIVE)})
    replica.close(got.session_name)
    assert told(firm) == [job]
    replica.settle()
    assert sum(item.ticket.future.done() for item in spots) == 1


def test_only_bots_of_the_class_wait_and_one_gets_it_when_the_time_is_over(replica: Replica) -> None:
    job = lost_by(replica, "spot")
    item = held(replica, "spot", "spot")
    replica.look()
    replica.settle()
    assert not item.ticket.future.done()
    replica.clock.advance(A_WHILE)
    replica.look()  # as the listener does, once a second
    assert told(item) == [job]


def test_a_job_that_is_avoided_does_not_keep_the_replica_busy(replica: Replica) -> None:
    item = held(replica, "spot", "spot")
    session = replica.open("victim", capacity_class="spot")
    job = replica.enqueue("action").job_name
    assert told(item) == [job]
    lost = held(replica, "spot", "other spot")
    replica.sync(item.session_name, "spot", reports={job: Report(ACTIVE)})
    replica.close(item.session_name)
    replica.settle()
    replica.settle()
    before = replica.engine.batch_counts()["write"].batches
    replica.settle()
    quiet = replica.engine.batch_counts()["write"].batches - before
    assert quiet <= 4, "batches of the test's own"
    assert not lost.ticket.future.done()
    assert replica.sync(session, "victim").leases == ()


def test_a_new_job_for_the_same_bots_is_given_to_the_class_at_once(replica: Replica) -> None:
    lost_by(replica, "spot")
    item = held(replica, "spot", "spot")
    job = replica.enqueue("new").job_name
    assert told(item) == [job]


def test_a_bot_of_another_class_is_woken_on_the_replica_that_only_hears_of_it(
    replica: Replica, other: Replica
) -> None:
    spot, firm = held(other, "spot", "spot"), held(other, "firm", "firm")
    job = lost_by(replica, "spot")
    other.look()
    assert told(firm) == [job]
    other.settle()
    assert not spot.ticket.future.done()
