"""What becomes of errors of the database, and that the connection is good for the next transaction."""

import random
from collections.abc import Iterator

import pytest
from buildgrid_scheduler.core.errors import InvalidArgument
from buildgrid_scheduler.store.hot_connection import DatabaseBusyError, HotConnection, Statements
from buildgrid_scheduler.store.provider import SqlProvider

INSERT = "INSERT INTO in_flight (instance_name, action_digest, job_name) VALUES ('', %s, 'j')"


@pytest.fixture
def hot(provider: SqlProvider) -> Iterator[HotConnection]:
    connection = HotConnection(provider, "test")
    yield connection
    connection.close()


def written(provider: SqlProvider) -> list[str]:
    with provider.connect() as connection:
        return [row[0] for row in connection.execute("SELECT action_digest FROM in_flight ORDER BY 1")]


def test_a_transaction_is_committed_whole(hot: HotConnection, provider: SqlProvider) -> None:
    def body(db: Statements) -> int:
        db.execute(INSERT, ("a",))
        number: int = db.rows("SELECT count(*) FROM in_flight")[0][0]
        db.execute(INSERT, ("b",))
        return number

    assert hot.transaction(body) == 1
    assert written(provider) == ["a", "b"]


def test_an_error_of_the_caller_rolls_back_and_the_connection_is_good_for_more(
    hot: HotConnection, provider: SqlProvider
) -> None:
    def body(db: Statements) -> None:
        db.execute(INSERT, ("a",))
        raise KeyError("a bug")

    with pytest.raises(KeyError):
        hot.transaction(body)
    hot.transaction(lambda db: db.execute(INSERT, ("b",)))
    assert written(provider) == ["b"]


@pytest.mark.parametrize("late", [False, True], ids=["fetched", "found at the commit"])
def test_a_value_that_can_not_be_stored_is_the_callers_fault(
    hot: HotConnection, provider: SqlProvider, late: bool
) -> None:
    def body(db: Statements) -> None:
        cursor = db.execute("SELECT %s::text::jsonb", ('{"a": "\\u0000"}',))
        if not late:
            cursor.fetchall()

    with pytest.raises(InvalidArgument, match="cannot be stored"):
        hot.transaction(body)
    with pytest.raises(InvalidArgument):
        hot.transaction(lambda db: db.execute(INSERT, ("a\0b",)))
    hot.transaction(lambda db: db.execute(INSERT, ("b",)))
    assert written(provider) == ["b"]


def test_a_value_that_is_too_large_for_an_index_is_no_outage(
    hot: HotConnection, provider: SqlProvider
) -> None:
    with pytest.raises(InvalidArgument, match="index"):
        hot.transaction(lambda db: db.execute(INSERT, (random.Random(1).randbytes(2000).hex(),)))
    hot.transaction(lambda db: db.execute(INSERT, ("b",)))
    assert written(provider) == ["b"]


def test_a_lock_that_is_not_to_be_had_is_worth_another_try(hot: HotConnection, provider: SqlProvider) -> None:
    with provider.connect() as holder:
        holder.execute("LOCK TABLE in_flight")

        def body(db: Statements) -> None:
            db.execute("SET LOCAL lock_timeout = '20ms'")
            db.execute(INSERT, ("a",))

        with pytest.raises(DatabaseBusyError) as caught:
            hot.transaction(body)
        assert caught.value.backoff <= 0.1
    hot.transaction(lambda db: db.execute(INSERT, ("b",)))
    assert written(provider) == ["b"]


def test_a_connection_that_was_ended_is_replaced(hot: HotConnection, provider: SqlProvider) -> None:
    def end(db: Statements) -> None:
        db.execute(INSERT, ("a",))
        (number,) = db.rows("SELECT pg_backend_pid()")[0]
        with provider.connect(autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s, 5000)", (number,))
        db.rows("SELECT 1")

    with pytest.raises(DatabaseBusyError, match="cannot be reached"):
        hot.transaction(end)
    hot.transaction(lambda db: db.execute(INSERT, ("b",)))
    assert written(provider) == ["b"]


def test_a_database_that_stays_away_is_asked_less_and_less_often() -> None:
    nowhere = SqlProvider("postgresql://nobody@/none?host=/nonexistent")
    connection = HotConnection(nowhere, "test")
    waits = []
    for _ in range(8):
        with pytest.raises(DatabaseBusyError) as caught:
            connection.read(lambda db: db.rows("SELECT 1"))
        waits.append(caught.value.backoff)
    assert waits[0] < 0.2
    assert 1 < waits[-1] <= 2.5
    nowhere.close()
