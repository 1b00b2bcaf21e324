"""What is wrong with one item, or with the database, is nobody else's trouble."""

import pytest
from buildgrid_scheduler.core.errors import InvalidArgument, Unavailable
from buildgrid_scheduler.core.job_state import Stage
from buildgrid_scheduler.engine.items import Enqueue, Report, WriteItem
from buildgrid_scheduler.store.provider import SqlProvider

from tests.integration.engine.faults import every_first_try_fails, stopped_after_commit
from tests.integration.engine.replica import (
    ACTIVE,
    LONGEST_PAUSE,
    Replica,
    counts,
    enqueue,
    failure,
    result,
    success,
    synchronize,
)


def in_one_batch(replica: Replica, monkeypatch: pytest.MonkeyPatch, *items: WriteItem) -> None:
    """Hand these to the engine while its writer is busy."""
    with stopped_after_commit(monkeypatch) as gate:
        replica.submitted_sync("nobody")
        gate.wait_until_reached()
        for item in items:
            replica.submit(item)


@pytest.mark.parametrize(
    "bad",
    [
        enqueue("bad", label="a NUL \0 in it"),
        enqueue("bad", needs={"Pool": ["a NUL \0 in it"]}),
        enqueue("bad", priority=1 << 31),
    ],
    ids=["text", "JSON", "number"],
)
def test_an_action_that_can_not_be_stored_is_refused_alone(
    replica: Replica, provider: SqlProvider, monkeypatch: pytest.MonkeyPatch, bad: Enqueue
) -> None:
    good, better = enqueue("good"), enqueue("better")
    session = replica.open()
    bot = synchronize(session, offer=None)
    in_one_batch(replica, monkeypatch, good, bad, bot, better)
    result(good)
    result(better)
    result(bot)
    with pytest.raises(InvalidArgument):
        result(bad)
    assert counts(provider, "jobs") == 2


def test_two_reports_of_a_session_that_arrive_together_are_taken_one_after_the_other(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica.enqueue("action")
    session = replica.open()
    job = replica.take(session)
    started = synchronize(session, reports={job: Report(ACTIVE)})
    ended = synchronize(session, reports={job: success()})
    in_one_batch(replica, monkeypatch, started, ended)
    assert [tell.state for tell in result(started).leases] == [ACTIVE]
    assert result(ended).leases == ()


@pytest.mark.parametrize("committed", [False, True], ids=["rolled back", "commit unheard"])
def test_a_life_in_which_every_transaction_has_to_be_run_twice(
    replica: Replica, provider: SqlProvider, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    with every_first_try_fails(monkeypatch, committed=committed):
        done = replica.enqueue("action").operation_name
        session = replica.open()
        job = replica.take(session)
        replica.sync(session, reports={job: Report(ACTIVE)})
        replica.sync(session, reports={job: failure()})
        replica.clock.advance(LONGEST_PAUSE)
        assert replica.take(session) == job
        replica.sync(session, reports={job: success()})
        cancelled = replica.enqueue("another").operation_name
        replica.cancel(cancelled)
        replica.enqueue("third")
        replica.take(session)
        replica.call(replica.engine.sessions.close("", session, "the end"))
        answer = replica.response(done)
    assert answer is not None
    assert answer.status.code == 0
    assert replica.stage(cancelled) is Stage.COMPLETED
    assert counts(provider, "jobs") == counts(provider, "operations") == 3
    assert counts(provider, "bots") == counts(provider, "leases") == 0
    assert counts(provider, "queue") == 1
    with provider.connect() as connection:
        rows = connection.execute("SELECT n_tries, n_infra_tries FROM jobs ORDER BY queued_at").fetchall()
    assert rows == [(2, 0), (1, 0), (1, 1)]


def test_calls_fail_as_unavailable_when_the_database_stays_away() -> None:
    nowhere = SqlProvider("postgresql://nobody@/none?host=/nonexistent")
    replica = Replica(nowhere, patience=0.05)
    try:
        for ask in (
            lambda: replica.enqueue("action"),
            lambda: replica.sync("session"),
            lambda: replica.load("operation"),
            lambda: replica.cancel("operation"),
        ):
            with pytest.raises(Unavailable, match="try again"):
                ask()
    finally:
        replica.stop()
        nowhere.close()


def test_connections_that_the_server_ends_are_replaced_and_nothing_is_lost(
    replica: Replica, provider: SqlProvider
) -> None:
    first = replica.enqueue("first")
    with provider.connect(autocommit=True) as administrator:
        administrator.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    second = replica.enqueue("second")
    session = replica.open(capacity=2)
    replica.look()
    assert {t.job_name for t in replica.sync(session).leases} == {first.job_name, second.job_name}
    assert replica.stage(first.operation_name) is Stage.EXECUTING
