"""The farm at one moment: all parts of the same one, and later ones have greater revisions."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from buildgrid_scheduler.core.errors import DeadlineExceeded, Unavailable
from buildgrid_scheduler.fleet import state
from buildgrid_scheduler.fleet.marks import Mark
from buildgrid_scheduler.fleet.state import read_farm
from buildgrid_scheduler.store.provider import SqlProvider
from buildgrid_scheduler.store.schema import DrainEntry
from sqlalchemy import event, text
from sqlalchemy.engine import Engine

from tests.integration.fleet.test_bots import add_bot, add_lease

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def add_mark(provider: SqlProvider, bot_id: str, instance: str = "", **columns: Any) -> None:
    with provider.session() as session:
        session.add(DrainEntry(instance_name=instance, bot_id=bot_id, marked_at=NOW, **columns))


def test_marks_are_told_with_what_is_left_on_the_bot(provider: SqlProvider) -> None:
    add_mark(provider, "not there", owner="a cluster/a fleet")
    add_mark(provider, "busy", disrupted=True)
    add_mark(provider, "idle")
    add_mark(provider, "idle", "other")
    add_mark(provider, "idle", "unasked")
    add_bot(provider, "busy", capacity=2)
    add_bot(provider, "idle")
    for job, lease_state in (("runs", 2), ("is to be stopped", 5)):
        add_lease(provider, job, "busy", 1, state=lease_state)
    assert read_farm(provider, ["other", ""]).state.marks == [
        Mark("", "busy", NOW, True, "", True, 2),
        Mark("", "idle", NOW, False, "", True, 0),
        Mark("", "not there", NOW, False, "a cluster/a fleet", False, 0),
        Mark("other", "idle", NOW, False, "", False, 0),
    ]


@contextmanager
def before_statement(words: str, act: Callable[[], None]) -> Iterator[list[str]]:
    """Somebody acts before the first statement that holds `words`; yields the statements, as they come."""
    seen: list[str] = []

    def on_execute(_: Any, __: Any, statement: str, *___: Any) -> None:
        seen.append(statement)
        if words in statement and sum(words in each for each in seen) == 1:
            act()

    event.listen(Engine, "before_cursor_execute", on_execute)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", on_execute)


def marks_otherwise(provider: SqlProvider, bot_id: str) -> None:
    """By a connection that nobody listens to."""
    with provider.connect() as connection:
        connection.execute(
            "INSERT INTO drains (instance_name, bot_id, marked_at) VALUES ('', %s, now())", (bot_id,)
        )


def test_all_parts_are_of_one_moment(provider: SqlProvider) -> None:
    add_bot(provider, "bot")

    def changes() -> None:
        marks_otherwise(provider, "bot")

    with before_statement("FROM drains", changes) as statements:
        first = read_farm(provider, [""])
    assert first.state.marks == [], "the mark is younger than the snapshot"
    second = read_farm(provider, [""])
    assert [mark.bot_id for mark in second.state.marks] == ["bot"]
    assert second.revision > first.revision
    assert second.taken_at > first.taken_at
    assert len(statements) <= 7, statements


def test_a_farm_of_many_bots_takes_no_more_statements(provider: SqlProvider) -> None:
    def none() -> None:
        pass

    with before_statement("", none) as few:
        read_farm(provider, [""])
    for n in range(20):
        add_bot(provider, f"bot {n}", capacity=2)
        add_lease(provider, f"job {n}", f"bot {n}", 1)
        add_mark(provider, f"bot {n}")
    with before_statement("", none) as many:
        assert len(read_farm(provider, [""]).state.marks) == 20
    assert len(many) == len(few)


def revision(provider: SqlProvider) -> int:
    return read_farm(provider, [""]).revision


def writes(connection: psycopg.Connection[Any]) -> None:
    connection.execute(
        "INSERT INTO replicas VALUES (gen_random_uuid()::text, '', '', now(), '', '', '', '{}', now())"
    )


def test_each_commit_makes_the_revision_greater_in_whatever_order_they_began(provider: SqlProvider) -> None:
    """Also one that began first and ends last, which a number of the newest transaction would not tell."""
    with provider.connect() as early, provider.connect() as late, provider.connect() as open_:
        writes(open_)
        writes(early)
        writes(late)
        before = revision(provider)
        late.commit()
        after_late = revision(provider)
        early.commit()
        after_early = revision(provider)
        open_.rollback()
        after_all = revision(provider)
    assert before < after_late < after_early < after_all


def test_one_that_is_still_open_changes_no_revision(provider: SqlProvider) -> None:
    with provider.connect() as open_:
        writes(open_)
        first = revision(provider)
        writes(open_)
        with open_.transaction():  # a savepoint
            writes(open_)
        assert revision(provider) >= first
        second = revision(provider)
        open_.commit()
        assert revision(provider) > second


def test_replicas_tell_revisions_of_the_same_order(provider: SqlProvider, database: str) -> None:
    other = SqlProvider(database)
    try:
        told = []
        for n in range(4):
            told.append(revision((provider, other)[n % 2]))
            marks_otherwise(provider, f"bot {n}")
        assert told == sorted(set(told))
    finally:
        other.close()


def test_a_database_that_is_away_is_unavailable() -> None:
    nowhere = SqlProvider("postgresql://127.0.0.1:1/nowhere")
    with pytest.raises(Unavailable, match="cannot be reached"):
        read_farm(nowhere, [""])
    nowhere.close()


def test_a_statement_that_takes_too_long_is_given_up(
    provider: SqlProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "_TIMEOUT", text("SET LOCAL statement_timeout = '50ms'"))
    with provider.connect() as connection:
        connection.execute("LOCK TABLE bots IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(DeadlineExceeded, match="takes longer than"):
            read_farm(provider, [""])
