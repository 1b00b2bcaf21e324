"""Leases in the database: what reports change, how often a job is tried, what repeated messages do."""

from datetime import timedelta

import pytest
from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb2
from buildgrid_scheduler.core.attempts import AttemptLimits
from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.core.errors import DataLoss, InvalidArgument
from buildgrid_scheduler.core.job_state import Stage
from buildgrid_scheduler.core.requirements import requirement_hash
from buildgrid_scheduler.engine.assigning import assign_waiting
from buildgrid_scheduler.store.action_cache import PostgresActionCache
from buildgrid_scheduler.store.provider import SqlProvider

from tests.integration.engine.conftest import StartReplica
from tests.integration.engine.faults import first_commit_unheard
from tests.integration.engine.replica import (
    ACTIVE,
    CANCELLED,
    KEEPALIVE,
    LONGEST_PAUSE,
    PENDING,
    Replica,
    Report,
    counts,
    digest_of,
    failure,
    success,
)


def tries(provider: SqlProvider, job: str) -> tuple[int, int]:
    """Both counts of a job."""
    with provider.connect() as connection:
        row = connection.execute("SELECT n_tries, n_infra_tries FROM jobs WHERE name = %s", (job,)).fetchone()
    assert row is not None
    return row[0], row[1]


def assign(replica: Replica, *sessions: str) -> list[str]:
    """Lease waiting jobs by name of session."""
    return replica.call(assign_waiting("", requirement_hash({}), list(sessions), by_age=False))


def cached(replica: Replica, word: str) -> re_pb2.ActionResult | None:
    """The entry of the action cache."""
    hash_, _, size = digest_of(word).partition("/")
    cache = PostgresActionCache(replica.provider)
    return cache.get("", re_pb2.Digest(hash=hash_, size_bytes=int(size)))


# --- the life of a lease


def test_a_job_goes_from_the_queue_through_a_bot_to_its_answer(
    replica: Replica, other: Replica, provider: SqlProvider
) -> None:
    operation = replica.enqueue("action").operation_name
    session = replica.open()
    assert other.stage(operation) is Stage.QUEUED
    job = replica.take(session)
    assert other.stage(operation) is Stage.EXECUTING
    (tell,) = replica.sync(session, reports={job: Report(ACTIVE)}).leases
    assert tell.state is ACTIVE
    partial = re_pb2.ExecutedActionMetadata(worker="a worker").SerializeToString()
    replica.sync(session, reports={job: Report(ACTIVE, partial_metadata=partial)})
    replica.sync(session, reports={job: Report(ACTIVE)})
    assert other.load(operation).state.partial_metadata == partial
    assert replica.sync(session, reports={job: success()}).leases == ()
    answer = other.response(operation)
    assert answer is not None
    assert answer.result.execution_metadata.worker == "bot"
    assert answer.result.execution_metadata.HasField("queued_timestamp")
    assert counts(provider, "leases") == counts(provider, "in_flight") == 0
    entry = cached(other, "action")
    assert entry is not None
    assert entry == answer.result


def test_an_assigned_lease_is_queued_until_the_bot_is_told(replica: Replica) -> None:
    operation = replica.enqueue("action").operation_name
    session = replica.open()
    assert assign(replica, session) == [session]
    assert replica.stage(operation) is Stage.QUEUED
    (tell,) = replica.sync(session, offer=None).leases
    assert (tell.state, tell.action) == (PENDING, b"action")
    assert replica.stage(operation) is Stage.EXECUTING


def test_a_lease_that_the_bot_did_not_hear_of_is_sent_again_with_its_action(replica: Replica) -> None:
    replica.enqueue("action")
    session = replica.open()
    job = replica.take(session)
    (tell,) = replica.sync(session).leases
    assert (tell.job_name, tell.state, tell.action) == (job, PENDING, b"action")


def test_a_short_action_may_be_reported_complete_in_one_step(replica: Replica) -> None:
    operation = replica.enqueue("action").operation_name
    session = replica.open()
    job = replica.take(session)
    replica.enqueue("next")
    (tell,) = replica.sync(session, reports={job: success()}).leases
    assert tell.action == b"next", "the slot is filled in the same answer"
    assert replica.stage(operation) is Stage.COMPLETED


