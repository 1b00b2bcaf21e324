"""Two bots with one bot_id, and one that was started again: what their jobs are counted for it."""

import pytest
from buildgrid_scheduler.core.attempts import AttemptLimits
from buildgrid_scheduler.core.errors import UnknownSession
from buildgrid_scheduler.core.job_state import Stage
from buildgrid_scheduler.engine.history import JobHistories
from buildgrid_scheduler.engine.items import Call, WriteItem
from buildgrid_scheduler.engine.takeovers import Takeover
from buildgrid_scheduler.notifier.delivery import Ticket
from buildgrid_scheduler.store.provider import SqlProvider

from tests.integration.engine.conftest import StartReplica
from tests.integration.engine.races import Meeting, Races, Side
from tests.integration.engine.replica import ACTIVE, Replica, Report, success


def tries(provider: SqlProvider, job: str) -> tuple[int, int]:
    """Both counts of a job."""
    with provider.connect() as connection:
        row = connection.execute("SELECT n_tries, n_infra_tries FROM jobs WHERE name = %s", (job,)).fetchone()
    assert row is not None
    return row[0], row[1]


def starts(replica: Replica, session: str) -> str:
    """A job that the bot has taken up."""
    job = replica.take(session)
    replica.sync(session, reports={job: Report(ACTIVE)}, offer=None)
    return job


def calls_late(replica: Replica, session: str, *jobs: str) -> Takeover | None:
    """A bot whose session was closed calls under its name, as the doors let it."""
    with pytest.raises(UnknownSession):
        replica.sync(session, reports={job: Report(ACTIVE) for job in jobs})
    return replica.call(replica.engine.sessions.find_takeover("", session, "bot", jobs))


def test_what_a_bot_ran_that_was_started_again_counts_as_a_try(
    replica: Replica, provider: SqlProvider
) -> None:
    job = replica.enqueue("action").job_name
    starts(replica, replica.open())
    replica.open()
    assert tries(provider, job) == (2, 0)


def test_an_action_that_kills_its_bot_each_time_it_is_started_again_ends(start_replica: StartReplica) -> None:
    replica = start_replica(limits=AttemptLimits(max_job_attempts=3))
    operation = replica.enqueue("poison").operation_name
    for _ in range(3):
        starts(replica, replica.open())
    replica.open()
    answer = replica.response(operation)
    assert answer is not None
    assert answer.status.code == 14
    assert "taken over by another session of the same bot_id" in answer.status.message


def test_a_late_call_proves_that_the_bot_lives_and_its_job_is_not_counted_a_try(
    replica: Replica, provider: SqlProvider
) -> None:
    job = replica.enqueue("action").job_name
    old = replica.open()
    starts(replica, old)
    new = replica.open()
    takeover = calls_late(replica, old, job)
    assert takeover is not None
    assert (takeover.bot_id, takeover.session, takeover.successor) == ("bot", old, new)
    assert tries(provider, job) == (1, 1)
    text = [event.text for event in JobHistories(provider).load("", job).events][-1]
    assert text == (
        "retried (try 1, which does not count as a try): "
        "bot bot lives, but was taken over by another session of the same bot_id"
    )


def test_the_proof_counts_once_and_through_any_replica(
    replica: Replica, other: Replica, provider: SqlProvider
) -> None:
    job = replica.enqueue("action").job_name
    old = replica.open()
    starts(replica, old)
    replica.open()
    assert calls_late(other, old, job) is not None
    assert calls_late(replica, old, job) is not None
    assert tries(provider, job) == (1, 1)


def test_a_job_that_the_late_call_does_not_speak_of_stays_counted(
    replica: Replica, provider: SqlProvider
) -> None:
    job = replica.enqueue("action").job_name
    old = replica.open()
    starts(replica, old)
    replica.open()
    assert calls_late(replica, old) is not None
    assert tries(provider, job) == (2, 0)


def test_a_job_is_acquitted_of_the_loss_by_that_session_alone(
    replica: Replica, provider: SqlProvider
) -> None:
    job = replica.enqueue("action").job_name
    dead = replica.open()
    starts(replica, dead)
    lives = replica.open()
    starts(replica, lives)
    replica.open()
    assert tries(provider, job) == (3, 0)
    calls_late(replica, lives, job)
    assert tries(provider, job) == (2, 1)


def test_a_session_that_ended_otherwise_was_not_taken_over(replica: Replica, provider: SqlProvider) -> None:
    job = replica.enqueue("action").job_name
    old = replica.open()
    starts(replica, old)
    replica.close(old)
    assert calls_late(replica, old, job) is None
    assert tries(provider, job) == (2, 0)


def test_two_bots_that_throw_each_other_out_do_not_use_up_the_tries(
    start_replica: StartReplica, provider: SqlProvider
) -> None:
    replica = start_replica(limits=AttemptLimits(max_job_attempts=2))
    enqueued = replica.enqueue("action")
    session = replica.open()
    for lost in range(10):
        assert starts(replica, session) == enqueued.job_name
        following = replica.open()
        calls_late(replica, session, enqueued.job_name)
        assert tries(provider, enqueued.job_name) == (1, lost + 1)
        session = following
    replica.sync(session, reports={replica.take(session): success()})
    answer = replica.response(enqueued.operation_name)
    assert answer is not None
    assert answer.status.code == 0


def test_a_job_that_is_only_ever_lost_so_ends(start_replica: StartReplica, provider: SqlProvider) -> None:
    replica = start_replica(limits=AttemptLimits(max_job_attempts=2, max_infra_attempts=3))
    enqueued = replica.enqueue("action")
    session = replica.open()
    for expected in ((1, 1), (1, 2), (2, 2)):
        starts(replica, session)
        following = replica.open()
        calls_late(replica, session, enqueued.job_name)
        assert tries(provider, enqueued.job_name) == expected
        session = following
    starts(replica, session)
    replica.open()
    assert replica.stage(enqueued.operation_name) is Stage.COMPLETED


def test_a_proof_and_the_next_loss_of_the_job_are_both_counted(
    replica: Replica, other: Replica, provider: SqlProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scene(instance: str) -> Meeting:
        job = replica.enqueue("action", instance=instance).job_name
        sessions = []
        for _ in range(2):
            sessions.append(replica.open(instance=instance))
            replica.look()
            (tell,) = replica.sync(sessions[-1], instance=instance).leases
            assert tell.job_name == job
            replica.sync(sessions[-1], reports={job: Report(ACTIVE)}, instance=instance, offer=None)
        old, new = sessions
        transactions = replica.engine.sessions
        proof: WriteItem = Call(Ticket(), transactions.find_takeover(instance, old, "bot", [job]))
        loss: WriteItem = Call(Ticket(), transactions.close(instance, new, "the node is gone"))

        sides = Side(replica, proof), Side(other, loss)

        def check() -> None:
            outcomes = [side.outcome() for side in sides]
            assert not [error for error in outcomes if isinstance(error, Exception)]
            assert tries(provider, job) == (2, 1)

        return Meeting(*sides, check)

    Races(monkeypatch, provider).in_every_order(scene)
