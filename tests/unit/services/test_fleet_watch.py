"""Who watches the farm is told each change, and no more often than there is something to tell."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from buildgrid_protos.buildgrid.fleet.v1.fleet_pb2 import FleetState
from buildgrid_scheduler.core.errors import Unavailable
from buildgrid_scheduler.engine.farm_changes import FarmChanges
from buildgrid_scheduler.engine.items import Effects
from buildgrid_scheduler.fleet.replicas import ReplicaRecord
from buildgrid_scheduler.fleet.state import FarmSnapshot, FarmState
from buildgrid_scheduler.services.fleet_watch import FarmWatches, Feed, Pace

from tests.farm.waiting import eventually

START = datetime(2026, 1, 1, tzinfo=UTC)
NEVER, AT_ONCE = 3600.0, 0.001
WITHIN = 20.0
ALONE = Pace(least=AT_ONCE, poll=NEVER, rest=0, heartbeat=NEVER)
"""Nothing is read but for what this replica does."""
POLLING = replace(ALONE, poll=AT_ONCE)


class Database:
    """Tells of one replica, whose version is the number of changes."""

    def __init__(self) -> None:
        self.changes = 0
        self.reads: list[tuple[str, ...]] = []
        self.down = False
        self.answers = threading.Event()
        self.answers.set()

    def read(self, instances: tuple[str, ...]) -> FarmSnapshot:
        """On a thread."""
        self.reads.append(instances)
        changes, number = self.changes, len(self.reads)
        self.answers.wait(WITHIN)
        if self.down:
            raise Unavailable("the database is down")
        replica = ReplicaRecord("replica", "host", str(changes), START, "hash")
        return FarmSnapshot(START + timedelta(seconds=number), number, FarmState([replica], [], [], []))

    async def until_read(self, times: int) -> None:
        """Return after so many more reads have begun."""
        wanted = len(self.reads) + times
        await eventually(lambda: len(self.reads) >= wanted, WITHIN, lambda: f"{len(self.reads)} of {wanted}")


class Farm:
    """What is watched, by what, and how."""

    def __init__(self) -> None:
        self.database = Database()
        self.changes = FarmChanges()
        self.made: list[FarmWatches] = []

    def watches(self, pace: Pace) -> FarmWatches:
        self.made.append(FarmWatches(self.database.read, self.changes, pace))
        return self.made[-1]

    async def change(self) -> None:
        """As the engine's threads do it."""
        self.database.changes += 1
        await asyncio.to_thread(self.changes.errand, Effects(fleet=True))


@pytest.fixture
async def farm() -> AsyncIterator[Farm]:
    farm = Farm()
    yield farm
    farm.database.answers.set()
    for watches in farm.made:
        await asyncio.to_thread(watches.stop)


def version(state: FleetState) -> int:
    """How many changes there had been."""
    return int(state.replicas[0].version)


async def told(feed: Feed) -> FleetState:
    async with asyncio.timeout(WITHIN):
        return await feed.next()


async def test_the_state_is_told_at_once_and_each_change_by_this_replica(farm: Farm) -> None:
    with farm.watches(ALONE).watching(("",)) as feed:
        assert version(await told(feed)) == 0
        for n in (1, 2, 3):
            await farm.change()
            state = await told(feed)
            assert (version(state), state.revision) == (n, n + 1)
            assert state.time.ToDatetime(tzinfo=UTC) == START + timedelta(seconds=n + 1)


async def test_what_another_replica_changes_is_found_by_looking(farm: Farm) -> None:
    with farm.watches(POLLING).watching(("",)) as feed:
        assert version(await told(feed)) == 0
        farm.database.changes = 1
        assert version(await told(feed)) == 1


async def test_what_has_not_changed_is_not_told_again(farm: Farm) -> None:
    with farm.watches(POLLING).watching(("",)) as feed:
        await told(feed)
        waiting = asyncio.ensure_future(feed.next())
        await farm.database.until_read(20)
        assert not waiting.done()
        farm.database.changes = 1
        assert version(await asyncio.wait_for(waiting, WITHIN)) == 1


async def test_the_heartbeat_tells_the_same_state_of_a_later_moment(farm: Farm) -> None:
    with farm.watches(replace(POLLING, heartbeat=0.05)).watching(("",)) as feed:
        first, second = await told(feed), await told(feed)
    assert version(second) == version(first)
    assert second.revision > first.revision
    assert second.time.ToDatetime() > first.time.ToDatetime()
    assert second.replicas == first.replicas


async def test_who_is_slow_is_told_the_newest_state_alone(farm: Farm) -> None:
    with farm.watches(POLLING).watching(("",)) as feed:
        await told(feed)
        for n in range(1, 10):
            farm.database.changes = n
            await farm.database.until_read(2)
        assert version(await told(feed)) == 9
        late = asyncio.ensure_future(feed.next())
        await farm.database.until_read(5)
        assert not late.done()
        late.cancel()


async def test_changes_are_told_together_that_come_faster_than_is_told(farm: Farm) -> None:
    with farm.watches(replace(POLLING, least=NEVER)).watching(("",)) as feed:
        assert version(await told(feed)) == 0
        late = asyncio.ensure_future(feed.next())
        for n in range(1, 5):
            farm.database.changes = n
            await farm.database.until_read(2)
        assert not late.done()
        late.cancel()