@pytest.mark.parametrize("status", [s for s in BotStatus if s is not BotStatus.OK])
def test_a_bot_that_is_not_well_keeps_what_it_runs_and_gets_nothing_new(
    replica: Replica, status: BotStatus
) -> None:
    replica.enqueue("running")
    replica.enqueue("waiting")
    session = replica.open(capacity=3)
    first, second = (tell.job_name for tell in replica.sync(session).leases)
    replica.enqueue("late")
    reports = {first: Report(ACTIVE), second: Report(ACTIVE)}
    tells = replica.sync(session, reports=reports, status=status).leases
    assert {tell.job_name for tell in tells} == {first, second}
    assert replica.sync(session, reports={first: success(), second: Report(ACTIVE)}, status=status).leases


def test_a_bot_that_ends_hands_back_what_it_never_started(replica: Replica, provider: SqlProvider) -> None:
    operation = replica.enqueue("action").operation_name
    session = replica.open()
    job = replica.take(session)
    assert not replica.sync(session, status=BotStatus.BOT_TERMINATING).leases
    assert replica.stage(operation) is Stage.QUEUED
    assert tries(provider, job)[0] == 1


def test_a_result_that_is_refused_by_the_cache_rules_is_not_cached(replica: Replica) -> None:
    session = replica.open()
    replica.enqueue("fails")
    replica.sync(session, reports={replica.take(session): success(exit_code=1)}, offer=None)
    replica.enqueue("private", do_not_cache=True)
    replica.sync(session, reports={replica.take(session): success()}, offer=None)
    assert cached(replica, "fails") is cached(replica, "private") is None


# --- what closes a session


def test_an_active_lease_that_the_bot_no_longer_has_closes_the_session(
    replica: Replica, provider: SqlProvider
) -> None:
    operation = replica.enqueue("action").operation_name
    session = replica.open()
    job = replica.take(session)
    replica.sync(session, reports={job: Report(ACTIVE)})
    with pytest.raises(DataLoss, match="create a new session"):
        replica.sync(session)
    assert replica.stage(operation) is Stage.QUEUED
    assert tries(provider, job) == (2, 0)
    with pytest.raises(InvalidArgument):
        replica.sync(session)


def test_another_lease_than_the_one_held_closes_the_session(replica: Replica) -> None:
    replica.enqueue("action")
    session = replica.open()
    replica.take(session)
    with pytest.raises(DataLoss):
        replica.sync(session, reports={"something-else": Report(ACTIVE)})


def test_the_session_of_another_bot_or_instance_is_unknown_and_stays_as_it_is(replica: Replica) -> None:
    session = replica.open("bot")
    with pytest.raises(InvalidArgument):
        replica.sync(session, "another bot")
    with pytest.raises(InvalidArgument):
        replica.sync(session, "bot", instance="theirs")
    replica.enqueue("action")
    replica.take(session, "bot")


def test_with_several_slots_a_missing_lease_is_requeued_alone(
    replica: Replica, provider: SqlProvider
) -> None:
    kept, lost = replica.enqueue("kept"), replica.enqueue("lost")
    session = replica.open(capacity=2)
    replica.sync(session)
    both = {kept.job_name: Report(ACTIVE), lost.job_name: Report(ACTIVE)}
    replica.sync(session, reports=both)
    tells = replica.sync(session, reports={kept.job_name: Report(ACTIVE)}).leases
    assert [(t.job_name, t.state) for t in tells] == [(kept.job_name, ACTIVE)]
    assert replica.stage(lost.operation_name) is Stage.QUEUED
    assert tries(provider, lost.job_name) == (2, 0)
    assert tries(provider, kept.job_name) == (1, 0)


