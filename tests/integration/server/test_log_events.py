"""What an operator reads in the log: events with the names of what they are about."""

import json
from typing import Any

import grpc
import pytest
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    ExecuteRequest,
    RequestMetadata,
)

from tests.farm.bots import Bot, active, failed
from tests.farm.clients import Client
from tests.farm.waiting import eventually
from tests.integration.server.conftest import OpenChannel, StartServer
from tests.integration.server.server_process import Server


def events(server: Server) -> list[dict[str, Any]]:
    """All of the log; each line must be JSON."""
    return [json.loads(line) for line in server.log.splitlines()]


async def event(server: Server, words: str) -> dict[str, Any]:
    """The first event with these words in its message."""
    await eventually(lambda: any(words in found["message"] for found in events(server)), 20, server.describe)
    return next(found for found in events(server) if words in found["message"])


async def test_sessions_lost_leases_and_lost_jobs_are_told(
    start_server: StartServer, channels: OpenChannel
) -> None:
    server = start_server(logging={"format": "json"}, scheduler={"max_job_attempts": 2})
    client, bot = Client(channels(server)), Bot(channels(server), "", "bot-1")
    execution = await client.queue(await client.add_action("a"))
    lease = await bot.take_lease()
    await bot.update(active(lease))
    opened = await event(server, "bot session opened")
    assert (opened["level"], opened["bot"], opened["session"]) == ("info", "bot-1", bot.name)

    await bot.open()  # anew: what it had is lost
    ended = await event(server, "bot session ended: taken over by another session of the same bot_id")
    assert (ended["bot"], ended["session"]) == ("bot-1", opened["session"])
    lost = await event(server, "lease lost, job waits again")
    assert (lost["level"], lost["job"], lost["bot"]) == ("warning", lease.id, "bot-1")

    again = await bot.take_lease()
    await bot.update(failed(again, grpc.StatusCode.INTERNAL, "no disk"))
    await execution.response()
    given_up = await event(server, "job given up as INTERNAL")
    assert (given_up["level"], given_up["job"], given_up["bot"]) == ("warning", lease.id, "bot-1")


async def test_jobs_are_told_where_that_is_asked_for(
    start_server: StartServer, channels: OpenChannel
) -> None:
    server = start_server(logging={"format": "json", "loggers": {"buildgrid_scheduler": "debug"}})
    client, bot = Client(channels(server)), Bot(channels(server), "", "bot-1")
    metadata = RequestMetadata(tool_invocation_id="build-1").SerializeToString()
    header = ("build.bazel.remote.execution.v2.requestmetadata-bin", metadata)
    await client.queue(await client.add_action("a"), metadata=(header,))
    lease = await bot.take_lease()
    assert (await event(server, "job queued"))["job"] == lease.id
    handed = await event(server, "job handed to the bot")
    assert (handed["job"], handed["bot"]) == (lease.id, "bot-1")
    # An event of a call has what the call is about.
    with pytest.raises(grpc.aio.AioRpcError):
        await client.execution.Execute(ExecuteRequest(instance_name="no"), metadata=(header,)).read()
    refused = await event(server, "INVALID_ARGUMENT")
    assert (refused["method"], refused["invocation"]) == ("Execute", "build-1")
