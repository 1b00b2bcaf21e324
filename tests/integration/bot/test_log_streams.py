"""Output that is read while its command runs; and that nobody but the readers notices a broken service."""

import asyncio
import hashlib
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest
from buildgrid_bot.sandbox import Sandbox
from buildgrid_protos.google.devtools.remoteworkers.v1test2 import bots_pb2

from tests.farm.waiting import eventually
from tests.integration.bot.conftest import StartBot
from tests.integration.bot.fake_farm import FakeFarm, result_of
from tests.integration.server.log_stream_service import LiveLogStreamServer

WITHIN = 60.0
MEGABYTES = 100
# Prints far more than a stream takes at once, and says where the bytes came from.
FLOOD = f"yes 0123456789abcde | head -c {MEGABYTES << 20}"
FLOODED = b"0123456789abcde\n" * (MEGABYTES << 16)


@pytest.fixture
def service() -> Iterator[LiveLogStreamServer]:
    service = LiveLogStreamServer()
    yield service
    service.stop()


@pytest.fixture(params=["best", "none"])
def sandbox(request: pytest.FixtureRequest, best_sandbox: Sandbox) -> Sandbox:
    return best_sandbox if request.param == "best" else Sandbox()


@pytest.fixture
def streams(service: LiveLogStreamServer) -> tuple[str, str]:
    """Names to write `out` and `err` to."""
    return service.write_name("out"), service.write_name("err")


async def until(service: LiveLogStreamServer, condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(service.wait_for, condition, WITHIN)


async def finished(service: LiveLogStreamServer) -> tuple[bytes, bytes]:
    await until(service, lambda: service.finished("out") and service.finished("err"))
    return service.content("out"), service.content("err")


def waits_for(path: Path) -> str:
    return f"while ! test -e {path}; do sleep 0.02; done"


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "streamed" in record.getMessage()]


async def complained(caplog: pytest.LogCaptureFixture) -> None:
    await eventually(lambda: bool(complaints(caplog)), within=WITHIN)