async def test_changes_by_this_replica_that_come_at_once_are_read_once(farm: Farm) -> None:
    with farm.watches(replace(ALONE, least=0.2)).watching(("",)) as feed:
        await told(feed)
        for _ in range(50):
            farm.database.changes += 1
            farm.changes.errand(Effects(fleet=True))
        assert version(await told(feed)) == 50
    assert len(farm.database.reads) == 2


@pytest.mark.parametrize(
    ("took", "changed", "after"),
    [
        (0.0, True, 0.1),
        (0.0, False, 0.25),
        (0.02, True, 0.2),
        (0.02, False, 0.25),
        (1.5, True, 15),
        (1.5, False, 15),
    ],
)
def test_reading_takes_a_tenth_of_a_core_at_most(took: float, changed: bool, after: float) -> None:
    assert Pace().next_read(took, changed=changed) == pytest.approx(after)


async def test_all_who_watch_the_same_share_one_reader(farm: Farm) -> None:
    watches = farm.watches(ALONE)
    with (
        watches.watching(("a",)) as one,
        watches.watching(("a",)) as two,
        watches.watching(("a", "b")) as three,
    ):
        for feed in (one, two, three):
            await told(feed)
        farm.database.reads.clear()
        await farm.change()
        assert [version(await told(feed)) for feed in (one, two, three)] == [1, 1, 1]
    assert sorted(farm.database.reads) == [("a",), ("a", "b")]


async def test_who_comes_later_is_told_what_is_true_then(farm: Farm) -> None:
    """And not what was read before; the pace is not for that."""
    watches = farm.watches(replace(ALONE, least=NEVER))
    with watches.watching(("",)) as early:
        assert version(await told(early)) == 0
        farm.database.changes = 1
        with watches.watching(("",)) as late:
            assert version(await told(late)) == 1


async def test_where_nobody_watches_nothing_is_read(farm: Farm) -> None:
    watches = farm.watches(POLLING)
    with watches.watching(("",)) as feed:
        await told(feed)
    reads = len(farm.database.reads)
    await farm.change()
    with watches.watching(("other",)) as feed:
        await told(feed)
        await farm.database.until_read(3)
    assert farm.database.reads[: reads + 2].count(("",)) <= reads + 1, "one read may have been under way"
    assert set(farm.database.reads[reads + 2 :]) == {("other",)}


async def fails(feed: Feed) -> str:
    """What it fails with, soon."""
    with pytest.raises(Unavailable) as raised:
        async with asyncio.timeout(WITHIN):
            while True:
                await feed.next()
    return str(raised.value)


async def test_a_database_that_is_down_ends_all_and_who_comes_later_begins_anew(farm: Farm) -> None:
    watches = farm.watches(POLLING)
    with watches.watching(("",)) as one, watches.watching(("",)) as two:
        await told(one)
        farm.database.down = True
        assert await fails(one) == await fails(two) == "the database is down"
        with watches.watching(("",)) as three:
            assert await fails(three) == "the database is down"
        farm.database.down = False
        with watches.watching(("",)) as four:
            assert version(await told(four)) == 0


async def test_a_database_that_does_not_answer_is_not_waited_for(farm: Farm) -> None:
    watches = farm.watches(replace(ALONE, patience=0.05))
    farm.database.answers.clear()
    for _ in range(2):  # the second time the first read still hangs
        with watches.watching(("",)) as feed:
            assert "the database does not answer" in await fails(feed)
    assert len(farm.database.reads) == 1, "one thread hangs, and no more"
    farm.database.answers.set()
    with farm.watches(ALONE).watching(("",)) as feed:
        assert version(await told(feed)) == 0


async def test_a_replica_that_stops_sends_all_elsewhere(farm: Farm) -> None:
    watches = farm.watches(ALONE)
    with watches.watching(("",)) as feed:
        await told(feed)
        waiting = asyncio.ensure_future(fails(feed))
        watches.send_elsewhere()
        assert "shutting down" in await waiting
    with pytest.raises(Unavailable, match="shutting down"), watches.watching(("",)):
        pass


@pytest.mark.parametrize(
    "effects",
    [
        Effects(fleet=True),
        Effects(arrivals=[("", "hash")]),
        Effects(sessions={"session"}),
        Effects(states={"job": None}),
    ],
    ids=["sessions or marks", "jobs that wait", "sessions that were told", "jobs"],
)
def test_what_changes_the_farm_is_heard_of(effects: Effects) -> None:
    heard = listening(lambda changes: changes.errand(effects))
    assert heard == 1


def test_what_changes_nothing_is_not_heard_of() -> None:
    assert listening(lambda changes: changes.errand(Effects())) == 0


def listening(act: Callable[[FarmChanges], None]) -> int:
    """How often a listener is called, which listens once and then no more."""
    heard: list[None] = []
    changes = FarmChanges()
    listener = lambda: heard.append(None)  # noqa: E731 - compared by identity
    changes.listen(listener)
    act(changes)
    changes.ignore(listener)
    act(changes)
    return len(heard)
