"""Who is followed here is noted: by few statements, and before anybody could take it for abandoned."""

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from buildgrid_scheduler.core.job_state import Stage
from buildgrid_scheduler.engine.following import Following
from buildgrid_scheduler.engine.items import Call
from buildgrid_scheduler.engine.timed_rounds import TimedRounds
from buildgrid_scheduler.store.provider import SqlProvider
from buildgrid_scheduler.timers.options import TimerSettings

from tests.integration.engine.faults import ERRANDS, every_first_try_fails, stopped_after_commit
from tests.integration.engine.replica import Replica
from tests.integration.timers.jobs import followed, left_alone, one

TIMEOUT = timedelta(seconds=300)
PERIOD = timedelta(seconds=75)


class Follower:
    """What a replica does about operations that are followed."""

    def __init__(self, replica: Replica, timeout: timedelta | None = TIMEOUT) -> None:
        self.transactions = 0
        self._replica = replica
        self.following = Following(replica.engine.watches, self._submit)
        settings = TimerSettings(abandoned_operation_timeout=timeout)
        self.rounds = TimedRounds(replica.engine, self.following, settings)

    def _submit(self, call: Call[None]) -> None:
        self.transactions += 1
        self._replica.engine.submit(call)

    def round(self) -> int:
        """What its timer does every period; returns how many operations were cancelled."""
        return sum(self.rounds.abandoned_operations())


@pytest.fixture
def mine(replica: Replica) -> Iterator[Follower]:
    yield Follower(replica)


@pytest.fixture
def theirs(other: Replica) -> Iterator[Follower]:
    yield Follower(other)


def noted_at(provider: SqlProvider, operation: str) -> datetime:
    moment: datetime = one(provider, "SELECT watched_at FROM operations WHERE name = %s", operation)
    return moment


async def test_an_operation_is_born_followed_if_it_has_a_stream(
    replica: Replica, provider: SqlProvider
) -> None:
    enqueued, _ = followed(replica, "action")
    without = replica.enqueue("action")
    assert one(
        provider, "SELECT watched_at = created_at FROM operations WHERE name = %s", enqueued.operation_name
    )
    assert noted_at(provider, without.operation_name) is None


async def test_a_stream_that_lasts_keeps_its_operation_whoever_looks(
    replica: Replica, mine: Follower, theirs: Follower
) -> None:
    enqueued, watch = followed(replica, "action")
    for _ in range(20):
        replica.clock.advance(PERIOD)
        assert (mine.round(), theirs.round()) == (0, 0)
    assert replica.stage(enqueued.operation_name) is Stage.QUEUED
    replica.engine.watches.drop(watch)
    mine.following.left(enqueued.operation_name)
    for _ in range(4):
        assert mine.round() == theirs.round() == 0
        replica.clock.advance(PERIOD)
    assert theirs.round() == 1


async def test_a_replica_that_dies_leaves_its_streams_a_whole_timeout_to_come_back(
    replica: Replica, other: Replica, mine: Follower, theirs: Follower
) -> None:
    comes_back, _ = followed(replica, "comes back")
    stays_away, _ = followed(replica, "stays away")
    for _ in range(10):
        replica.clock.advance(PERIOD)
        assert (mine.round(), theirs.round()) == (0, 0)
    replica.stop()
    for _ in range(3):
        other.clock.advance(PERIOD)
        assert theirs.round() == 0
    theirs.following.looked_at(comes_back.operation_name)
    other.settle()
    other.clock.advance(PERIOD + timedelta(seconds=1))
    assert theirs.round() == 1
    assert other.load(stays_away.operation_name).cancelled
    assert other.stage(comes_back.operation_name) is Stage.QUEUED


async def test_nothing_is_concluded_from_a_time_in_which_nobody_could_note_anything(
    replica: Replica, mine: Follower, theirs: Follower
) -> None:
    enqueued, _ = followed(replica, "action")
    for _ in range(5):
        replica.clock.advance(PERIOD)
        assert (mine.round(), theirs.round()) == (0, 0)
    replica.clock.advance(timedelta(hours=1))  # the database was away
    assert theirs.round() == 0, "before the other had a chance to note its stream"
    assert mine.round() == 0
    for _ in range(5):
        replica.clock.advance(PERIOD)
        assert (theirs.round(), mine.round()) == (0, 0)
    assert replica.stage(enqueued.operation_name) is Stage.QUEUED