async def test_output_is_there_before_the_command_ends(
    farm: FakeFarm,
    start_bot: StartBot,
    service: LiveLogStreamServer,
    streams: tuple[str, str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await start_bot(sandbox=Sandbox(), log_streams=service.endpoint)
    script = (
        f"echo one; echo oops >&2; {waits_for(tmp_path / 'a')}; echo two; {waits_for(tmp_path / 'b')}; exit 3"
    )
    job = await farm.submit(farm.shell(script), streams)

    await until(service, lambda: service.content("out") == b"one\n" and service.content("err") == b"oops\n")
    (tmp_path / "a").touch()
    await until(service, lambda: service.content("out") == b"one\ntwo\n")
    assert job.done is None
    assert not service.finished("out")
    (tmp_path / "b").touch()

    result = result_of(await farm.finished(job))
    assert (result.exit_code, result.stdout_raw, result.stderr_raw) == (3, b"one\ntwo\n", b"oops\n")
    assert await finished(service) == (b"one\ntwo\n", b"oops\n")
    assert service.writes == 2
    assert complaints(caplog) == []


async def test_a_silent_command_leaves_finished_streams(
    farm: FakeFarm,
    start_bot: StartBot,
    service: LiveLogStreamServer,
    streams: tuple[str, str],
    sandbox: Sandbox,
) -> None:
    await start_bot(sandbox=sandbox, log_streams=service.endpoint)

    await farm.finished(await farm.submit(farm.action(["/bin/true"]), streams))

    assert await finished(service) == (b"", b"")


async def test_a_command_that_is_stopped_leaves_finished_streams(
    farm: FakeFarm,
    start_bot: StartBot,
    service: LiveLogStreamServer,
    streams: tuple[str, str],
    sandbox: Sandbox,
) -> None:
    await start_bot(sandbox=sandbox, log_streams=service.endpoint, kill_grace=0.2)
    stubborn = "trap '' TERM; echo started; while :; do sleep 1; done"

    lease = await farm.finished(await farm.submit(farm.shell(stubborn, timeout=0.5), streams))

    assert lease.status.code == 4
    assert await finished(service) == (b"started\n", b"")

    job = await farm.submit(farm.shell(stubborn), (service.write_name("x"), service.write_name("y")))
    await until(service, lambda: service.content("x") == b"started\n")
    await farm.cancel(job)
    assert (await farm.finished(job)).status.code == 1
    await until(service, lambda: service.finished("x") and service.finished("y"))
    assert service.content("x") == b"started\n"


async def test_streams_of_a_command_that_never_starts_are_finished(
    farm: FakeFarm, start_bot: StartBot, service: LiveLogStreamServer, streams: tuple[str, str]
) -> None:
    bot = await start_bot(sandbox=Sandbox(), log_streams=service.endpoint)
    action = farm.shell("true")
    action.command_digest.hash = "0" * 64
    assert (await farm.finished(await farm.submit(action, streams))).status.code == 9
    assert await finished(service) == (b"", b"")

    farm.cas.called.clear()
    farm.cas.open.clear()
    names = service.write_name("x"), service.write_name("y")
    handed_back = await farm.submit(farm.shell("true", files={"in": "some"}), names)
    await asyncio.wait_for(farm.cas.called.wait(), WITHIN)
    bot.session.terminate()
    await farm.until(lambda: farm.bots.updates[-1].status == bots_pb2.BOT_TERMINATING)
    farm.cas.open.set()
    await until(service, lambda: service.finished("x") and service.finished("y"))
    assert handed_back.done is None
    await asyncio.wait_for(bot.task, WITHIN)


async def test_a_service_that_comes_late_gets_everything(
    farm: FakeFarm,
    start_bot: StartBot,
    service: LiveLogStreamServer,
    streams: tuple[str, str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    service.stop()
    await start_bot(sandbox=Sandbox(), log_streams=service.endpoint)
    job = await farm.submit(farm.shell(f"echo early; {waits_for(tmp_path / 'go')}; echo late"), streams)
    await farm.active(job)

    service.start()
    await until(service, lambda: service.content("out") == b"early\n")
    (tmp_path / "go").touch()

    assert result_of(await farm.finished(job)).stdout_raw == b"early\nlate\n"
    assert await finished(service) == (b"early\nlate\n", b"")
    assert complaints(caplog) == []


async def test_a_service_that_is_down_costs_the_action_nothing_and_the_log_one_line(
    farm: FakeFarm,
    start_bot: StartBot,
    service: LiveLogStreamServer,
    streams: tuple[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    service.stop()
    await start_bot(sandbox=Sandbox(), log_streams=service.endpoint, linger=0.1, last_word=0.1)

    for number in range(3):
        job = await farm.submit(farm.shell(f"echo {number}"), streams)
        assert result_of(await farm.finished(job)).stdout_raw == f"{number}\n".encode()
    await complained(caplog)

    (line,) = complaints(caplog)
    assert re.match(r"standard (output|error) of lease job-1 was not streamed to its end: the service", line)
    assert "(connection: " in line
    assert streams[0] not in caplog.text


async def test_a_service_that_dies_on_the_way_is_told_the_rest_when_it_is_back(
    farm: FakeFarm,
    start_bot: StartBot,
    service: LiveLogStreamServer,
    streams: tuple[str, str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await start_bot(sandbox=Sandbox(), log_streams=service.endpoint)
    script = (
        f"echo before; {waits_for(tmp_path / 'a')}; echo meanwhile; {waits_for(tmp_path / 'b')}; echo after"
    )
    job = await farm.submit(farm.shell(script), streams)
    await until(service, lambda: service.content("out") == b"before\n")

    service.stop()
    (tmp_path / "a").touch()
    service.start()
    # Without more output to remind it: the bot notices by itself that a stream broke.
    await until(service, lambda: service.content("out") == b"before\nmeanwhile\n")
    (tmp_path / "b").touch()

    await farm.finished(job)
    assert await finished(service) == (b"before\nmeanwhile\nafter\n", b"")
    assert complaints(caplog) == []


@pytest.mark.parametrize(
    "code",
    [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.OK],
    ids=lambda code: code.name,
)
async def test_a_broken_stream_goes_on_where_the_service_says(
    farm: FakeFarm,
    start_bot: StartBot,
    service: LiveLogStreamServer,
    streams: tuple[str, str],
    code: grpc.StatusCode,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("buildgrid_bot.stream_writer.FIRST_RETRY_SECONDS", 0.0)
    # More often than a stream may fail without getting on.
    service.breaks = [code] * 4
    await start_bot(sandbox=Sandbox(), log_streams=service.endpoint)

    await farm.finished(await farm.submit(farm.shell("seq 300000; seq 1000 >&2"), streams))

    stdout, stderr = await finished(service)
    assert stdout == b"".join(b"%d\n" % number for number in range(1, 300001))
    assert stderr == b"".join(b"%d\n" % number for number in range(1, 1001))
    assert service.writes == 6


async def test_nothing_is_written_twice_where_the_service_cannot_say_what_it_has(
    farm: FakeFarm,
    start_bot: StartBot,
    service: LiveLogStreamServer,
    streams: tuple[str, str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    service.breaks = [grpc.StatusCode.UNAVAILABLE]
    service.status_refusal = grpc.StatusCode.UNIMPLEMENTED
    await start_bot(sandbox=Sandbox(), log_streams=service.endpoint)

    script = f"echo once; {waits_for(tmp_path / 'go')}"
    job = await farm.submit(farm.shell(script), (streams[0], ""))
    await until(service, lambda: service.content("out") == b"once\n")
    (tmp_path / "go").touch()

    assert result_of(await farm.finished(job)).stdout_raw == b"once\n"
    await complained(caplog)
    assert service.content("out") == b"once\n"
    assert "UNIMPLEMENTED: not today" in complaints(caplog)[0]


async def test_a_refused_stream_is_given_up_without_telling_its_name(
    farm: FakeFarm, start_bot: StartBot, service: LiveLogStreamServer, caplog: pytest.LogCaptureFixture
) -> None:
    await start_bot(sandbox=Sandbox(), log_streams=service.endpoint)

    job = await farm.submit(farm.shell("echo kept"), ("secret-name", ""))

    assert result_of(await farm.finished(job)).stdout_raw == b"kept\n"
    await complained(caplog)
    assert "PERMISSION_DENIED: (the stream) is not a name to write to" in complaints(caplog)[0]
    assert "secret-name" not in caplog.text
    assert service.writes == 1


async def test_output_that_is_faster_than_the_service_arrives_whole_after_the_result(
    farm: FakeFarm, start_bot: StartBot, service: LiveLogStreamServer, streams: tuple[str, str]
) -> None:
    service.flowing.clear()
    await start_bot(sandbox=Sandbox(), log_streams=service.endpoint)

    job = await farm.submit(farm.shell(FLOOD), streams)
    await farm.until(lambda: job.done is not None, WITHIN)

    assert service.size("out") == 0, "the action did not wait for it"
    assert job.done is not None
    digest = result_of(job.done).stdout_digest
    assert (digest.hash, digest.size_bytes) == (hashlib.sha256(FLOODED).hexdigest(), len(FLOODED))
    service.flowing.set()
    await until(service, lambda: service.finished("out"))
    assert service.content("out") == FLOODED


async def test_a_stream_that_lags_behind_for_too_long_is_finished_as_it_is(
    farm: FakeFarm,
    start_bot: StartBot,
    service: LiveLogStreamServer,
    streams: tuple[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    service.flowing.clear()
    await start_bot(sandbox=Sandbox(), log_streams=service.endpoint, linger=0.05)

    job = await farm.submit(farm.shell(FLOOD), (streams[0], ""))
    await farm.until(lambda: job.done is not None, WITHIN)
    await asyncio.sleep(0.1)  # it is the time that decides
    service.flowing.set()
    await until(service, lambda: service.finished("out"))

    got = service.content("out")
    assert 0 < len(got) < len(FLOODED) and FLOODED.startswith(got)
    await complained(caplog)
    assert f"too slow: the stream ends after {len(got)} bytes" in complaints(caplog)[0]


IMPATIENT = """
import sys
from buildgrid_bot import cli
cli.STREAMS_SECONDS = 0.3
sys.exit(cli.main(sys.argv[1:]))
"""


def peak_memory(pid: int) -> int:
    """Bytes."""
    (line,) = [
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM:")
    ]
    return int(line.split()[1]) << 10


async def test_a_bot_does_not_hold_what_the_service_does_not_take_and_ends_in_time(
    farm: FakeFarm, service: LiveLogStreamServer, streams: tuple[str, str], tmp_path: Path
) -> None:
    bot = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", IMPATIENT, "run", "--endpoint", farm.endpoint, "--sandbox", "none"),
        *("--logstream-endpoint", service.endpoint, "--cache-dir", str(tmp_path / "cache")),
        stderr=asyncio.subprocess.PIPE,
    )
    small = await farm.submit(farm.shell("echo warm"), streams)
    await farm.finished(small)
    assert await finished(service) == (b"warm\n", b"")
    service.flowing.clear()
    before = peak_memory(bot.pid)

    script = f"{FLOOD}; {waits_for(tmp_path / 'go')}"
    names = service.write_name("x"), service.write_name("y")
    job = await farm.submit(farm.shell(script), names)
    await until(service, lambda: service.writes == 4)
    (tmp_path / "go").touch()
    await farm.until(lambda: job.done is not None, WITHIN)

    assert peak_memory(bot.pid) - before < 50 << 20
    bot.send_signal(signal.SIGTERM)
    _, log = await asyncio.wait_for(bot.communicate(), 20)
    assert bot.returncode == 0
    assert log.decode().count("was not streamed to its end: the bot ends") == 1
    assert "Traceback" not in log.decode()
