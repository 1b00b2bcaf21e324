"""Standard output seen while an action runs: service, server, bot and client together; and without it."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from buildgrid_client.digests import digest_of
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    Action,
    ActionResult,
    Command,
    Digest,
    ExecuteOperationMetadata,
)
from buildgrid_protos.google.bytestream.bytestream_pb2 import ReadRequest, WriteRequest
from buildgrid_protos.google.bytestream.bytestream_pb2_grpc import ByteStreamStub
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2 import Lease
from grpc import StatusCode

from tests.farm.bots import Bot, active, completed, failed
from tests.farm.clients import EXECUTING, WITHIN, Client, Execution, metadata_of, stage_of
from tests.integration.server.conftest import OpenChannel, StartServer
from tests.integration.server.log_stream_service import LiveLogStreamServer

TRAILER = "executeoperationmetadata-bin"


@pytest.fixture
def service() -> Iterator[LiveLogStreamServer]:
    service = LiveLogStreamServer()
    yield service
    service.stop()


@pytest.fixture
async def streams(service: LiveLogStreamServer) -> AsyncIterator[Any]:
    """The service's ByteStream, for bots and readers alike."""
    async with grpc.aio.insecure_channel(f"localhost:{service.port}") as channel:
        yield ByteStreamStub(channel)


class StreamingBot(Bot):
    """Notes what the server tells of its leases beside its answers."""

    def __init__(self, channel: grpc.aio.Channel, instance: str, bot_id: str, **options: Any) -> None:
        super().__init__(channel, instance, bot_id, **options)
        self.call: Any = None
        for method in ("CreateBotSession", "UpdateBotSession"):
            setattr(self.stub, method, self._noting(getattr(self.stub, method)))

    def _noting(self, method: Any) -> Any:
        def begin(*args: Any, **kwargs: Any) -> Any:
            self.call = method(*args, **kwargs)
            return self.call

        return begin

    async def told(self) -> list[ExecuteOperationMetadata]:
        """Of each lease in the last answer."""
        trailers = await self.call.trailing_metadata()
        return [ExecuteOperationMetadata.FromString(value) for key, value in trailers if key == TRAILER]

    async def take_described(self) -> tuple[Lease, ExecuteOperationMetadata]:
        """A new lease, and what was told of it."""
        lease = await self.take_lease()
        (metadata,) = await self.told()
        return lease, metadata


async def streaming(execution: Execution, *, but: str = "") -> ExecuteOperationMetadata:
    """Follow an operation until it tells where its output can be read, other than before."""
    while True:
        metadata = metadata_of(await execution.next())
        if metadata.stage == EXECUTING and metadata.stdout_stream_name not in ("", but):
            return metadata


async def test_output_is_read_by_its_name_while_the_action_runs(
    start_server: StartServer, channels: OpenChannel, service: LiveLogStreamServer, streams: Any
) -> None:
    server = start_server(instances=("team",), log_streams={"endpoint": service.endpoint})
    client, bot = Client(channels(server), "team"), StreamingBot(channels(server), "team", "bot")
    digest = await client.add_action("chatty")
    execution = await client.queue(digest)
    lease, told = await bot.take_described()
    await bot.update(active(lease))
    seen = await streaming(execution)

    # The bot is told where to write, before it starts; clients where to read, and no more than that.
    assert (told.stage, told.action_digest) == (EXECUTING, digest)
    assert told.stdout_stream_name == f"{seen.stdout_stream_name}/write-secret"
    assert told.stderr_stream_name == f"{seen.stderr_stream_name}/write-secret"
    assert seen.stdout_stream_name != seen.stderr_stream_name
    assert set(service.parents) == {"team"}

    reading = streams.Read(ReadRequest(resource_name=seen.stdout_stream_name))
    writing = streams.Write()
    async with asyncio.timeout(WITHIN):
        await writing.write(WriteRequest(resource_name=told.stdout_stream_name, data=b"compiling\n"))
        assert (await reading.read()).data == b"compiling\n"
        assert stage_of(await client.get(execution.name)) == EXECUTING
        # Whoever comes later, over whatever call, is told the same.
        later = metadata_of(await client.wait(execution.name).next())
        assert later.stdout_stream_name == seen.stdout_stream_name
        await writing.write(WriteRequest(write_offset=10, data=b"done\n", finish_write=True))
        await writing.done_writing()
        assert (await writing).committed_size == 15
        assert (await reading.read()).data == b"done\n"
        assert await reading.read() is grpc.aio.EOF

    # A heartbeat tells it again, for a bot that lost the answer.
    await bot.update(active(lease))
    assert [again.stdout_stream_name for again in await bot.told()] == [told.stdout_stream_name]
    await bot.update(
        completed(lease, ActionResult(stdout_digest=(await client.upload(b"compiling\ndone\n"))[0]))
    )
    response = await execution.response()
    assert response.result.stdout_digest == digest_of(b"compiling\ndone\n")

    # Each attempt has streams of its own: the output of a failed one is not continued.
    execution = await client.queue(await client.add_action("retried"))
    lease, first = await bot.take_described()
    await bot.update(active(lease))
    before = (await streaming(execution)).stdout_stream_name
    await bot.update(failed(lease, StatusCode.INTERNAL))
    lease = await bot.take_again()
    (second,) = await bot.told()
    await bot.update(active(lease))
    assert second.stdout_stream_name != first.stdout_stream_name
    after = (await streaming(execution, but=before)).stdout_stream_name
    assert second.stdout_stream_name == f"{after}/write-secret"


