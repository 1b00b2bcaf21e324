"""Replicas write themselves down, and are told of while they live."""

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import NoReturn

import pytest
from buildgrid_scheduler.core.errors import Unavailable
from buildgrid_scheduler.core.requirement_figures import Sums
from buildgrid_scheduler.engine.figures import RequirementSums
from buildgrid_scheduler.fleet.estimates import estimates_of
from buildgrid_scheduler.fleet.replicas import (
    FORGOTTEN_AFTER,
    GONE_AFTER,
    ReplicaRecord,
    live_replicas,
    remove_replica,
    write_replica,
)
from buildgrid_scheduler.server.heartbeat import Heartbeat
from buildgrid_scheduler.server.reload import Outcome
from buildgrid_scheduler.store.provider import SqlProvider
from sqlalchemy import text

from tests.farm.waiting import eventually_sync

START = datetime(2026, 1, 1, tzinfo=UTC)
FIRST = ReplicaRecord("first", "pod-1", "1.0", START, "aa")
SECOND = ReplicaRecord("second", "pod-2", "1.1", START + timedelta(seconds=1), "bb")


def known(provider: SqlProvider) -> list[ReplicaRecord]:
    with provider.session() as session:
        return live_replicas(session)


def write(provider: SqlProvider, *records: ReplicaRecord) -> None:
    with provider.session() as session:
        for record in records:
            write_replica(session, record)


def silent(provider: SqlProvider, id_: str, since: timedelta) -> None:
    with provider.session() as session:
        session.execute(
            text("UPDATE replicas SET seen_at = clock_timestamp() - :age WHERE id = :id"),
            {"age": since, "id": id_},
        )


def rows(provider: SqlProvider) -> int:
    with provider.session() as session:
        count: int = session.execute(text("SELECT count(*) FROM replicas")).scalar_one()
        return count


def test_the_oldest_comes_first_and_each_tells_its_last_state(provider: SqlProvider) -> None:
    write(provider, SECOND, FIRST)
    refused = replace(FIRST, refused_hash="cc", refused_error="line 3: no", fields_at_restart=("listen",))
    write(provider, refused)
    assert known(provider) == [refused, SECOND]


def test_one_that_was_not_heard_of_is_gone_until_it_is_heard_of_again(provider: SqlProvider) -> None:
    write(provider, FIRST, SECOND)
    silent(provider, "first", GONE_AFTER + timedelta(seconds=1))
    assert known(provider) == [SECOND]
    write(provider, FIRST)
    assert known(provider) == [FIRST, SECOND]


def test_one_that_stopped_is_gone_at_once(provider: SqlProvider) -> None:
    write(provider, FIRST, SECOND)
    with provider.session() as session:
        remove_replica(session, "first")
    assert known(provider) == [SECOND]


def test_what_was_killed_long_ago_leaves_nothing(provider: SqlProvider) -> None:
    write(provider, FIRST)
    silent(provider, "first", FORGOTTEN_AFTER + timedelta(seconds=1))
    write(provider, SECOND)
    assert rows(provider) == 1


def test_a_heartbeat_writes_at_its_start_and_at_each_change_and_leaves_nothing(provider: SqlProvider) -> None:
    heartbeat = Heartbeat(provider, FIRST)
    heartbeat.start()
    try:
        eventually_sync(lambda: known(provider) == [FIRST], 20, lambda: str(known(provider)))
        heartbeat.change(Outcome("cc", "line 3: no"))
        refused = replace(FIRST, refused_hash="cc", refused_error="line 3: no")
        eventually_sync(lambda: known(provider) == [refused], 3, lambda: str(known(provider)))
        heartbeat.change(Outcome("dd", fields_at_restart=("listen",)))
        taken_up = replace(FIRST, config_hash="dd", fields_at_restart=("listen",))
        eventually_sync(lambda: known(provider) == [taken_up], 3, lambda: str(known(provider)))
    finally:
        heartbeat.stop()
    assert rows(provider) == 0