async def test_a_replica_that_just_started_gives_clients_time_to_come_back(
    replica: Replica, theirs: Follower
) -> None:
    left_alone(replica, "action")
    replica.clock.advance(timedelta(hours=1))  # all replicas were down
    for _ in range(4):
        assert theirs.round() == 0
        replica.clock.advance(PERIOD)
    assert theirs.round() == 1


async def test_a_new_timeout_is_judged_by_only_after_it_has_passed(replica: Replica) -> None:
    follower = Follower(replica)
    left = left_alone(replica, "left")
    for _ in range(4):
        assert follower.round() == 0
        replica.clock.advance(PERIOD - timedelta(seconds=1))
    short = timedelta(seconds=60)
    follower.rounds.reconfigure(TimerSettings(abandoned_operation_timeout=short))
    for _ in range(3):
        assert follower.round() == 0, "others may not have heard of it"
        replica.clock.advance(short / 2 - timedelta(seconds=1))
    assert follower.round() == 1
    assert replica.load(left.operation_name).cancelled


async def test_without_a_timeout_nothing_is_cancelled_but_streams_are_noted_for_those_who_have_one(
    replica: Replica, provider: SqlProvider
) -> None:
    follower = Follower(replica, None)
    enqueued, _ = followed(replica, "action")
    left = left_alone(replica, "left")
    for _ in range(10):
        replica.clock.advance(PERIOD)
        assert follower.round() == 0
    assert replica.stage(left.operation_name) is Stage.QUEUED
    assert replica.clock() - noted_at(provider, enqueued.operation_name) < timedelta(seconds=1)


async def test_many_that_leave_at_once_are_noted_by_two_transactions_at_most(
    replica: Replica, mine: Follower, provider: SqlProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    operations = [left_alone(replica, f"action {n}").operation_name for n in range(20)]
    replica.clock.advance(PERIOD)
    left_from = replica.clock()
    with stopped_after_commit(monkeypatch, ERRANDS) as gate:
        replica.engine.news.look_for_work()
        gate.wait_until_reached()
        for operation in operations:
            mine.following.left(operation)
    replica.settle()
    assert mine.transactions == 1
    assert all(noted_at(provider, operation) > left_from for operation in operations)
    mine.following.left(operations[0])
    assert mine.transactions == 2


@pytest.mark.parametrize("committed", [False, True], ids=["rolled back", "commit unheard"])
async def test_what_is_noted_twice_is_noted(
    replica: Replica,
    mine: Follower,
    provider: SqlProvider,
    monkeypatch: pytest.MonkeyPatch,
    committed: bool,
) -> None:
    operation = left_alone(replica, "action").operation_name
    replica.clock.advance(PERIOD)
    left_from = replica.clock()
    with every_first_try_fails(monkeypatch, committed=committed):
        mine.following.left(operation)
        replica.settle()
    assert noted_at(provider, operation) > left_from


async def test_an_operation_that_is_polled_is_noted_once_a_period(
    replica: Replica, mine: Follower, provider: SqlProvider
) -> None:
    operation = left_alone(replica, "action").operation_name
    for _ in range(3):
        replica.clock.advance(PERIOD)
        polled_from = replica.clock()
        before = mine.transactions
        for _ in range(10):
            mine.following.looked_at(operation)
        replica.settle()
        assert mine.transactions == before + 1
        assert noted_at(provider, operation) > polled_from
        mine.round()


async def test_to_be_noted_late_does_not_turn_time_back(
    replica: Replica, mine: Follower, provider: SqlProvider
) -> None:
    operation = left_alone(replica, "action").operation_name
    replica.clock.advance(PERIOD)
    mine.following.left(operation)
    replica.settle()
    latest = noted_at(provider, operation)
    replica.clock.advance(-PERIOD)  # the clock of another replica
    mine.following.left(operation)
    replica.settle()
    assert noted_at(provider, operation) == latest