def test_with_several_slots_an_unknown_lease_is_told_cancelled_and_takes_a_slot(replica: Replica) -> None:
    session = replica.open(capacity=2)
    replica.enqueue("one")
    replica.enqueue("two")
    tells = replica.sync(session, reports={"unknown": Report(ACTIVE)}).leases
    assert ("unknown", CANCELLED) in [(t.job_name, t.state) for t in tells]
    assert len(tells) == 2


def test_a_new_session_of_a_bot_closes_the_old_one(replica: Replica, provider: SqlProvider) -> None:
    operation = replica.enqueue("action").operation_name
    old = replica.open()
    job = replica.take(old)
    replica.sync(old, reports={job: Report(ACTIVE)})
    new = replica.open()
    assert replica.stage(operation) is Stage.QUEUED
    with pytest.raises(InvalidArgument):
        replica.sync(old, reports={job: success()})
    assert replica.stage(operation) is Stage.QUEUED, "a late report under the old name changes nothing"
    assert replica.take(new) == job
    assert counts(provider, "bots") == 1


# --- attempts


def test_a_failing_job_is_tried_so_often_and_ends_with_the_last_failure(
    start_replica: StartReplica, provider: SqlProvider
) -> None:
    replica = start_replica(limits=AttemptLimits(max_job_attempts=3))
    operation = replica.enqueue("action").operation_name
    session = replica.open()
    for attempt in (1, 2, 3):
        job = replica.take(session)
        assert tries(provider, job) == (attempt, 0)
        replica.sync(session, reports={job: failure(message=f"failure {attempt}")})
        replica.clock.advance(LONGEST_PAUSE)
    answer = replica.response(operation)
    assert answer is not None
    assert (answer.status.code, answer.status.message) == (14, "failure 3")
    assert not replica.sync(session).leases


def test_a_failure_that_no_retry_would_mend_is_the_answer_at_once(replica: Replica) -> None:
    operation = replica.enqueue("action").operation_name
    session = replica.open()
    replica.sync(session, reports={replica.take(session): failure(code=9, message="an input is missing")})
    answer = replica.response(operation)
    assert answer is not None
    assert answer.status.code == 9


def test_a_job_that_takes_its_bot_with_it_ends_after_so_many_bots(start_replica: StartReplica) -> None:
    replica = start_replica(limits=AttemptLimits(max_job_attempts=2))
    operation = replica.enqueue("action").operation_name
    for n in range(2):
        session = replica.open(f"bot {n}")
        job = replica.take(session, f"bot {n}")
        replica.sync(session, f"bot {n}", reports={job: Report(ACTIVE)})
        replica.clock.advance(2 * KEEPALIVE)
        assert replica.reap() == 1
    answer = replica.response(operation)
    assert answer is not None
    assert answer.status.code == 14
    assert "bot 1 vanished" in answer.status.message


def test_losses_that_are_the_farms_own_have_their_own_bound(
    start_replica: StartReplica, provider: SqlProvider
) -> None:
    replica = start_replica(limits=AttemptLimits(max_job_attempts=1, max_infra_attempts=3))
    operation = replica.enqueue("action").operation_name
    for n in range(3):
        assert replica.stage(operation) is Stage.QUEUED
        session = replica.open(f"bot {n}")
        job = replica.take(session, f"bot {n}")
        if n:  # it was running, but the bot had said that it was going
            report = {job: Report(ACTIVE)}
            replica.sync(session, f"bot {n}", reports=report, status=BotStatus.HOST_REBOOTING)
        replica.call(replica.engine.sessions.close("", session, "the node was drained"))
    assert tries(provider, job)[0] == 1
    answer = replica.response(operation)
    assert answer is not None
    assert "gave up after 3 lost attempts" in answer.status.message


def test_a_requeued_job_keeps_its_priority_and_its_place(replica: Replica) -> None:
    first = replica.enqueue("first", priority=1)
    session = replica.open()
    assert replica.take(session) == first.job_name
    replica.enqueue("second", priority=1)
    replica.enqueue("urgent", priority=0)
    replica.sync(session, reports={first.job_name: failure()}, offer=None)
    order = [replica.take(replica.open(f"bot {n}"), f"bot {n}") for n in range(2)]
    assert order[1] == first.job_name


