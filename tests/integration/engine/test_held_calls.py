"""Calls of bots that wait for work: none is forgotten, none is told too late, none loses a job.

No replica here listens, and nothing looks at the queue by itself: what a test waits for has to come from
what it did.
"""

import asyncio
import threading
import time

import pytest
from buildgrid_scheduler.assigner.waiting import Arrival
from buildgrid_scheduler.core.errors import InvalidArgument, Unavailable
from buildgrid_scheduler.core.job_state import Stage
from buildgrid_scheduler.core.requirements import pairs, requirement_hash
from buildgrid_scheduler.engine.assigning import assign_waiting
from buildgrid_scheduler.engine.engine import Engine
from buildgrid_scheduler.engine.items import Synchronize, Synchronized
from buildgrid_scheduler.store.provider import SqlProvider

from tests.integration.engine.faults import (
    WRITER,
    first_commit_unheard,
    first_transaction_rolled_back,
    stopped_after_commit,
)
from tests.integration.engine.replica import (
    ACTIVE,
    CANCELLED,
    LONGEST_PAUSE,
    PENDING,
    Replica,
    Report,
    check_invariants,
    counts,
    enqueue,
    failure,
    result,
    success,
    synchronize,
)

ANYWHERE = Arrival("", requirement_hash({}), frozenset())


def held(replica: Replica, session: str, bot_id: str = "bot", **options: object) -> Synchronize:
    """A call that is held now."""
    item = replica.submitted_sync(session, bot_id, hold=True, **options)
    replica.settle()
    assert replica.engine.waiting.held > 0
    assert not item.ticket.future.done()
    return item


def told(item: Synchronize) -> list[str]:
    """The jobs that the answer to a call tells of."""
    answer: Synchronized = result(item)
    return [tell.job_name for tell in answer.leases]


def test_a_call_is_held_until_a_job_comes_that_the_bot_may_take(replica: Replica) -> None:
    offer = pairs({"Pool": ["large"]})
    item = held(replica, replica.open(), offer=offer)
    replica.enqueue("for others", needs={"Pool": ["small"]})
    replica.settle()
    assert not item.ticket.future.done()
    job = replica.enqueue("for it", needs={"Pool": ["large"]}).job_name
    assert told(item) == [job]


def test_one_job_answers_one_of_many_held_calls(replica: Replica) -> None:
    items = [held(replica, replica.open(f"bot {n}"), f"bot {n}") for n in range(20)]
    job = replica.enqueue("action").job_name
    replica.settle()
    answered = [item for item in items if item.ticket.future.done()]
    assert [told(item) for item in answered] == [[job]]
    assert replica.engine.waiting.held == 19


def test_a_later_call_of_a_session_replaces_the_one_that_is_held(replica: Replica) -> None:
    session = replica.open()
    first = held(replica, session)
    second = held(replica, session)
    with pytest.raises(Unavailable, match="a later call"):
        result(first)
    job = replica.enqueue("action").job_name
    assert told(second) == [job]


