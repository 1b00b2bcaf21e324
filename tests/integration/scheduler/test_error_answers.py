"""What clients and bots are told when they ask for what cannot be: status codes and messages."""

from datetime import timedelta
from typing import Any

import grpc
import pytest
from buildgrid_client.digests import digest_of
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Action, Digest
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2 import (
    OK,
    BotSession,
    CreateBotSessionRequest,
    PostBotEventTempRequest,
    UpdateBotSessionRequest,
)
from google.rpc import error_details_pb2, status_pb2

from tests.farm.bots import HELD, active, completed
from tests.farm.clients import COMPLETED, EXECUTING, Client, action_blobs, stage_of
from tests.integration.scheduler.conftest import Farm

pytestmark = pytest.mark.xdist_group("scheduler-farm")
Code = grpc.StatusCode
NOBODY = "00000000-0000-0000-0000-000000000000"


async def refusal(awaitable: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await awaitable
    return raised.value


async def refused(awaitable: Any) -> tuple[grpc.StatusCode, str]:
    error = await refusal(awaitable)
    return error.code(), error.details() or ""


def missing(error: grpc.aio.AioRpcError) -> list[tuple[str, str]]:
    """The violations of the PreconditionFailure in the trailers."""
    trailers = dict(error.trailing_metadata())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    failure = error_details_pb2.PreconditionFailure()
    assert status.details[0].Unpack(failure)
    return [(violation.type, violation.subject) for violation in failure.violations]


@pytest.mark.parametrize(
    "digest",
    [
        Digest(),
        Digest(hash="beef", size_bytes=3),
        Digest(hash="A" * 64),
        Digest(hash="a" * 64, size_bytes=-1),
    ],
    ids=["empty", "short", "upper case", "negative size"],
)
async def test_executing_what_is_no_digest_is_refused(farm: Farm, digest: Digest) -> None:
    code, message = await refused(farm.client().execute(digest).next())
    assert code is Code.INVALID_ARGUMENT
    assert "hash" in message or "size_bytes" in message


async def test_an_action_that_is_not_in_the_cas_is_told_as_missing(farm: Farm) -> None:
    error = await refusal(farm.client().execute(digest_of(b"nowhere")).next())
    assert error.code() is Code.FAILED_PRECONDITION
    key = f"{digest_of(b'nowhere').hash}/7"
    assert missing(error) == [("MISSING", f"blobs/{key}")]
    assert key in (error.details() or "")


async def test_a_command_that_is_not_in_the_cas_is_told_as_missing(farm: Farm) -> None:
    client = farm.client()
    action, command, _ = action_blobs("orphan", arguments=("nobody-uploads-this",))
    (digest,) = await client.upload(action)
    error = await refusal(client.execute(digest).next())
    assert error.code() is Code.FAILED_PRECONDITION
    assert missing(error) == [("MISSING", f"blobs/{digest_of(command).hash}/{len(command)}")]


async def test_a_blob_that_is_no_action_is_refused(farm: Farm) -> None:
    client = farm.client()
    (digest,) = await client.upload(b"\xff\xff\xff not a message")
    code, message = await refused(client.execute(digest).next())
    assert (code, "is not an Action" in message) == (Code.INVALID_ARGUMENT, True)


async def test_an_action_without_a_command_is_refused(farm: Farm) -> None:
    client = farm.client()
    (digest,) = await client.upload(Action(input_root_digest=digest_of(b"")).SerializeToString())
    code, message = await refused(client.execute(digest).next())
    assert (code, "command_digest" in message) == (Code.INVALID_ARGUMENT, True)


async def test_an_unknown_instance_is_refused_by_every_door(farm: Farm) -> None:
    stranger = Client(farm.channel(), "nowhere")
    digest = await farm.client().add_action("known")
    bot = farm.bot()
    bot.instance = "nowhere"
    for awaitable in (stranger.execute(digest).next(), stranger.unfinished(), bot.open()):
        code, message = await refused(awaitable)
        assert code is Code.INVALID_ARGUMENT
        assert "'nowhere'" in message


async def test_an_unknown_property_is_refused_with_its_name_and_the_known_ones(farm: Farm) -> None:
    client = farm.client()
    digest = await client.add_action("coffee", platform={"Coffee": "black"})
    code, message = await refused(client.execute(digest).next())
    assert code is Code.FAILED_PRECONDITION
    assert "'Coffee'" in message
    assert "OSFamily" in message


async def test_a_timeout_above_the_maximum_is_refused_and_one_at_the_maximum_is_not(farm: Farm) -> None:
    client = farm.client()
    long = await client.add_action("long", timeout=timedelta(seconds=601))
    code, message = await refused(client.execute(long).next())
    assert code is Code.INVALID_ARGUMENT
    assert "601 s" in message and "600 s" in message
    just = await client.add_action("just", timeout=timedelta(seconds=600))
    await client.queue(just)


@pytest.mark.parametrize(
    "name", [NOBODY, "", "not-a-uuid", "a" * 3000], ids=["nobody", "empty", "no uuid", "long"]
)
async def test_an_unknown_operation_is_not_found(farm: Farm, name: str) -> None:
    client = farm.client()
    full = f"{farm.tenant}/{name}"
    for awaitable in (client.get(full), client.wait(full).next(), client.cancel(full)):
        code, message = await refused(awaitable)
        assert code is Code.NOT_FOUND
        assert name[:100] in message


async def test_an_operation_of_another_instance_is_not_found(farm: Farm) -> None:
    client = farm.client()
    execution = await client.queue(await client.add_action("mine"))
    bare = execution.name.rpartition("/")[2]
    for stolen in (bare, f"tenant/elsewhere/{bare}"):
        for awaitable in (client.get(stolen), client.wait(stolen).next(), client.cancel(stolen)):
            assert (await refused(awaitable))[0] is Code.NOT_FOUND
    assert not (await client.get(execution.name)).done


async def test_a_session_without_a_bot_id_is_refused(farm: Farm) -> None:
    code, message = await refused(farm.bot("").open())
    assert code is Code.INVALID_ARGUMENT
    assert "bot_id" in message


async def test_a_new_session_with_leases_is_refused(farm: Farm) -> None:
    session = BotSession(bot_id="bot", status=OK)
    session.leases.add(id="left-over", state=2)
    request = CreateBotSessionRequest(parent=farm.tenant, bot_session=session)
    code, message = await refused(farm.bot().stub.CreateBotSession(request, timeout=3))
    assert (code, "leases" in message) == (Code.INVALID_ARGUMENT, True)


async def test_an_unknown_session_is_refused(farm: Farm) -> None:
    bot = farm.bot()
    bot.name = f"{farm.tenant}/{NOBODY}"
    code, message = await refused(bot.update())
    assert code is Code.INVALID_ARGUMENT
    assert "create a new session" in message


async def test_an_update_whose_names_differ_is_refused_and_changes_nothing(farm: Farm) -> None:
    client, bot = farm.client(), farm.bot()
    await bot.open()
    execution = await client.queue(await client.add_action("held"))
    lease = await bot.take_lease()
    session = BotSession(name=bot.name, bot_id=bot.bot_id, status=OK, leases=[completed(lease)])
    request = UpdateBotSessionRequest(name=f"{farm.tenant}/{NOBODY}", bot_session=session)
    code, message = await refused(bot.stub.UpdateBotSession(request, timeout=3))
    assert (code, "differ" in message) == (Code.INVALID_ARGUMENT, True)
    assert stage_of(await client.get(execution.name)) == EXECUTING
    await bot.update(active(lease))


async def test_a_session_under_the_name_of_another_bot_is_refused_and_changes_nothing(farm: Farm) -> None:
    client, bot, thief = farm.client(), farm.bot(), farm.bot("thief")
    await bot.open()
    execution = await client.queue(await client.add_action("held"))
    lease = await bot.take_lease()
    thief.name = bot.name
    code, _ = await refused(thief.update(completed(lease)))
    assert code is Code.INVALID_ARGUMENT
    assert stage_of(await client.get(execution.name)) == EXECUTING
    await bot.update(active(lease))


async def test_a_second_session_of_a_bot_closes_the_first_and_gets_its_job(farm: Farm) -> None:
    client, first, second = farm.client(), farm.bot("same"), farm.bot("same")
    await first.open()
    execution = await client.queue(await client.add_action("moved"))
    lease = await first.take_lease()
    await first.update(active(lease))
    told = await second.open(timeout=HELD) or [await second.take_lease()]
    assert told[0].id == lease.id
    assert second.name != first.name
    # A late report under the old name changes nothing.
    code, _ = await refused(first.update(completed(lease)))
    assert code is Code.INVALID_ARGUMENT
    assert stage_of(await client.get(execution.name)) == EXECUTING
    await second.update(completed(told[0]))
    assert (await execution.response()).status.code == 0


async def test_a_lease_that_is_reported_twice_in_a_message_is_refused_and_changes_nothing(farm: Farm) -> None:
    client, bot = farm.client(), farm.bot()
    await bot.open()
    execution = await client.queue(await client.add_action("doubled"))
    lease = await bot.take_lease()
    code, message = await refused(bot.update(active(lease), completed(lease)))
    assert code is Code.INVALID_ARGUMENT
    assert lease.id in message and "twice" in message
    await bot.update(completed(lease))
    assert stage_of(await execution.until(COMPLETED)) == COMPLETED


async def test_a_lease_of_somebody_else_closes_the_session_and_the_job_waits_again(farm: Farm) -> None:
    client, bot = farm.client(), farm.bot()
    await bot.open()
    await client.queue(await client.add_action("mismatch"))
    lease = await bot.take_lease()
    stranger = active(lease)
    stranger.id = NOBODY
    code, message = await refused(bot.update(stranger))
    assert code is Code.DATA_LOSS
    assert "create a new session" in message
    other = farm.bot("other")
    told = await other.open(timeout=HELD)
    assert [offered.id for offered in told] == [lease.id]


async def test_post_bot_event_temp_is_not_offered(farm: Farm) -> None:
    request = PostBotEventTempRequest(name=f"{farm.tenant}/{NOBODY}")
    code, _ = await refused(farm.bot().stub.PostBotEventTemp(request, timeout=3))
    assert code is Code.UNIMPLEMENTED
