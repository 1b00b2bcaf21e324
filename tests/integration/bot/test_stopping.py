"""Commands that end before they want to: timeouts, cancellations, and what they leave behind."""

import asyncio
import os
from contextlib import suppress
from pathlib import Path

import pytest
from buildgrid_bot.process import descendants
from buildgrid_bot.sandbox import Sandbox
from buildgrid_protos.google.devtools.remoteworkers.v1test2 import bots_pb2

from tests.integration.bot.conftest import StartBot
from tests.integration.bot.fake_farm import FakeFarm, result_of

# A parent that cannot be asked nicely, with a child in the background that neither can.
STUBBORN = "trap '' TERM; (trap '' TERM; exec sleep 61.25) & echo started; while :; do sleep 1; done"


@pytest.fixture(params=["best", "none"])
def sandbox(request: pytest.FixtureRequest, best_sandbox: Sandbox) -> Sandbox:
    return best_sandbox if request.param == "best" else Sandbox()


def sleepers() -> list[int]:
    """Processes below this one that sleep for the stubborn script."""
    found = []
    for pid in descendants(os.getpid()):
        with suppress(OSError):
            if b"61.25" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                found.append(pid)
    return found


async def test_a_timeout_ends_the_whole_group_and_keeps_the_output(
    farm: FakeFarm, start_bot: StartBot, sandbox: Sandbox
) -> None:
    await start_bot(sandbox=sandbox)

    lease = await farm.finished(await farm.submit(farm.shell(STUBBORN, timeout=0.3)))

    assert lease.status.code == 4
    assert "0.3" in lease.status.message
    assert result_of(lease).stdout_raw == b"started\n"
    assert result_of(lease).exit_code == 128 + 9
    assert not sleepers()


async def test_a_command_may_end_in_order_within_the_grace(
    farm: FakeFarm, start_bot: StartBot, sandbox: Sandbox
) -> None:
    await start_bot(sandbox=sandbox)
    script = "trap 'echo bye; exit 7' TERM; echo hi; while :; do sleep 0.05; done"

    lease = await farm.finished(await farm.submit(farm.shell(script, timeout=0.5)))

    assert (lease.status.code, result_of(lease).exit_code) == (4, 7)
    assert result_of(lease).stdout_raw == b"hi\nbye\n"


async def test_the_timeout_is_for_the_command_and_not_for_its_inputs(
    farm: FakeFarm, start_bot: StartBot
) -> None:
    await start_bot(sandbox=Sandbox())
    job = await farm.submit(farm.shell("cat in", files={"in": "came late"}, timeout=1.0))
    farm.cas.open.clear()
    asyncio.get_running_loop().call_later(1.5, farm.cas.open.set)

    lease = await farm.finished(job)

    assert farm.cas.called.is_set()
    assert (lease.status.code, result_of(lease).stdout_raw) == (0, b"came late")


async def test_background_processes_do_not_outlive_their_action(
    farm: FakeFarm, start_bot: StartBot, sandbox: Sandbox
) -> None:
    await start_bot(sandbox=sandbox)

    lease = await farm.finished(await farm.submit(farm.shell("sleep 61.25 & echo done")))

    assert result_of(lease).stdout_raw == b"done\n"
    assert not sleepers()


async def test_a_cancelled_action_is_stopped_and_its_slot_is_free(
    farm: FakeFarm, start_bot: StartBot, sandbox: Sandbox
) -> None:
    bot = await start_bot(sandbox=sandbox)
    job = await farm.submit(farm.shell(STUBBORN))
    await farm.active(job)

    await farm.cancel(job)
    lease = await farm.finished(job)

    assert lease.status.code == 1
    assert not lease.HasField("result")
    assert not sleepers()
    following = await farm.submit(farm.shell("echo next"))
    assert result_of(await farm.finished(following)).stdout_raw == b"next\n"
    assert not list((bot.cache_dir / "work").iterdir())


async def test_a_cancelled_action_is_not_given_the_time_of_one_that_somebody_waits_for(
    farm: FakeFarm, start_bot: StartBot, sandbox: Sandbox
) -> None:
    await start_bot(sandbox=sandbox, kill_grace=3600)
    job = await farm.submit(farm.shell(STUBBORN))
    await farm.active(job)

    await farm.cancel(job)

    assert (await farm.finished(job)).status.code == 1
    assert not sleepers()


async def test_a_bot_that_leaves_hands_back_what_has_not_started(farm: FakeFarm, start_bot: StartBot) -> None:
    bot = await start_bot(slots=2)
    running = await farm.submit(farm.shell("sleep 0.5; echo finished"))
    await farm.active(running)
    farm.cas.open.clear()
    farm.cas.called.clear()
    fetching = await farm.submit(farm.shell("echo never here", files={"in": "for another bot"}))
    await asyncio.wait_for(farm.cas.called.wait(), 20)

    bot.session.terminate()
    await farm.until(lambda: farm.bots.updates[-1].status == bots_pb2.BOT_TERMINATING)
    told = farm.bots.updates[-1]
    farm.cas.open.set()
    await asyncio.wait_for(bot.task, 20)

    assert [lease.id for lease in told.leases] == [running.lease.id]
    assert running.done is not None and result_of(running.done).stdout_raw == b"finished\n"
    assert fetching.done is None and not fetching.sent, "it waits for another bot"
    assert not list((bot.cache_dir / "work").iterdir())


async def test_termination_finishes_what_runs_and_takes_nothing_new(
    farm: FakeFarm, start_bot: StartBot
) -> None:
    bot = await start_bot(slots=2)
    running = await farm.submit(farm.shell("sleep 0.5; echo finished"))
    await farm.active(running)

    bot.session.terminate()
    await farm.until(lambda: farm.bots.updates[-1].status == bots_pb2.BOT_TERMINATING)
    late = await farm.submit(farm.shell("true"))
    await asyncio.wait_for(bot.task, 20)

    assert running.done is not None
    assert result_of(running.done).stdout_raw == b"finished\n"
    assert not late.sent
    assert farm.bots.updates[-1].status == bots_pb2.BOT_TERMINATING


async def test_an_idle_bot_leaves_at_once_and_says_so(farm: FakeFarm, start_bot: StartBot) -> None:
    bot = await start_bot()
    await farm.until(lambda: farm.bots.held == 1)

    bot.session.terminate()
    await asyncio.wait_for(bot.task, 10)

    assert farm.bots.updates[-1].status == bots_pb2.BOT_TERMINATING


async def test_ending_the_bot_ends_its_actions(farm: FakeFarm, start_bot: StartBot, sandbox: Sandbox) -> None:
    bot = await start_bot(sandbox=sandbox)
    job = await farm.submit(farm.shell(STUBBORN))
    await farm.active(job)

    bot.task.cancel()
    await asyncio.wait([bot.task])

    assert not sleepers()
    assert not list((bot.cache_dir / "work").iterdir())