async def add_shell_action(client: Client, script: str) -> Digest:
    command = Command(arguments=["/bin/sh", "-c", script])
    command.environment_variables.add(name="PATH", value="/usr/bin:/bin")
    command_digest, root = await client.upload(command.SerializeToString(), b"")
    action = Action(command_digest=command_digest, input_root_digest=root)
    return (await client.upload(action.SerializeToString()))[0]


@pytest.fixture
async def start_own_bot(tmp_path: Path) -> AsyncIterator[Any]:
    """Starts the project's own bot, as a process of its own."""
    started: list[asyncio.subprocess.Process] = []

    async def start(endpoint: str, *options: str) -> asyncio.subprocess.Process:
        bot = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "buildgrid_bot", "run", "--endpoint", f"grpc://{endpoint}"),
            *("--instance", "team", "--cache-dir", str(tmp_path / "cache"), "--sandbox", "none"),
            *options,
            stderr=asyncio.subprocess.PIPE,
        )
        started.append(bot)
        return bot

    yield start
    for bot in started:
        if bot.returncode is None:
            bot.kill()
            await bot.communicate()


async def test_what_our_own_bots_command_prints_is_read_line_by_line_before_it_ends(
    start_server: StartServer,
    channels: OpenChannel,
    service: LiveLogStreamServer,
    streams: Any,
    start_own_bot: Any,
    tmp_path: Path,
) -> None:
    server = start_server(instances=("team",), log_streams={"endpoint": service.endpoint})
    client = Client(channels(server), "team")
    bot = await start_own_bot(server.endpoint, "--logstream-endpoint", service.endpoint)
    step = f"while ! test -e {tmp_path}/go-$n; do sleep 0.02; done"
    script = f"for n in 1 2 3; do echo line $n; echo warning $n >&2; {step}; done"

    execution = await client.queue(await add_shell_action(client, script))
    seen = await streaming(execution)
    stdout = streams.Read(ReadRequest(resource_name=seen.stdout_stream_name))
    stderr = streams.Read(ReadRequest(resource_name=seen.stderr_stream_name))
    async with asyncio.timeout(WITHIN):
        for n in (1, 2, 3):
            assert (await stdout.read()).data == f"line {n}\n".encode()
            assert (await stderr.read()).data == f"warning {n}\n".encode()
            assert stage_of(await client.get(execution.name)) == EXECUTING
            (tmp_path / f"go-{n}").touch()
        assert await stdout.read() is grpc.aio.EOF
        assert await stderr.read() is grpc.aio.EOF
    response = await execution.response()
    assert response.result.stdout_raw == b"line 1\nline 2\nline 3\n"
    assert response.result.stderr_raw == b"warning 1\nwarning 2\nwarning 3\n"

    bot.send_signal(signal.SIGTERM)
    _, log = await asyncio.wait_for(bot.communicate(), WITHIN)
    assert bot.returncode == 0
    assert b"WARNING" not in log
    assert b"write-secret" not in log


async def test_actions_go_on_when_the_service_is_slow_or_down(
    start_server: StartServer, channels: OpenChannel, service: LiveLogStreamServer
) -> None:
    log_streams = {"endpoint": service.endpoint, "wait": "1s"}
    server = start_server(instances=("team",), log_streams=log_streams)
    client, bot = Client(channels(server), "team"), StreamingBot(channels(server), "team", "bot")
    await bot.open()

    async def runs_without(name: str) -> None:
        execution = await client.queue(await client.add_action(name))
        lease, told = await bot.take_described()
        assert (told.stage, told.stdout_stream_name, told.stderr_stream_name) == (EXECUTING, "", "")
        await bot.update(active(lease))
        await bot.update(completed(lease))
        assert (await execution.response()).status.code == 0
        assert {metadata_of(operation).stdout_stream_name for operation in execution.told} == {""}

    service.mood.hang()
    waiting = asyncio.ensure_future(runs_without("slow"))
    async with asyncio.timeout(WITHIN):
        await asyncio.to_thread(service.mood.reached.acquire)
    # Meanwhile everybody else is served.
    other = Bot(channels(server), "team", "other", properties={"Pool": "other"})
    assert await other.open() == []
    assert len(await client.unfinished()) == 1
    await waiting
    service.stop()
    # It is left alone by now, or refuses: either way nobody waits for it again.
    for number in range(5):
        await runs_without(f"down-{number}")
    assert "log-streams: not sent" in server.log
    assert "Traceback" not in server.log
