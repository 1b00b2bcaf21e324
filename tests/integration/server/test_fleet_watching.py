"""Watch: what happens in the farm is told soon, whichever replica does it, until the stream has to end."""

import asyncio
from collections.abc import Callable, Iterator

import grpc
import pytest
from buildgrid_protos.buildgrid.fleet.v1.fleet_pb2 import FleetState, GetStateRequest, WatchRequest
from buildgrid_protos.buildgrid.fleet.v1.fleet_pb2_grpc import FleetStub
from buildgrid_scheduler.auth.policy import Right
from grpc import StatusCode

from tests.farm.bots import active, completed
from tests.farm.clients import WITHIN
from tests.farm.database import MortalPostgres, create_database
from tests.farm.waiting import eventually
from tests.integration.server.conftest import OpenChannel, StartServer
from tests.integration.server.fleet_client import FleetClient, Watching
from tests.integration.server.secured import ADMIN_ELSEWHERE, Secured, with_right
from tests.integration.server.server_process import Server
from tests.integration.server.shared_farm import Farm


def jobs(state: FleetState) -> tuple[int, int]:
    """How many wait, and how many are executed."""
    return sum(r.queued for r in state.requirements), sum(r.executing for r in state.requirements)


async def test_what_happens_is_told_step_by_step_by_whichever_replica_it_is_done(farm: Farm) -> None:
    """Jobs, bots and marks go by the first; both are watched."""
    watched = [farm.fleet(n).watch() for n in (0, 1)]

    async def both(*_: object, sees: Callable[[FleetState], bool]) -> None:
        for watching in watched:
            await watching.until(sees)

    bot = farm.bot("bot")
    await both(sees=lambda state: jobs(state) == (0, 0) and not state.bot_sessions)
    await farm.queue("one")
    await both(sees=lambda state: jobs(state) == (1, 0))
    lease = await bot.take_lease()
    await both(sees=lambda s: jobs(s) == (0, 1) and [b.leases for b in s.bot_sessions] == [1])
    await farm.fleet().drain_when_idle("bot", owner="me")
    await both(sees=lambda s: [(m.owner, m.leases) for m in s.marks] == [("me", 1)])
    await bot.update(active(lease))
    await bot.update(completed(lease))
    await both(sees=lambda s: jobs(s) == (0, 0) and [m.leases for m in s.marks] == [0])
    await farm.fleet().undrain("bot")
    await both(sees=lambda state: not state.marks)
    for watching in watched:
        revisions = [state.revision for state in watching.told]
        assert revisions == sorted(revisions)
        watching.hang_up()


async def test_it_begins_with_the_state_that_getstate_tells(farm: Farm) -> None:
    await farm.queue("one")
    await farm.bot("bot").open()
    await farm.fleet().drain_when_idle("bot")
    asked, watched = await farm.fleet().state(), await farm.fleet().watch().next()
    assert watched.revision >= asked.revision
    for state in (asked, watched):
        state.ClearField("revision")
        state.ClearField("time")
        for requirement in state.requirements:
            requirement.ClearField("arrival_rate")
    assert watched == asked
    assert jobs(watched) == (0, 1) and watched.bot_sessions and watched.marks


async def test_whoever_marks_and_then_watches_sees_the_mark_at_once(farm: Farm) -> None:
    """Though somebody else has watched before, and what was read for that one is older."""
    early = farm.fleet().watch()
    await early.next()
    for n in range(5):
        await farm.fleet().drain_when_idle(f"bot {n}")
        late = farm.fleet().watch()
        assert len((await late.next()).marks) == n + 1
        late.hang_up()
    early.hang_up()


async def test_a_replica_that_stops_ends_the_stream_at_once_and_another_goes_on(
    start_server: StartServer, channels: OpenChannel
) -> None:
    first, second = start_server(shutdown={"grace": "8s"}), start_server()
    watching = FleetClient(channels(first)).watch()
    last = await watching.next()
    stopping = asyncio.ensure_future(asyncio.to_thread(first.seconds_to_stop))
    code, said = await watching.failure()
    assert (code, "shutting down" in said) == (StatusCode.UNAVAILABLE, True)
    assert await stopping < 8, "nobody had to wait for the grace of calls that run"
    on = FleetClient(channels(second)).watch()
    assert (await on.next()).revision >= last.revision
    on.hang_up()


@pytest.fixture
def postgres() -> Iterator[MortalPostgres]:
    server = MortalPostgres()
    yield server
    server.close()


async def test_a_database_that_goes_ends_the_stream_and_one_that_comes_back_is_watched(
    make_server: Callable[..., Server], channels: OpenChannel, postgres: MortalPostgres
) -> None:
    server = make_server(create_database(postgres.url))
    server.start()
    fleet = FleetClient(channels(server))
    watching = fleet.watch()
    await watching.next()
    await asyncio.to_thread(postgres.crash)
    code, said = await watching.failure()
    assert (code, "cannot be reached" in said) == (StatusCode.UNAVAILABLE, True)
    code, _ = await fleet.watch().failure()
    assert code is StatusCode.UNAVAILABLE, "it is told at once that it is away"
    await asyncio.to_thread(postgres.start)

    def back() -> bool:
        with grpc.insecure_channel(server.endpoint) as channel:
            try:
                return next(FleetStub(channel).Watch(WatchRequest(), timeout=WITHIN)).revision > 0
            except grpc.RpcError:
                return False

    await eventually(back, 30, server.describe)


async def test_who_may_not_administer_all_is_told_where_that_is_missing(secured: Secured) -> None:
    everywhere = {"main": with_right(Right.ADMINISTER), "other": ADMIN_ELSEWHERE}
    for subject, denied in [
        (everywhere["main"], ["other"]),
        (everywhere["other"], ["main"]),
        ("nobody", ["main", "other"]),
    ]:
        async with secured.credentials.channel(
            secured.server.endpoint, secured.credentials.token(subject)
        ) as channel:
            for asked in ([], ["main", "other"]):
                stub = FleetStub(channel)
                ends = [
                    await Watching(stub.Watch(WatchRequest(instance_names=asked))).failure(),
                    await refusal(stub.GetState(GetStateRequest(instance_names=asked), timeout=WITHIN)),
                ]
                for code, said in ends:
                    assert code is StatusCode.PERMISSION_DENIED
                    missing = [name for name in ("main", "other") if repr(name) in said]
                    assert (missing, "'administer'" in said) == (denied, True)


async def refusal(call: object) -> tuple[StatusCode, str]:
    """How a call fails."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call  # type: ignore[misc]
    return raised.value.code(), raised.value.details() or ""
