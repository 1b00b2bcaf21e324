"""Who may do what changes on a running server, and running calls are left alone."""

from pathlib import Path

import grpc
import pytest
from buildgrid_scheduler.auth.policy import Right
from grpc import StatusCode

from tests.farm.bots import Bot, completed
from tests.farm.clients import Client
from tests.farm.waiting import eventually
from tests.integration.server.conftest import StartServer
from tests.integration.server.secured import Credentials, grants

BOT = grants("bot", Right.RUN_BOTS)
STARTING = [BOT, grants("alice", Right.CACHE_READ)]


async def test_a_policy_is_taken_up_by_the_next_call(start_server: StartServer, tmp_path: Path) -> None:
    credentials = Credentials(tmp_path / "credentials")
    settings = credentials.settings(STARTING)
    server = start_server(instances=("main",), reload={"interval": "200ms"}, **settings)

    async def taken_up(line: str, times: int = 1) -> None:
        await eventually(lambda: server.log.count(line) == times, 20, server.describe)

    async with (
        credentials.channel(server.endpoint, credentials.token("alice")) as alices,
        credentials.channel(server.endpoint, credentials.token("bot")) as bots,
    ):
        alice, bot = Client(alices, "main"), Bot(bots, "main", "bot")
        with pytest.raises(grpc.aio.AioRpcError, match="the right 'cas-write' in instance 'main' is missing"):
            await alice.upload(b"too early")

        granted = credentials.settings([BOT, grants("alice", Right.EXECUTE)])
        server.write(**granted)
        await taken_up("configuration taken up, changed: auth.policy")
        execution = await alice.queue(await alice.add_action("granted"))
        lease = await bot.take_lease()

        server.write(**settings)
        await taken_up("configuration taken up, changed: auth.policy", 2)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await alice.get(execution.name)
        assert caught.value.code() is StatusCode.PERMISSION_DENIED
        # She follows on what she began: the call was hers to make when she made it.
        await bot.update(completed(lease))
        assert (await execution.response()).status.code == 0

        # Rules are written for certain issuers: with others, they wait for the start that brings both.
        renamed = credentials.settings([grants("alice", Right.EXECUTE, issuer="company")], name="company")
        server.write(**renamed)
        await taken_up("these changes take effect at the next start: auth.jwt, auth.policy")
        assert await bot.update() == []
        server.write(auth={})
        await taken_up("these changes take effect at the next start: auth.jwt, auth.policy", 2)
        assert await bot.update() == []
        assert server.value("buildgrid_config_restart_needed") == 1