# --- messages that come twice


@pytest.mark.parametrize("report", [success(), failure(), failure(code=9)], ids=["ok", "retry", "failed"])
def test_a_completion_that_is_reported_again_changes_nothing(
    replica: Replica, provider: SqlProvider, report: Report
) -> None:
    operation = replica.enqueue("action").operation_name
    session = replica.open()
    job = replica.take(session)
    replica.sync(session, reports={job: report})
    before = replica.response(operation), tries(provider, job)
    for _ in range(3):
        assert not replica.sync(session, reports={job: report}).leases
    assert (replica.response(operation), tries(provider, job)) == before


def test_a_repeated_completion_beside_the_next_lease_is_dropped(replica: Replica) -> None:
    replica.enqueue("first")
    session = replica.open()
    first = replica.take(session)
    second = replica.enqueue("second").job_name
    for _ in range(3):
        (tell,) = replica.sync(session, reports={first: success()}).leases
        assert (tell.job_name, tell.state, tell.action) == (second, PENDING, b"second")


def test_a_repeated_failure_does_not_end_the_attempt_that_the_bot_has_not_been_told_of(
    replica: Replica, provider: SqlProvider
) -> None:
    operation = replica.enqueue("action").operation_name
    session = replica.open()
    job = replica.take(session)
    report = {job: failure()}
    replica.sync(session, reports=report, offer=None)
    replica.clock.advance(LONGEST_PAUSE)
    assert assign(replica, session) == [session]
    assert not replica.sync(session, reports=report, offer=None).leases
    assert tries(provider, job) == (2, 0)
    (tell,) = replica.sync(session, offer=None).leases
    assert (tell.job_name, tell.state) == (job, PENDING)
    replica.sync(session, reports={job: success()})
    answer = replica.response(operation)
    assert answer is not None
    assert answer.status.code == 0


@pytest.mark.parametrize("report", [success(), failure()], ids=["ok", "retry"])
def test_a_completion_whose_commit_was_unheard_counts_once(
    replica: Replica, provider: SqlProvider, monkeypatch: pytest.MonkeyPatch, report: Report
) -> None:
    replica.enqueue("action")
    session = replica.open()
    job = replica.take(session)
    with first_commit_unheard(monkeypatch):
        assert not replica.sync(session, reports={job: report}).leases
    assert sum(tries(provider, job)) == (2 if report.status_code else 1)


# --- expiry


def test_every_report_extends_the_session(replica: Replica) -> None:
    session = replica.open()
    for _ in range(4):
        replica.clock.advance(KEEPALIVE * 0.75)
        assert replica.sync(session).expires_at - replica.clock() > KEEPALIVE - timedelta(seconds=1)
        assert replica.reap() == 0


def test_expired_sessions_are_reaped_in_handfuls_until_there_are_none(
    replica: Replica, provider: SqlProvider
) -> None:
    for n in range(23):
        replica.open(f"bot {n}", instance=f"instance {n % 3}")
    replica.clock.advance(2 * KEEPALIVE)
    alive = replica.open("alive")
    assert [replica.reap() for _ in range(4)] == [10, 10, 3, 0]
    assert counts(provider, "bots") == 1
    replica.sync(alive, "alive")


@pytest.mark.parametrize("how", ["closed", "expired", "opened anew"])
def test_a_cancelled_job_is_not_requeued_when_its_bot_goes(
    replica: Replica, provider: SqlProvider, how: str
) -> None:
    operation = replica.enqueue("action").operation_name
    session = replica.open()
    job = replica.take(session)
    replica.sync(session, reports={job: Report(ACTIVE)})
    replica.cancel(operation)
    before = replica.response(operation)
    if how == "closed":
        replica.call(replica.engine.sessions.close("", session, "the node is gone"))
    elif how == "expired":
        replica.clock.advance(2 * KEEPALIVE)
        assert replica.reap() == 1
    else:
        replica.open()
    assert counts(provider, "queue") == counts(provider, "leases") == 0
    assert replica.response(operation) == before