def test_a_held_call_is_replaced_by_one_in_the_batch_that_would_have_woken_it(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = replica.open()
    first = held(replica, session)
    second, job = synchronize(session), enqueue("action")
    with stopped_after_commit(monkeypatch) as gate:
        replica.submit(enqueue("what keeps the writer busy", needs={"Pool": ["none"]}))
        gate.wait_until_reached()
        replica.submit(second)
        replica.submit(job)
    assert told(second) == [result(job).job_name]
    with pytest.raises(Unavailable, match="a later call"):
        result(first)


def test_a_held_call_hears_that_its_session_was_closed(replica: Replica) -> None:
    session = replica.open()
    item = held(replica, session)
    replica.call(replica.engine.sessions.close("", session, "an operator said so"))
    with pytest.raises(InvalidArgument, match="create a new session"):
        result(item)


def test_a_held_call_hears_of_a_cancelled_lease(replica: Replica) -> None:
    operation = replica.enqueue("action").operation_name
    session = replica.open(capacity=2)
    job = replica.take(session)
    item = held(replica, session, reports={job: Report(ACTIVE)})
    replica.cancel(operation)
    answer: Synchronized = result(item)
    assert [(t.job_name, t.state) for t in answer.leases] == [(job, CANCELLED)]


def test_a_cancellation_that_comes_while_the_call_is_on_its_way_to_be_held_is_told(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation = replica.enqueue("action").operation_name
    session = replica.open(capacity=2)
    job = replica.take(session)
    with stopped_after_commit(monkeypatch) as gate:
        item = replica.submitted_sync(session, reports={job: Report(ACTIVE)}, hold=True)
        gate.wait_until_reached()
        replica.cancel(operation)
    answer: Synchronized = result(item)
    assert [(t.job_name, t.state) for t in answer.leases] == [(job, CANCELLED)]


def test_a_job_that_is_told_of_while_the_call_is_on_its_way_to_be_held_is_given(
    replica: Replica, other: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = replica.open()
    with stopped_after_commit(monkeypatch) as gate:
        item = replica.submitted_sync(session, hold=True)
        gate.wait_until_reached()
        job = other.enqueue("action").job_name
        replica.engine.news.arrived([ANYWHERE])
    assert told(item) == [job]


def test_a_job_that_comes_back_in_the_batch_of_an_idle_bot_is_given_to_it(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica.enqueue("action")
    failing, idle = replica.open("failing"), replica.open("idle")
    job = replica.take(failing, "failing")
    with stopped_after_commit(monkeypatch) as gate:
        replica.submitted_sync("nobody")
        gate.wait_until_reached()
        failed = replica.submitted_sync(failing, "failing", reports={job: failure()}, hold=True)
        item = replica.submitted_sync(idle, "idle", hold=True)
    assert told(item) == [job]
    assert told(failed) == [], "not handed back in the answer that reports its failure"


def test_the_bot_that_reported_a_failure_may_have_the_job_again_after_a_pause(replica: Replica) -> None:
    replica.enqueue("action")
    session = replica.open()
    job = replica.take(session)
    assert told(replica.submitted_sync(session, reports={job: failure()}, hold=True)) == []
    item = held(replica, session)
    replica.clock.advance(LONGEST_PAUSE)
    replica.look()  # as the listener does, once a second
    assert told(item) == [job]


def test_a_bot_that_repeats_the_report_of_a_failure_is_not_kept_from_the_job(replica: Replica) -> None:
    """It is the only one there is: held, with the job excluded, it would wait for what it could have."""
    replica.enqueue("action")
    session = replica.open()
    job = replica.take(session)
    report = {job: failure()}
    replica.sync(session, reports=report)  # the answer is lost
    assert told(replica.submitted_sync(session, reports=report, hold=True)) == []
    item = held(replica, session)
    replica.clock.advance(LONGEST_PAUSE)
    replica.look()
    assert told(item) == [job]


def test_a_call_that_reports_a_success_is_held_and_woken(replica: Replica) -> None:
    replica.enqueue("first")
    session = replica.open()
    job = replica.take(session)
    item = held(replica, session, reports={job: success()})
    second = replica.enqueue("second").job_name
    assert told(item) == [second]


def test_work_by_name_reaches_a_held_call(replica: Replica, other: Replica) -> None:
    """Assigned by another program: this replica hears of it as of anything else."""
    session = replica.open()
    item = held(replica, session)
    job = other.enqueue("action").job_name
    given = replica.call(assign_waiting("", requirement_hash({}), [session], by_age=False))
    assert given == [session]
    assert told(item) == [job]


def test_a_batch_that_has_to_be_run_again_wakes_the_same_bots(
    replica: Replica, other: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = held(replica, replica.open())
    job = other.enqueue("action").job_name
    with first_transaction_rolled_back(monkeypatch):
        replica.engine.news.arrived([ANYWHERE])
        assert told(item) == [job]


def test_a_batch_whose_commit_was_unheard_gives_the_job_that_it_gave(
    replica: Replica, provider: SqlProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = replica.open()
    job = replica.enqueue("action").job_name
    with first_commit_unheard(monkeypatch):
        assert told(replica.submitted_sync(session)) == [job]
    replica.enqueue("another")
    with first_commit_unheard(monkeypatch):
        answer = replica.sync(session, reports={job: success()})
    (tell,) = answer.leases
    assert tell.job_name != job
    assert tell.state is PENDING
    assert tell.action == b"another"
    assert counts(provider, "leases") == 1


def test_a_call_that_was_held_for_long_is_as_patient_as_a_new_one(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    operation = replica.enqueue("action").operation_name
    session = replica.open(capacity=2)
    job = replica.take(session)
    item = synchronize(session, reports={job: Report(ACTIVE)}, hold=True)
    item.submitted -= 1000
    replica.submit(item)
    replica.settle()
    with first_transaction_rolled_back(monkeypatch):
        replica.cancel(operation)
        answer: Synchronized = result(item)
    assert [t.state for t in answer.leases] == [CANCELLED]


def test_a_call_that_comes_to_be_held_while_the_replica_stops_is_answered(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = replica.open()
    early = held(replica, replica.open("early"), "early")
    with stopped_after_commit(monkeypatch) as gate:
        item = replica.submitted_sync(session, hold=True)
        gate.wait_until_reached()
        stopping = threading.Thread(target=replica.stop)
        stopping.start()
        with pytest.raises(Unavailable, match="shutting down"):
            result(early)
    stopping.join()
    assert item.ticket.future.done()
    with pytest.raises(Unavailable):
        result(item)


# --- callers that hang up


def busy_until_done(engine: Engine, batches: int) -> None:
    """Keep the event loop from running until the writer is done with so many batches."""
    deadline = time.monotonic() + 20
    while engine.batch_counts()["write"].batches < batches:
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("hold", [0, 60], ids=["not held", "held"])
async def test_a_job_claimed_for_a_caller_who_hangs_up_waits_again(
    replica: Replica, provider: SqlProvider, hold: float
) -> None:
    operation = replica.enqueue("action").operation_name
    session = replica.open()
    item = Synchronize(
        replica.engine.ticket(), "", session, "bot", synchronize(session).status, {}, frozenset()
    )
    before = replica.engine.batch_counts()["write"].batches
    task = asyncio.create_task(replica.engine.synchronize(item, hold=hold))
    await asyncio.sleep(0)
    busy_until_done(replica.engine, before + 1)
    assert replica.stage(operation) is Stage.EXECUTING
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0)
    replica.settle()
    assert replica.stage(operation) is Stage.QUEUED
    with provider.connect() as connection:
        row = connection.execute("SELECT n_tries, n_infra_tries FROM jobs").fetchone()
    assert row == (1, 0), "nothing counts as a try"


@pytest.mark.parametrize("hold", [0, 60], ids=["not held", "held"])
async def test_a_job_claimed_after_the_caller_hung_up_waits_again(
    replica: Replica, monkeypatch: pytest.MonkeyPatch, hold: float
) -> None:
    operation = replica.enqueue("action").operation_name
    session = replica.open()
    item = Synchronize(
        replica.engine.ticket(), "", session, "bot", synchronize(session).status, {}, frozenset()
    )
    with stopped_after_commit(monkeypatch, WRITER) as gate:
        task = asyncio.create_task(replica.engine.synchronize(item, hold=hold))
        await asyncio.sleep(0)
        gate.wait_until_reached()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    replica.settle()
    await asyncio.sleep(0)
    replica.settle()
    assert replica.stage(operation) is Stage.QUEUED


async def test_a_held_caller_who_hangs_up_gets_no_job(replica: Replica) -> None:
    session = replica.open()
    item = Synchronize(
        replica.engine.ticket(), "", session, "bot", synchronize(session).status, {}, frozenset()
    )
    task = asyncio.create_task(replica.engine.synchronize(item, hold=60))
    await asyncio.sleep(0)
    replica.settle()
    assert replica.engine.waiting.held == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert replica.engine.waiting.held == 0
    assert replica.stage(replica.enqueue("action").operation_name) is Stage.QUEUED


async def test_a_call_is_answered_with_nothing_when_its_time_is_up(replica: Replica) -> None:
    session = replica.open()
    item = Synchronize(
        replica.engine.ticket(), "", session, "bot", synchronize(session).status, {}, frozenset()
    )
    answer = await replica.engine.synchronize(item, hold=0.05)
    assert answer.leases == ()
    assert replica.engine.waiting.held == 0


def latest_call(provider: SqlProvider, session: str) -> str:
    """The call of a session that was answered last."""
    with provider.connect() as connection:
        row = connection.execute("SELECT latest_call FROM bots WHERE name = %s", (session,)).fetchone()
    assert row is not None
    return str(row[0])


def test_undoing_a_claim_does_not_revive_a_job_that_was_cancelled(
    replica: Replica, provider: SqlProvider
) -> None:
    operation = replica.enqueue("action").operation_name
    session = replica.open()
    answer = replica.sync(session)
    replica.cancel(operation)
    jobs = [tell.job_name for tell in answer.leases]
    replica.call(replica.engine.sessions.hand_back(session, jobs, latest_call(provider, session)))
    check_invariants(provider)
    assert counts(provider, "queue") == 0


def test_undoing_a_claim_leaves_alone_what_a_later_call_was_told(
    replica: Replica, provider: SqlProvider
) -> None:
    replica.enqueue("action")
    session = replica.open()
    replica.sync(session)
    hung_up = latest_call(provider, session)
    job = replica.take(session)
    replica.call(replica.engine.sessions.hand_back(session, [job], hung_up))
    (tell,) = replica.sync(session, reports={job: Report(ACTIVE)}).leases
    assert tell.state is ACTIVE


# --- calls of a session that were overtaken


def test_a_held_call_whose_connection_died_has_no_say_after_the_bot_called_elsewhere(
    replica: Replica, other: Replica
) -> None:
    session = replica.open()
    silent = held(replica, session)
    other.enqueue("action")
    job = other.take(session)
    other.sync(session, reports={job: Report(ACTIVE)})
    replica.engine.news.poke([session])  # its old report, of no lease, must not close the session
    with pytest.raises(Unavailable):
        result(silent)
    (tell,) = other.sync(session, reports={job: Report(ACTIVE)}).leases
    assert (tell.job_name, tell.state) == (job, ACTIVE)


def test_a_newer_call_of_a_session_answers_the_one_that_is_held(replica: Replica) -> None:
    session = replica.open()
    older = held(replica, session)
    replica.sync(session)
    with pytest.raises(Unavailable):
        result(older)
    assert replica.engine.waiting.held == 0


def test_all_held_calls_are_asked_again_after_a_commit_that_was_not_heard_of(
    replica: Replica, other: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = replica.open()
    waiting = held(replica, session)
    other.enqueue("action")
    assert other.call(assign_waiting("", requirement_hash({}), [session], by_age=False)) == [session]
    another = replica.open("another")
    with first_commit_unheard(monkeypatch, WRITER):
        replica.sync(another, "another")
    assert len(told(waiting)) == 1
