"""What bots that share a bot_id are told, and what the log says of them."""

import asyncio
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from tests.farm.bots import HELD, Bot, active
from tests.farm.waiting import eventually
from tests.integration.scheduler.conftest import Farm

pytestmark = pytest.mark.xdist_group("scheduler-farm")
Code = grpc.StatusCode


async def refusal(awaitable: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await awaitable
    return raised.value


def cause(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    """The ErrorInfo in the trailers."""
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info


def assert_taken_over(farm: Farm, error: grpc.aio.AioRpcError, bot: Bot) -> None:
    info = cause(error)
    assert (info.reason, info.domain) == ("BOT_ID_TAKEN_OVER", "buildgrid-kubernetes")
    assert info.metadata["bot_id"] == bot.bot_id
    assert info.metadata["instance"] == farm.tenant
    assert info.metadata["opened_from"].startswith("127.0.0.1:")
    assert f"'{bot.bot_id}'" in (error.details() or "")


@pytest.mark.parametrize("second", [False, True], ids=["on one replica", "on two"])
async def test_a_held_call_is_told_at_once_that_another_session_took_over(farm: Farm, second: bool) -> None:
    old = farm.bot("twin")
    await old.open()
    call = asyncio.ensure_future(old.update(timeout=HELD))
    await farm.replicas[0].until_held(1)
    await farm.bot("twin", second=second).open()
    error = await refusal(call)
    assert error.code() is Code.DATA_LOSS
    assert_taken_over(farm, error, old)


async def test_so_is_one_that_waits_in_the_call_that_opened_its_session(farm: Farm) -> None:
    old = farm.bot("twin")
    call = asyncio.ensure_future(old.open(timeout=HELD))
    await farm.replicas[0].until_held(1)
    await farm.bot("twin").open()
    error = await refusal(call)
    assert error.code() is Code.DATA_LOSS
    assert_taken_over(farm, error, old)


@pytest.mark.parametrize("second", [False, True], ids=["on one replica", "on two"])
async def test_a_late_update_is_told_and_its_job_is_not_counted_a_try(farm: Farm, second: bool) -> None:
    client, old = farm.client(), farm.bot("twin")
    execution = await client.queue(await client.add_action("innocent"))
    for _ in range(3):  # the farm gives a job two tries
        lease = await old.take_lease()
        await old.update(active(lease))
        await farm.bot("twin", second=second).open(timeout=2)
        error = await refusal(old.update(active(lease)))
        assert error.code() is Code.INVALID_ARGUMENT
        assert_taken_over(farm, error, old)
        old.name = ""
    assert not (await client.get(execution.name)).done


async def test_an_unknown_session_of_a_bot_that_has_no_other_is_told_nothing_of_one(farm: Farm) -> None:
    bot = farm.bot("alone")
    bot.name = f"{farm.tenant}/00000000-0000-0000-0000-000000000000"
    error = await refusal(bot.update())
    assert error.code() is Code.INVALID_ARGUMENT
    assert "grpc-status-details-bin" not in dict(error.trailing_metadata())


async def test_the_log_names_the_bot_id_and_the_remedy(farm: Farm) -> None:
    bot_id = f"twin of {farm.tenant}"
    old = farm.bot(bot_id)
    await old.open()
    await farm.bot(bot_id).open()
    await refusal(old.update())
    server = farm.replicas[0]

    def lines() -> list[str]:
        return [line for line in server.log.splitlines() if "two bots use one bot_id" in line]

    await eventually(lambda: any(bot_id in line for line in lines()), 20, server.describe)
    line = next(line for line in lines() if bot_id in line)
    assert "WARNING" in line.upper()
    assert farm.tenant in line and "a bot_id of its own" in line


async def test_a_bot_that_is_started_again_is_no_reason_for_a_warning(farm: Farm) -> None:
    bot_id = f"restarted in {farm.tenant}"
    await farm.bot(bot_id).open()
    again = farm.bot(bot_id)
    await again.open()
    await again.update()
    server = farm.replicas[0]
    assert not [
        line for line in server.log.splitlines() if "two bots use one bot_id" in line and bot_id in line
    ]
