"""Bots and marks over the wire: what is told of them, and what Drain and Undrain do, by whatever replica."""

import asyncio

import grpc
import psycopg
import pytest
from buildgrid_protos.buildgrid.fleet.v1.fleet_pb2 import Bot as BotMessage
from buildgrid_protos.buildgrid.fleet.v1.fleet_pb2 import DrainRequest, FleetState, Mark, UndrainRequest
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2 import (
    BOT_TERMINATING,
    OK,
    UNHEALTHY,
)

from tests.farm.bots import HELD, active, completed
from tests.farm.clients import WITHIN
from tests.farm.waiting import eventually
from tests.integration.server.shared_farm import Farm

MANY = 10_001


def bots(state: FleetState) -> dict[str, BotMessage]:
    return {bot.bot_id: bot for bot in state.bot_sessions}


def marks(state: FleetState) -> dict[str, Mark]:
    return {mark.bot_id: mark for mark in state.marks}


# --- what is told


async def test_a_bot_is_told_of_from_its_first_call_until_it_has_gone(farm: Farm) -> None:
    whose = {"capacity-class": "spot", "fleet-uid": "a fleet", "cluster-uid": "a cluster"}
    bot = farm.bot("bot", capacity=2, worker_properties=whose)
    await bot.open()
    fleet = farm.fleet(1)
    state = await fleet.state()
    (told,) = state.bot_sessions
    assert (told.instance_name, told.bot_id, told.status, told.slots) == (farm.instance, "bot", OK, 2)
    assert (told.capacity_class, told.fleet_uid, told.cluster_uid) == ("spot", "a fleet", "a cluster")
    assert (told.leases, told.lease_count, told.HasField("busy_time")) == (0, 0, False)
    assert 0 <= state.time.seconds - told.connect_time.seconds < 60
    await farm.queue("one", "two")
    first, second = await bot.update()
    await bot.update(active(first), active(second))
    state = await fleet.state()
    (told,) = state.bot_sessions
    assert (told.leases, told.lease_count) == (2, 2)
    assert 0 <= state.time.seconds - told.busy_time.seconds < 60
    await bot.update(completed(first), completed(second), status=UNHEALTHY)
    state = await fleet.state()
    (told,) = state.bot_sessions
    assert (told.status, told.leases, told.lease_count) == (UNHEALTHY, 0, 2)
    assert not told.HasField("busy_time")
    assert [(count.instance_name, count.status, count.count) for count in state.bots] == [
        (farm.instance, UNHEALTHY, 1)
    ]


@pytest.mark.parametrize("key", ["fleet-uid", "cluster-uid", "capacity-class"])
async def test_what_a_bot_says_of_itself_is_short(farm: Farm, key: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=f"worker property {key} .* longer than 100") as raised:
        await farm.bot("bot", worker_properties={key: "x" * 101}).open()
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    await farm.bot("bot", worker_properties={key: "x" * 100}).open()


async def test_jobs_that_avoid_a_class_are_told_by_it(farm: Farm) -> None:
    await farm.queue("one", "two")
    bot = farm.bot("bot", worker_properties={"capacity-class": "spot"})
    await bot.update(active(await bot.take_lease()))
    (before,) = (await farm.fleet().state()).requirements
    assert (before.queued, before.executing, list(before.avoidances)) == (1, 1, [])
    await bot.open(status=BOT_TERMINATING)  # it has lost what it had
    (after,) = (await farm.fleet().state()).requirements
    assert (after.queued, after.executing) == (2, 0)
    assert [(avoided.capacity_class, avoided.queued) for avoided in after.avoidances] == [("spot", 1)]


async def test_a_later_state_has_a_greater_revision_whichever_replica_tells_it(farm: Farm) -> None:
    revisions = []
    for n in range(6):
        revisions.append((await farm.fleet(n % 2).state()).revision)
        await farm.fleet().drain_when_idle(f"bot {n}")
    assert revisions == sorted(set(revisions))


# --- Drain and Undrain


async def test_a_mark_is_told_with_its_owner_and_what_is_left_to_do(farm: Farm) -> None:
    bot = farm.bot("bot", capacity=2)
    await farm.queue("one")
    (lease,) = await bot.update(active(await bot.take_lease()))
    fleet = farm.fleet(1)
    assert await fleet.drain_when_idle("bot", "later", owner="me", disrupted=True) == ["bot", "later"]
    state = await fleet.state()
    told = marks(state)
    assert set(told) == {"bot", "later"}
    busy, later = told["bot"], told["later"]
    assert (busy.instance_name, busy.owner, busy.disrupted, busy.connected, busy.leases) == (
        farm.instance,
        "me",
        True,
        True,
        1,
    )
    assert (later.owner, later.connected, later.leases) == ("me", False, 0)
    assert 0 <= state.time.seconds - busy.time.seconds < 60
    await farm.queue("two")
    assert [told.id for told in await bot.update(lease)] == [lease.id], "nothing new"


async def test_only_idle_bots_are_drained_if_they_are_idle(farm: Farm) -> None:
    busy = farm.bot("busy")
    await farm.queue("one")
    await busy.take_lease()
    for name in ("old", "young"):
        await farm.bot(name).open()
    assert await farm.fleet().drain_if_idle("busy", "old", "absent", owner="me") == ["old", "absent"]
    assert await farm.fleet(1).drain_if_idle(number=3, owner="me") == ["young"]
    assert set(marks(await farm.fleet().state())) == {"old", "young", "absent"}


