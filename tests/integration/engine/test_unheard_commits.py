"""Transactions that are run again, since nobody heard whether they were committed: they take effect once."""

import threading
from datetime import datetime

import pytest
from buildgrid_scheduler.core.errors import InvalidArgument, Unavailable
from buildgrid_scheduler.core.requirements import requirement_hash
from buildgrid_scheduler.engine.assigning import assign_waiting
from buildgrid_scheduler.engine.items import Effects
from buildgrid_scheduler.engine.unheard import once
from buildgrid_scheduler.store.hot_connection import DatabaseBusyError, HotConnection, Statements
from buildgrid_scheduler.store.provider import SqlProvider

from tests.integration.engine.faults import first_run_in_vain
from tests.integration.engine.replica import PATIENCE, Replica, Transaction, counts, result, success

COMMITTED = pytest.mark.parametrize("committed", [True, False], ids=["committed", "rolled back"])


def by_name(*sessions: str) -> Transaction[list[str]]:
    return assign_waiting("", requirement_hash({}), list(sessions), by_age=True)


# --- assignment by name


@COMMITTED
def test_work_by_name_is_given_once(
    replica: Replica, provider: SqlProvider, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    for n in range(6):
        replica.enqueue(f"action {n}")
    session = replica.open(capacity=3)
    with first_run_in_vain(monkeypatch, lambda: None, committed=committed):
        assert replica.call(by_name(session)) == [session]
    assert counts(provider, "leases") == 1
    assert counts(provider, "queue") == 5


def test_work_by_name_is_not_given_again_where_the_bot_was_faster_than_the_news(
    replica: Replica, other: Replica, provider: SqlProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(2):
        replica.enqueue(f"action {n}")
    session = replica.open()

    def the_bot_does_it() -> None:
        (tell,) = other.sync(session, offer=None).leases
        assert other.sync(session, reports={tell.job_name: success()}, offer=None).leases == ()

    with first_run_in_vain(monkeypatch, the_bot_does_it, committed=True):
        assert replica.call(by_name(session)) == [session]
    assert counts(provider, "leases") == 0
    assert counts(provider, "queue") == 1


def test_the_call_that_is_held_for_work_by_name_hears_of_it(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = replica.open()
    item = replica.submitted_sync(session, hold=True, offer=frozenset({("Pool", "none of yours")}))
    replica.settle()
    job = replica.enqueue("action", needs={"Pool": ["large"]}).job_name
    transaction = assign_waiting("", requirement_hash({"Pool": ["large"]}), [session], by_age=True)
    with first_run_in_vain(monkeypatch, lambda: None, committed=True):
        replica.call(transaction)
    assert [tell.job_name for tell in result(item).leases] == [job]


# --- opening a session


@COMMITTED
def test_a_session_is_opened_once(
    replica: Replica, provider: SqlProvider, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    with first_run_in_vain(monkeypatch, lambda: None, committed=committed):
        session = replica.open()
    replica.sync(session)
    assert counts(provider, "bots") == 1


@COMMITTED
def test_a_session_that_nobody_waits_for_any_more_does_not_close_the_one_that_its_bot_opened_since(
    replica: Replica, other: Replica, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    newer: list[str] = []
    stale, transaction = replica.opening()
    with (
        first_run_in_vain(monkeypatch, lambda: newer.append(other.open()), committed=committed),
        pytest.raises(Unavailable, match="another session"),
    ):
        replica.call(transaction)
    other.sync(newer[0])
    with pytest.raises(InvalidArgument):
        other.sync(stale)


@COMMITTED
def test_a_session_that_was_there_before_is_closed_by_the_second_run_too(
    replica: Replica, provider: SqlProvider, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    old = replica.open()
    with first_run_in_vain(monkeypatch, lambda: None, committed=committed):
        new = replica.open()
    replica.sync(new)
    with pytest.raises(InvalidArgument):
        replica.sync(old)
    assert counts(provider, "bots") == 1


# --- the means


def test_a_transaction_whose_end_is_open_is_waited_for(replica: Replica, provider: SqlProvider) -> None:
    """A server process may not have noticed yet that it has lost us."""
    runs: list[str] = []

    def insert(db: Statements, now: object, effects: Effects) -> str:
        runs.append("run")
        db.execute("INSERT INTO requirements VALUES (%s, '{}')", (f"run {len(runs)}",))
        return "done"

    guarded, put_off = once(insert), threading.Event()

    def watched(db: Statements, now: datetime, effects: Effects) -> str:
        try:
            return guarded(db, now, effects)
        except DatabaseBusyError:
            put_off.set()
            raise

    with provider.connect() as connection:
        connection.execute("BEGIN")
        with connection.pipeline():
            assert guarded(Statements(connection), replica.clock(), Effects()) == "done"
        item = replica.submitted_call(watched)
        assert put_off.wait(PATIENCE)
        assert not item.ticket.future.done()
        connection.execute("COMMIT")
    assert result(item) == "done"
    assert runs == ["run"]
    assert counts(provider, "requirements") == 1


def test_what_was_told_to_nobody_is_told_by_the_second_run(provider: SqlProvider) -> None:
    def change(db: Statements, now: object, effects: Effects) -> None:
        effects.states["job"] = None
        effects.arrivals.append(("", "hash"))
        effects.sessions.add("session")

    guarded = once(change)
    connection = HotConnection(provider, "test")
    for _ in range(2):
        effects = Effects()
        connection.transaction(lambda db, effects=effects: guarded(db, None, effects))  # type: ignore[misc, arg-type]
        assert effects == Effects({"job": None}, [("", "hash")], {"session"})
    connection.close()
