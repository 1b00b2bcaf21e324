"""`cancel` and `drain` steer a running farm: clients and bots that wait at a server are told at once."""

import asyncio
import json

import pytest

from tests.farm.bots import HELD, active, completed
from tests.farm.clients import response_of
from tests.integration.cli.conftest import Cli, Farm


async def test_cancel_ends_the_operation_and_stops_the_bot(farm: Farm, cli: Cli) -> None:
    client, bot = farm.client, farm.bot("bot", capacity=2, long_poll=True)
    execution = await client.queue(await client.add_action("a"))
    lease = await bot.take_lease()
    (running,) = await bot.update(active(lease))
    held = asyncio.ensure_future(bot.update(running, timeout=HELD))
    code, out, _ = await asyncio.to_thread(cli, "cancel", execution.name)
    assert (code, out) == (0, f"{execution.name}: cancelled\n")
    # Both heard of it through the server, which did not do it itself.
    assert (await execution.response()).status.code == 1
    (told,) = await held
    assert told.state == 5


async def test_cancel_says_what_was_done_and_what_is_not_known(farm: Farm, cli: Cli) -> None:
    client, bot = farm.client, farm.bot("bot")
    done = await client.queue(await client.add_action("a"))
    await bot.update(completed(await bot.take_lease()))
    await done.response()
    code, out, _ = await asyncio.to_thread(cli, "cancel", done.name, "nothing", "--json")
    assert code == 1
    assert json.loads(out) == {done.name: "done already: OK", "nothing": "not known"}
    assert response_of(await client.get(done.name)).status.code == 0


async def test_another_instance_s_operation_is_not_known(farm: Farm, cli: Cli) -> None:
    execution = await farm.client.queue(await farm.client.add_action("a"))
    code, _, err = await asyncio.to_thread(cli, "cancel", execution.name, instance="team/none")
    assert (code, err) == (1, f"{execution.name}: not known\n")


async def test_a_drained_bot_gets_nothing_until_that_is_undone(farm: Farm, cli: Cli) -> None:
    client, bot = farm.client, farm.bot("bot-1")
    await bot.open()
    code, out, err = await asyncio.to_thread(cli, "drain", "bot-1", "not-here-yet")
    assert (code, out) == (0, "bot-1: drained\nnot-here-yet: drained\n")
    assert err.startswith(
        "buildgrid-scheduler drain: no bot 'not-here-yet' is connected to the instance 'team/"
    )
    assert "bot-1" not in err
    await client.queue(await client.add_action("a"))
    assert await bot.update() == []
    code, out, _ = await asyncio.to_thread(cli, "bots")
    assert "OK, drained" in out
    code, out, _ = await asyncio.to_thread(cli, "drain", "--json")
    assert [(mark["bot_id"], mark["connected"], mark["leases"]) for mark in json.loads(out)] == [
        ("bot-1", True, 0),
        ("not-here-yet", False, 0),
    ]
    held = asyncio.ensure_future(bot.update(timeout=HELD))
    code, out, _ = await asyncio.to_thread(cli, "drain", "--undo", "bot-1", "other")
    assert (code, out) == (0, "bot-1: may get work again\nother: was not drained\n")
    assert len(await held or await bot.update()) == 1


async def test_a_busy_bot_is_drained_when_it_is_idle(farm: Farm, cli: Cli) -> None:
    client, bot = farm.client, farm.bot("bot-1")
    await client.queue(await client.add_action("a"))
    lease = await bot.take_lease()
    await bot.update(active(lease))
    code, out, _ = await asyncio.to_thread(cli, "drain", "--if-idle", "bot-1")
    assert (code, out) == (1, "bot-1: busy, not drained\n")
    code, out, _ = await asyncio.to_thread(cli, "drain", "bot-1")
    assert (code, out) == (0, "bot-1: gets no more work, and still runs some\n")
    code, out, _ = await asyncio.to_thread(cli, "drain", "bot-1", "--wait", "0.1")
    assert code == 1
    waiting = asyncio.ensure_future(asyncio.to_thread(cli, "drain", "bot-1", "--wait", "60"))
    await bot.update(completed(lease))
    code, out, _ = await waiting
    assert (code, out) == (0, "bot-1: drained\n")


async def test_steering_needs_names(farm: Farm, cli: Cli) -> None:
    for flag in ("--undo", "--if-idle", "--when-idle"):
        code, _, err = await asyncio.to_thread(cli, "drain", flag)
        assert (code, "name the bots" in err) == (2, True)


async def test_waiting_is_for_a_time_that_there_is(
    farm: Farm, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    for seconds in ("-1", "nan", "inf", "soon"):
        with pytest.raises(SystemExit) as caught:
            await asyncio.to_thread(cli, "drain", "bot", f"--wait={seconds}")
        assert caught.value.code == 2
        assert "is not a number of seconds, 0 or more" in capsys.readouterr().err
    code, _, _ = await asyncio.to_thread(cli, "drain", "bot", "--wait", "0")
    assert code == 0