async def test_marks_are_taken_away_by_their_owner_or_by_whoever_names_none(farm: Farm) -> None:
    fleet = farm.fleet()
    await fleet.drain_when_idle("mine", owner="me")
    await fleet.drain_when_idle("theirs", "mine", owner="them")
    assert await fleet.undrain("theirs", "mine", "none", owner="me") == ["mine"]
    assert set(marks(await fleet.state())) == {"theirs"}
    assert await fleet.undrain("theirs", "mine") == ["theirs"]
    assert marks(await fleet.state()) == {}


async def test_a_bot_that_waits_for_work_gets_it_when_it_is_undrained_by_another_replica(farm: Farm) -> None:
    bot = farm.bot("bot")
    await farm.fleet().drain_when_idle("bot")
    await bot.open()
    await farm.queue("one")
    held = asyncio.ensure_future(bot.update(timeout=HELD))
    assert await farm.fleet(1).undrain("bot") == ["bot"]
    assert len(await asyncio.wait_for(held, WITHIN)) == 1


_IF_IDLE, _WHEN_IDLE = DrainRequest.IF_IDLE, DrainRequest.WHEN_IDLE


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (DrainRequest(bot_ids=["a"]), "mode: 0 is none; send IF_IDLE or WHEN_IDLE"),
        (DrainRequest(mode=_WHEN_IDLE), "bot_ids: empty"),
        (DrainRequest(mode=_WHEN_IDLE, bot_ids=["a"], number=1), "number: only for IF_IDLE"),
        (DrainRequest(mode=_WHEN_IDLE, bot_ids=[""]), "bot_ids: '' is no bot_id"),
        (DrainRequest(mode=_WHEN_IDLE, bot_ids=["x" * 501]), "one has 1 to 500 characters"),
        (
            DrainRequest(mode=_WHEN_IDLE, bot_ids=["a"] * MANY),
            "bot_ids: 10001 in one call; send at most 10000",
        ),
        (DrainRequest(mode=_WHEN_IDLE, bot_ids=["a"], owner="x" * 201), "owner: has a NUL or more than 200"),
        (DrainRequest(mode=_IF_IDLE), "number: 0; without bot_ids IF_IDLE needs how many, from 1 to 10000"),
        (DrainRequest(mode=_IF_IDLE, number=-1), "number: -1"),
        (DrainRequest(mode=_IF_IDLE, number=MANY), "number: 10001"),
        (DrainRequest(mode=_IF_IDLE, number=1, bot_ids=["a"]), "number: goes with no bot_ids"),
        (DrainRequest(mode=_IF_IDLE, number=1, disrupted=True), "disrupted: only for WHEN_IDLE"),
        (UndrainRequest(), "bot_ids: empty"),
        (UndrainRequest(bot_ids=["a"] * MANY), "bot_ids: 10001 in one call"),
        (UndrainRequest(bot_ids=["a"], owner="a\0b"), "owner: has a NUL"),
    ],
    ids=str,
)
async def test_what_makes_no_sense_is_refused_with_the_field_and_the_remedy(
    farm: Farm, request_: DrainRequest | UndrainRequest, said: str
) -> None:
    stub = farm.fleet().stub
    request_.instance_name = farm.instance
    method = stub.Drain if isinstance(request_, DrainRequest) else stub.Undrain
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await method(request_, timeout=WITHIN)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert said in (raised.value.details() or "")
    assert marks(await farm.fleet().state()) == {}


async def test_ten_thousand_bots_are_marked_and_unmarked_in_one_call(farm: Farm) -> None:
    names = [f"bot {n:05}" for n in range(MANY - 1)]
    assert await farm.fleet().drain_when_idle(*names) == names
    assert len((await farm.fleet().state()).marks) == len(names)
    assert await farm.fleet().undrain(*names) == names


# --- who comes first


async def waiting_for_locks(database: str, number: int) -> None:
    """Return when so many transactions wait for a lock."""
    query = """
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
    """

    def there() -> bool:
        with psycopg.connect(database) as connection:
            row = connection.execute(query).fetchone()
        return row == (number,)

    await eventually(there, WITHIN, lambda: f"not {number} transactions wait")


@pytest.mark.parametrize("first", ["drain", "ask for work"])
@pytest.mark.parametrize("chosen", ["named", "any"])
async def test_a_bot_that_asks_for_work_while_it_is_drained_if_idle_gets_some_or_is_drained(
    farm: Farm, first: str, chosen: str
) -> None:
    """Both wait for the row of its session, on two replicas; whoever came first is served first."""
    bot = farm.bot("bot")
    await bot.open()
    await farm.queue("one")
    fleet = farm.fleet(1)

    async def drain() -> list[str]:
        named, number = (["bot"], 0) if chosen == "named" else ([], 1)
        return await fleet.drain_if_idle(*named, number=number)

    with psycopg.connect(farm.database) as row:
        row.execute(
            "SELECT 1 FROM bots WHERE instance_name = %s AND bot_id = 'bot' FOR UPDATE", (farm.instance,)
        )
        if first == "drain":
            drains = asyncio.ensure_future(drain())
            await waiting_for_locks(farm.database, 1)
            asks = asyncio.ensure_future(bot.update())
        else:
            asks = asyncio.ensure_future(bot.update())
            await waiting_for_locks(farm.database, 1)
            drains = asyncio.ensure_future(drain())
        await waiting_for_locks(farm.database, 2)
    marked, leases = await asyncio.wait_for(asyncio.gather(drains, asks), WITHIN)
    state = await fleet.state()
    assert (marked, len(leases)) == ((["bot"], 0) if first == "drain" else ([], 1))
    assert list(marks(state)) == marked
    assert bots(state)["bot"].leases == len(leases)
