"""A job that a bot could not do goes to another bot; one bot alone is given it again after growing pauses."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from buildgrid_scheduler.core.attempts import AttemptLimits
from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.core.job_state import Stage
from buildgrid_scheduler.core.requirements import Offer, pairs, requirement_hash
from buildgrid_scheduler.engine.assigning import assign_waiting
from buildgrid_scheduler.engine.items import Synchronize
from buildgrid_scheduler.engine.sessions import NewSession
from buildgrid_scheduler.store.provider import SqlProvider

from tests.integration.engine.conftest import StartReplica
from tests.integration.engine.replica import (
    ACTIVE,
    Replica,
    Report,
    failure,
    result,
    success,
)

SECOND = timedelta(seconds=1)
A_WHILE = timedelta(seconds=60)


def failed(replica: Replica, session: str, bot_id: str = "bad") -> str:
    """A job that this bot was given, and could not do."""
    job = replica.take(session, bot_id)
    replica.sync(session, bot_id, reports={job: failure()}, offer=None)
    return job


def asks(replica: Replica, session: str, bot_id: str = "bad") -> list[str]:
    """What a bot is given now."""
    replica.look()
    return [tell.job_name for tell in replica.sync(session, bot_id).leases]


def held(replica: Replica, session: str, bot_id: str, **options: object) -> Synchronize:
    """A call that is held now."""
    item = replica.submitted_sync(session, bot_id, hold=True, **options)
    replica.settle()
    assert not item.ticket.future.done()
    return item


def told(item: Synchronize) -> list[str]:
    return [tell.job_name for tell in result(item).leases]


@pytest.mark.parametrize("priority_percentage", [100, 0], ids=["by priority", "by age"])
def test_a_job_goes_to_the_bot_that_waits_and_not_to_the_one_that_could_not_do_it(
    start_replica: StartReplica, priority_percentage: int
) -> None:
    replica = start_replica(priority_percentage=priority_percentage)
    operation = replica.enqueue("action").operation_name
    bad = replica.open("bad")
    job = replica.take(bad, "bad")
    good = held(replica, replica.open("good"), "good")
    replica.sync(bad, "bad", reports={job: failure()}, offer=None)
    assert told(good) == [job]
    replica.sync(good.session_name, "good", reports={job: success()})
    assert replica.stage(operation) is Stage.COMPLETED


def test_both_wait_on_another_replica_and_the_good_one_is_given_it(replica: Replica, other: Replica) -> None:
    replica.enqueue("action")
    bad = replica.open("bad")
    job = failed(replica, bad)
    waits = held(other, bad, "bad")
    good = other.submitted_sync(other.open("good"), "good", hold=True)
    other.look()
    assert told(good) == [job]
    other.settle()
    assert not waits.ticket.future.done()


def test_a_bot_alone_is_given_it_again_after_pauses_that_double(replica: Replica) -> None:
    operation = replica.enqueue("action").operation_name
    session = replica.open("bad")
    for pause in (1, 2, 4, 8):
        failed(replica, session)
        assert asks(replica, session) == []
        replica.clock.advance(pause * SECOND - SECOND / 2)
        assert asks(replica, session) == []
        replica.clock.advance(SECOND)
    failed(replica, session)
    assert replica.stage(operation) is Stage.COMPLETED


def test_a_bot_that_is_busy_is_left_the_job_for_a_while(replica: Replica) -> None:
    bad, busy = replica.open("bad"), replica.open("busy")
    replica.enqueue("long")
    long = replica.take(busy, "busy")
    replica.sync(busy, "busy", reports={long: Report(ACTIVE)})
    replica.enqueue("action")
    job = failed(replica, bad)
    replica.clock.advance(A_WHILE - SECOND)
    assert asks(replica, bad) == []
    assert [tell.job_name for tell in replica.sync(busy, "busy", reports={long: success()}).leases] == [job]


def test_after_a_while_it_may_have_it_though_others_are_there(replica: Replica) -> None:
    bad = replica.open("bad")
    replica.open("busy")
    replica.enqueue("action")
    job = failed(replica, bad)
    replica.clock.advance(A_WHILE + SECOND)
    assert asks(replica, bad) == [job]


def open_with(
    replica: Replica, bot_id: str, offer: Sequence[tuple[str, str]], status: BotStatus = BotStatus.OK
) -> None:
    session = NewSession(f"session of {bot_id}", "", bot_id, status, offer=frozenset(offer))
    replica.call(replica.engine.sessions.open(session))


@pytest.mark.parametrize(
    ("offer", "status"),
    [((("Pool", "other"),), BotStatus.OK), ((), BotStatus.UNHEALTHY)],
    ids=["another kind", "not well"],
)
def test_it_is_not_left_to_a_bot_that_could_not_take_it(
    replica: Replica, offer: Sequence[tuple[str, str]], status: BotStatus
) -> None:
    open_with(replica, "no use", offer, status)
    bad = replica.open("bad")
    replica.enqueue("action")
    job = failed(replica, bad)
    replica.clock.advance(2 * SECOND)
    assert asks(replica, bad) == [job]


def test_two_bots_that_cannot_do_it_do_not_pass_it_to_each_other_past_the_one_that_can(
    start_replica: StartReplica,
) -> None:
    replica = start_replica(limits=AttemptLimits(max_job_attempts=5))
    first, second, good = (replica.open(name) for name in ("first", "second", "good"))
    replica.enqueue("action")
    job = failed(replica, first, "first")
    assert failed(replica, second, "second") == job
    assert asks(replica, first, "first") == []
    assert asks(replica, second, "second") == []
    assert asks(replica, good, "good") == [job]


def test_one_that_lost_it_before_is_not_given_it_either_while_others_may_have_it(replica: Replica) -> None:
    """It did not fail there: the bot was taken for dead, and calls again."""
    lost, good = replica.open("lost"), replica.open("good")
    replica.enqueue("action")
    job = replica.take(lost, "lost")
    replica.sync(lost, "lost", reports={job: Report(ACTIVE)})
    replica.close(lost)
    lost, bad = replica.open("lost"), replica.open("bad")
    assert failed(replica, bad) == job
    assert asks(replica, lost, "lost") == []
    assert asks(replica, good, "good") == [job]


def test_the_first_of_two_that_cannot_do_it_is_kept_from_it_as_long_as_the_second(replica: Replica) -> None:
    first, second = replica.open("first"), replica.open("second")
    replica.open("busy")
    replica.enqueue("action")
    job = failed(replica, first, "first")
    replica.clock.advance(A_WHILE - SECOND)
    assert failed(replica, second, "second") == job
    replica.clock.advance(A_WHILE - SECOND)
    assert asks(replica, first, "first") == []
    replica.clock.advance(2 * SECOND)
    assert asks(replica, first, "first") == [job]


def test_a_bot_whose_row_is_locked_is_not_waited_for(replica: Replica, provider: SqlProvider) -> None:
    """Who locks it may wait for the very bot that fails here."""
    first, second = replica.open("first"), replica.open("second")
    replica.enqueue("action")
    job = failed(replica, first, "first")
    with provider.connect() as connection:
        connection.execute("SELECT 1 FROM bots WHERE name = %s FOR UPDATE", (first,))
        assert failed(replica, second, "second") == job


def test_it_is_given_other_jobs_meanwhile(replica: Replica) -> None:
    replica.enqueue("action")
    session = replica.open("bad")
    failed(replica, session)
    other = replica.enqueue("other").job_name
    assert asks(replica, session) == [other]


def test_it_is_not_given_it_in_a_session_that_it_opens_anew(replica: Replica) -> None:
    replica.enqueue("action")
    job = failed(replica, replica.open("bad"))
    again = replica.open("bad")
    assert asks(replica, again) == []
    assert asks(replica, replica.open("good"), "good") == [job]


def test_work_by_name_goes_by_the_same_rule(replica: Replica) -> None:
    replica.enqueue("action")
    bad, good = replica.open("bad"), replica.open("good")
    failed(replica, bad)
    transaction = assign_waiting("", requirement_hash({}), [bad, good], by_age=True)
    assert replica.call(transaction) == [good]


def test_a_bot_of_a_class_does_not_keep_its_class_from_the_job(replica: Replica) -> None:
    replica.enqueue("action")
    bad = replica.open("bad", capacity_class="spot")
    job = failed(replica, bad)
    assert asks(replica, bad) == []
    assert asks(replica, replica.open("good", capacity_class="spot"), "good") == [job]


def test_a_failure_and_a_loss_are_both_avoided(replica: Replica) -> None:
    """The bot could not do one job, and its class lost another."""
    replica.enqueue("lost")
    victim, bad = (replica.open(name, capacity_class="spot") for name in ("victim", "bad"))
    lost = replica.take(victim, "victim")
    replica.sync(victim, "victim", reports={lost: Report(ACTIVE)})
    replica.enqueue("action")
    job = failed(replica, bad)
    replica.close(victim)
    assert asks(replica, bad) == []
    assert asks(replica, replica.open("spot", capacity_class="spot"), "spot") == [job]
    assert asks(replica, replica.open("firm"), "firm") == [lost]


def test_a_job_that_avoids_the_bot_does_not_keep_the_replica_busy(replica: Replica) -> None:
    replica.enqueue("action")
    session = replica.open("bad")
    job = failed(replica, session)
    item = held(replica, session, "bad")
    replica.settle()
    before = replica.engine.batch_counts()["write"].batches
    replica.settle()
    assert replica.engine.batch_counts()["write"].batches - before <= 4, "batches of the test's own"
    replica.clock.advance(2 * SECOND)
    replica.look()  # as the listener does, once a second
    assert told(item) == [job]


def test_a_job_of_another_kind_that_failed_does_not_keep_the_bot_from_its_own(replica: Replica) -> None:
    large: Offer = pairs({"Pool": ["large"]})
    replica.enqueue("action", needs={"Pool": ["large"]})
    session = replica.open("bad")
    replica.look()
    (tell,) = replica.sync(session, "bad", offer=large).leases
    replica.sync(session, "bad", reports={tell.job_name: failure()}, offer=None)
    item = held(replica, session, "bad", offer=large)
    other = replica.enqueue("other").job_name
    assert told(item) == [other]


def test_what_old_code_writes_avoids_nobody(replica: Replica, provider: SqlProvider) -> None:
    """A replica of the version before inserts rows without the new columns."""
    replica.enqueue("action")
    session = replica.open("bad")
    job = failed(replica, session)
    with provider.connect() as connection:
        connection.execute("UPDATE queue SET avoid_bots = NULL, avoid_until = NULL")
        connection.commit()
    assert asks(replica, session) == [job]
