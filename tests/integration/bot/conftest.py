"""A fake farm, and a bot in the test's own event loop that works for it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from buildgrid_bot.action import ActionRunner
from buildgrid_bot.cache import FileCache
from buildgrid_bot.log_streams import LogStreams
from buildgrid_bot.sandbox import Sandbox, find_sandbox
from buildgrid_bot.session import BotSession
from buildgrid_bot.trouble import SessionRefused
from buildgrid_bot.worker_properties import describe
from buildgrid_client.cas import CasClient
from buildgrid_client.channel import open_channel

from tests.integration.bot.fake_farm import FakeFarm


@dataclass
class Bot:
    """A running bot. `task` is its conversation."""

    session: BotSession
    cache: FileCache
    cache_dir: Path
    sandbox: Sandbox
    task: asyncio.Task[None]
    channel: grpc.aio.Channel


StartBot = Callable[..., Awaitable[Bot]]


@pytest.fixture(scope="session")
def best_sandbox() -> Sandbox:
    return find_sandbox("auto")


@pytest.fixture
async def farm() -> AsyncIterator[FakeFarm]:
    farm = FakeFarm()
    await farm.start()
    yield farm
    await farm.stop()


@pytest.fixture
async def start_bot(farm: FakeFarm, best_sandbox: Sandbox, tmp_path: Path) -> AsyncIterator[StartBot]:
    async with AsyncExitStack() as stack:

        async def start(
            *,
            slots: int = 1,
            sandbox: Sandbox | None = None,
            heartbeat: float = 0.1,
            cache_bytes: int = 1 << 30,
            kill_grace: float = 1.0,
            refused_for: float = 60.0,
            log_streams: str | None = None,
            linger: float = 60.0,
            last_word: float = 60.0,
            used_cas: Callable[[bool], None] = lambda _: None,
            endpoint: str = "",
        ) -> Bot:
            sandbox = sandbox or best_sandbox
            cache_dir = tmp_path / "cache"
            channel = open_channel(farm.endpoint)
            stack.push_async_callback(channel.close)
            streams = None
            if log_streams is not None:
                stream_channel = open_channel(log_streams)
                stack.push_async_callback(stream_channel.close)
                streams = LogStreams(stream_channel, linger=linger, last_word=last_word)
                stack.push_async_callback(streams.close, 0.0)
            cache = FileCache(cache_dir, cache_bytes)
            stack.callback(cache.close)
            runner = ActionRunner(
                CasClient(channel, outage_tolerance=5),
                cache,
                sandbox,
                cache_dir / "work",
                bot_id="bot",
                slots=slots,
                kill_grace=kill_grace,
                log_streams=streams,
                used_cas=used_cas,
            )
            stack.callback(runner.close)
            session = BotSession(
                channel,
                "",
                describe("bot", "test", slots, [("OSFamily", "linux")], []),
                slots,
                runner.run,
                heartbeat=heartbeat,
                poll_deadline=30,
                refused_for=refused_for,
                endpoint=endpoint,
            )
            task = asyncio.create_task(session.run())

            async def stop() -> None:
                task.cancel()
                await asyncio.wait([task])
                # A bot that was refused has ended with the reason, which its test has looked at.
                if not task.cancelled() and not isinstance(task.exception(), SessionRefused):
                    task.result()

            stack.push_async_callback(stop)
            return Bot(session, cache, cache_dir, sandbox, task, channel)

        yield start