def test_a_heartbeat_writes_down_what_its_replica_saw(provider: SqlProvider) -> None:
    key = ("", "hash")
    sums = RequirementSums()
    heartbeat = Heartbeat(provider, FIRST, sums)
    sums.put_back({key: Sums(3, 1, 10.0, 100.0)})

    def known() -> timedelta | None:
        with provider.session() as session:
            estimates = estimates_of(session, [key])
        return estimates[key].duration if estimates else None

    heartbeat.start()
    try:
        eventually_sync(lambda: known() == timedelta(seconds=10), 20, lambda: str(known()))
        sums.put_back({key: Sums(0, 5000, 100_000.0, 2e6)})
    finally:
        heartbeat.stop()
    assert known() == timedelta(seconds=20), "the last of it at its end"


def test_what_a_heartbeat_cannot_write_down_it_writes_later(provider: SqlProvider) -> None:
    sums = RequirementSums()
    heartbeat = Heartbeat(provider, FIRST, sums)
    sums.put_back({("", "hash"): Sums(arrived=3)})
    with provider.session() as session:
        session.execute(text("ALTER TABLE requirement_figures RENAME TO elsewhere"))
    heartbeat.start()
    try:
        eventually_sync(lambda: known(provider) == [FIRST], 20, lambda: str(known(provider)))
        heartbeat.change(Outcome("dd"))  # is written in the next round
        later = [replace(FIRST, config_hash="dd")]
        eventually_sync(lambda: known(provider) == later, 20, lambda: str(known(provider)))
        with provider.session() as session:
            session.execute(text("ALTER TABLE elsewhere RENAME TO requirement_figures"))
    finally:
        heartbeat.stop()
    with provider.session() as session:
        assert session.execute(text("SELECT arrived FROM requirement_figures")).scalars().all() == [3]


def test_a_heartbeat_outlives_an_outage_and_stops_during_one(provider: SqlProvider) -> None:
    heartbeat = Heartbeat(provider, FIRST)
    with provider.session() as session:
        session.execute(text("ALTER TABLE replicas RENAME TO elsewhere"))
    heartbeat.start()
    heartbeat.change(Outcome("dd"))
    with provider.session() as session:
        session.execute(text("ALTER TABLE elsewhere RENAME TO replicas"))
    heartbeat.change(Outcome("ee"))
    eventually_sync(lambda: [r.config_hash for r in known(provider)] == ["ee"], 20, lambda: "")
    with provider.session() as session:
        session.execute(text("ALTER TABLE replicas RENAME TO elsewhere"))
    heartbeat.stop()


def test_a_heartbeat_outlives_whatever_goes_wrong(
    provider: SqlProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    heartbeat = Heartbeat(provider, FIRST)
    with monkeypatch.context() as broken:
        failed = threading.Event()

        def session() -> NoReturn:
            failed.set()
            raise Unavailable("all connections are in use")

        broken.setattr(provider, "session", session)
        heartbeat.start()
        assert failed.wait(20)
    heartbeat.change(Outcome("dd"))
    eventually_sync(lambda: [r.config_hash for r in known(provider)] == ["dd"], 20, lambda: "")
    heartbeat.stop()


def test_a_heartbeat_that_hangs_does_not_hold_up_the_end(provider: SqlProvider) -> None:
    heartbeat = Heartbeat(provider, FIRST)
    heartbeat.start()
    eventually_sync(lambda: known(provider) == [FIRST], 20, lambda: "")
    with provider.session() as session:
        session.execute(text("LOCK TABLE replicas IN ACCESS EXCLUSIVE MODE"))
        heartbeat.stop()  # returns, though nobody can write
    eventually_sync(lambda: rows(provider) == 0, 20, lambda: "the record stays")
    heartbeat.stop()  # with its thread: nothing of it is left
