"""A bot that cannot use its CAS takes no work, and says why."""

import asyncio
import logging
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from buildgrid_bot.cas_health import FAILURES_IN_A_ROW, CasHealth, CasNotOffered
from buildgrid_client.channel import open_channel
from buildgrid_protos.google.devtools.remoteworkers.v1test2 import bots_pb2

from tests.integration.bot.conftest import StartBot
from tests.integration.bot.fake_farm import FakeFarm, result_of

REMEDY = "name the farm's CAS with --cas-endpoint"


class Taking:
    """What the bot was last told."""

    def __init__(self) -> None:
        self._may = False
        self._told = asyncio.Event()

    def __call__(self, wanted: bool) -> None:
        self._may = wanted
        self._told.set()

    def now(self) -> bool:
        return self._may

    async def until(self, wanted: bool) -> None:
        async with asyncio.timeout(30):
            while self._may is not wanted:
                self._told.clear()
                await self._told.wait()


@pytest.fixture
async def storage() -> AsyncIterator[FakeFarm]:
    """A farm of which only the CAS is used."""
    farm = FakeFarm()
    await farm.start()
    yield farm
    await farm.stop()


@pytest.fixture
async def nowhere() -> AsyncIterator[str]:
    """The address of a gRPC server that offers nothing."""
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield f"grpc://127.0.0.1:{port}"
    await server.stop(None)


async def launch(farm: FakeFarm, cache_dir: Path, *more: str) -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "buildgrid_bot", "run", "--endpoint", farm.endpoint),
        *("--cache-dir", str(cache_dir), "--sandbox", "none", *more),
        stderr=asyncio.subprocess.PIPE,
    )


async def said(bot: Process, text: str) -> str:
    """The line of the bot's log that has this text, once it is there."""
    assert bot.stderr is not None
    async with asyncio.timeout(30):
        async for line in bot.stderr:
            if text in line.decode():
                return line.decode()
    raise AssertionError(f"the bot has ended without saying {text!r}")


async def ended(bot: Process) -> str:
    _, log = await asyncio.wait_for(bot.communicate(), 30)
    return log.decode()


async def test_a_bot_without_a_cas_ends_before_it_opens_a_session(
    farm: FakeFarm, nowhere: str, tmp_path: Path
) -> None:
    bot = await launch(farm, tmp_path / "cache", "--cas-endpoint", nowhere)
    log = await ended(bot)
    assert bot.returncode == 2
    assert f"there is no CAS at {nowhere} (--cas-endpoint)" in log
    assert REMEDY in log
    assert farm.bots.sessions == 0


async def test_a_scheduler_without_a_cas_is_told_from_one_that_was_named(nowhere: str) -> None:
    channel = open_channel(nowhere)
    try:
        with pytest.raises(CasNotOffered, match=r"\(--endpoint\).*name the farm's CAS with --cas-endpoint"):
            await CasHealth(channel, "", nowhere, Taking(), given=False).look()
    finally:
        await channel.close()


async def test_a_bot_takes_work_once_its_cas_is_there(
    farm: FakeFarm, storage: FakeFarm, tmp_path: Path
) -> None:
    await storage.stop()
    bot = await launch(farm, tmp_path / "cache", "--cas-endpoint", storage.endpoint)
    line = await said(bot, "cannot reach the CAS")
    assert f"{storage.endpoint} (--cas-endpoint): nothing listens there" in line
    await farm.until(lambda: farm.bots.sessions == 1, 30)
    assert farm.bots.updates[0].status == bots_pb2.UNHEALTHY
    await storage.start()
    await farm.until(lambda: farm.bots.updates[-1].status == bots_pb2.OK, 30)
    bot.send_signal(signal.SIGTERM)
    assert "the CAS at" in await ended(bot)
    assert bot.returncode == 0


async def test_a_bot_whose_cas_does_not_answer_can_be_ended(
    farm: FakeFarm, storage: FakeFarm, tmp_path: Path
) -> None:
    storage.cas.open.clear()
    bot = await launch(farm, tmp_path / "cache", "--cas-endpoint", storage.endpoint)
    await asyncio.wait_for(storage.cas.called.wait(), 30)
    await said(bot, "sandbox none")
    bot.send_signal(signal.SIGTERM)
    await ended(bot)
    assert bot.returncode == 0
    assert farm.bots.sessions == 0


@pytest.fixture
async def watched(storage: FakeFarm) -> AsyncIterator[tuple[CasHealth, Taking]]:
    """Looks often."""
    channel = open_channel(storage.endpoint)
    taking = Taking()
    health = CasHealth(channel, "", storage.endpoint, taking, look_every=0.05, look_again=0.05, rest=0.5)
    await health.look()
    watch = asyncio.create_task(health.watch())
    yield health, taking
    watch.cancel()
    await asyncio.wait([watch])
    assert watch.cancelled(), "it does not end by itself"
    await channel.close()


async def test_a_cas_that_goes_and_comes_back_is_noticed(
    storage: FakeFarm, watched: tuple[CasHealth, Taking], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "buildgrid_bot.cas_health")
    _, taking = watched
    assert taking.now()
    await storage.stop()
    await taking.until(False)
    await storage.start()
    await taking.until(True)
    told = [record.getMessage() for record in caplog.records]
    assert "cannot reach the CAS" in told[0] and "no actions are taken until it answers" in told[0]
    assert "answers: actions are taken" in told[-1]


async def test_a_bot_rests_after_some_actions_in_a_row_that_could_not_use_the_cas(
    watched: tuple[CasHealth, Taking], caplog: pytest.LogCaptureFixture
) -> None:
    health, taking = watched
    for _ in range(FAILURES_IN_A_ROW - 1):
        health.action_ended(False)
    health.action_ended(True)
    for _ in range(FAILURES_IN_A_ROW - 1):
        health.action_ended(False)
    assert taking.now(), "not in a row"
    health.action_ended(False)
    assert not taking.now()
    assert "3 actions in a row failed since the CAS at" in caplog.text
    assert REMEDY in caplog.text
    await taking.until(True)
    health.action_ended(False)
    assert not taking.now(), "nothing has changed"


async def test_an_action_tells_whether_it_could_use_the_cas(farm: FakeFarm, start_bot: StartBot) -> None:
    told: list[bool] = []
    await start_bot(used_cas=told.append)
    assert result_of(await farm.finished(await farm.submit(farm.shell("true")))).exit_code == 0
    missing = farm.shell("true")
    missing.command_digest.hash = "0" * 64
    await farm.finished(await farm.submit(missing))
    assert told == [True, True], "what is missing is the client's doing"
    farm.cas.refusal = grpc.StatusCode.UNIMPLEMENTED
    lease = await farm.finished(await farm.submit(farm.shell("echo new")))
    assert lease.status.code == grpc.StatusCode.INTERNAL.value[0]
    assert told == [True, True, False]


async def test_a_bot_takes_work_again_only_when_all_want_it(farm: FakeFarm, start_bot: StartBot) -> None:
    bot = await start_bot()
    await farm.until(lambda: farm.bots.held == 1)
    bot.session.take_work(False, "CAS")
    bot.session.take_work(False)
    await farm.until(lambda: farm.bots.updates[-1].status == bots_pb2.UNHEALTHY)
    bot.session.take_work(True)
    calls = len(farm.bots.updates)
    await farm.until(lambda: len(farm.bots.updates) > calls + 1)
    assert farm.bots.updates[-1].status == bots_pb2.UNHEALTHY
    bot.session.take_work(True, "CAS")
    await farm.until(lambda: farm.bots.updates[-1].status == bots_pb2.OK)
