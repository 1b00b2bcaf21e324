"""The conversation: how many calls, several leases, and a server that comes and goes."""

import asyncio
from pathlib import Path

import grpc
import pytest
from buildgrid_bot.pacing import LostSessions
from buildgrid_bot.sandbox import Sandbox
from buildgrid_bot.trouble import SessionRefused
from buildgrid_protos.google.devtools.remoteworkers.v1test2 import bots_pb2

from tests.integration.bot.conftest import StartBot
from tests.integration.bot.fake_farm import FakeFarm, result_of


async def test_the_session_says_what_the_bot_is(farm: FakeFarm, start_bot: StartBot) -> None:
    await start_bot(slots=3)
    await farm.until(lambda: farm.bots.held == 1)

    session = farm.bots.updates[0]

    assert session.bot_id == "bot"
    assert [(p.key, p.value) for p in session.worker.devices[0].properties] == [("OSFamily", "linux")]
    assert {c.key: c.value for c in session.worker.configs} == {
        "capacity": "3",
        "long-poll": "always",
        "long-poll-full": "always",
    }


async def test_a_short_action_costs_one_call(farm: FakeFarm, start_bot: StartBot) -> None:
    await start_bot(sandbox=Sandbox())
    await farm.until(lambda: farm.bots.held == 1)
    calls = len(farm.bots.updates)

    for _ in range(5):
        job = await farm.submit(farm.action(["/bin/true"]))
        await farm.finished(job)
        assert job.reported == [bots_pb2.COMPLETED]
        await farm.until(lambda: farm.bots.held == 1)

    assert len(farm.bots.updates) - calls == 5


async def test_two_slots_work_at_once(farm: FakeFarm, start_bot: StartBot, tmp_path: Path) -> None:
    await start_bot(slots=2, sandbox=Sandbox())
    meet = f"touch {tmp_path}/$0; while ! test -e {tmp_path}/$1; do sleep 0.02; done"

    one = await farm.submit(farm.action(["/bin/sh", "-c", meet, "one", "two"]))
    two = await farm.submit(farm.action(["/bin/sh", "-c", meet, "two", "one"]))

    assert result_of(await farm.finished(one)).exit_code == 0
    assert result_of(await farm.finished(two)).exit_code == 0


async def test_many_short_actions_on_many_slots_all_arrive(farm: FakeFarm, start_bot: StartBot) -> None:
    await start_bot(slots=4, sandbox=Sandbox())

    jobs = [await farm.submit(farm.shell(f"echo {number}")) for number in range(40)]

    for number, job in enumerate(jobs):
        assert result_of(await farm.finished(job)).stdout_raw == f"{number}\n".encode()


async def test_an_action_outlives_an_outage_and_its_result_arrives(
    farm: FakeFarm, start_bot: StartBot, tmp_path: Path
) -> None:
    await start_bot(sandbox=Sandbox())
    job = await farm.submit(farm.shell(f"while ! test -e {tmp_path}/go; do sleep 0.02; done; echo kept"))
    await farm.active(job)

    await farm.stop()
    (tmp_path / "go").touch()
    await farm.start()

    assert result_of(await farm.finished(job)).stdout_raw == b"kept\n"
    assert farm.bots.sessions == 1


async def test_a_server_that_answered_before_is_not_said_to_want_tls(
    farm: FakeFarm, start_bot: StartBot, caplog: pytest.LogCaptureFixture
) -> None:
    farm.bots.details = "Socket closed"
    await start_bot(endpoint=farm.endpoint)
    await farm.until(lambda: farm.bots.held == 1)
    calls = len(farm.bots.updates)
    farm.bots.codes = [grpc.StatusCode.UNAVAILABLE]
    job = await farm.submit(farm.shell("echo again"))
    await farm.finished(job)
    await farm.until(lambda: not farm.bots.codes and len(farm.bots.updates) > calls)
    assert "UNAVAILABLE: Socket closed" in caplog.text
    assert "TLS" not in caplog.text


async def test_a_lost_session_stops_its_actions_and_a_new_one_opens(
    farm: FakeFarm, start_bot: StartBot
) -> None:
    bot = await start_bot(slots=2)
    lost = await farm.submit(farm.shell("while :; do sleep 1; done"))
    await farm.active(lost)

    await farm.close_session()
    await farm.until(lambda: farm.bots.sessions == 2)
    following = await farm.submit(farm.shell("echo fresh"))

    assert result_of(await farm.finished(following)).stdout_raw == b"fresh\n"
    assert lost.done is None
    assert len(list((bot.cache_dir / "work").iterdir())) == 0


async def test_stopped_actions_do_not_cut_the_rest_short_and_sigterm_does(
    farm: FakeFarm, start_bot: StartBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LostSessions, "rest", lambda self, lasted: 3600.0)
    bot = await start_bot(slots=2)
    for _ in range(2):
        await farm.active(await farm.submit(farm.shell("while :; do sleep 1; done")))

    await farm.close_session()
    with pytest.raises(TimeoutError):
        await farm.until(lambda: farm.bots.sessions == 2, seconds=1.5)
    bot.session.terminate()

    await asyncio.wait_for(bot.task, 20)
    assert farm.bots.sessions == 1


async def test_a_failing_update_is_repeated_with_everything_in_it(
    farm: FakeFarm, start_bot: StartBot
) -> None:
    await start_bot()
    await farm.until(lambda: farm.bots.held == 1)
    farm.bots.codes = [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED]

    lease = await farm.finished(await farm.submit(farm.shell("echo once")))

    assert result_of(lease).stdout_raw == b"once\n"
    assert not farm.bots.codes


async def test_a_job_may_come_back_for_another_try(farm: FakeFarm, start_bot: StartBot) -> None:
    await start_bot()
    job = await farm.submit(farm.shell("echo again"))
    await farm.finished(job)
    retry = bots_pb2.Lease(id=job.lease.id, state=bots_pb2.PENDING, payload=job.lease.payload)

    second = await farm.submit_lease(retry)

    assert result_of(await farm.finished(second)).stdout_raw == b"again\n"


async def test_shared_inputs_are_fetched_once(farm: FakeFarm, start_bot: StartBot) -> None:
    await start_bot(slots=4, sandbox=Sandbox())
    files: dict[str, bytes | str] = {"large": b"z" * 5_000_000}

    jobs = [await farm.submit(farm.shell(f"echo {n}; wc -c < large", files=files)) for n in range(4)]
    await asyncio.gather(*map(farm.finished, jobs))

    assert farm.cas.calls.count("Read") == 1


async def test_the_cache_stays_within_its_bound(farm: FakeFarm, start_bot: StartBot) -> None:
    bot = await start_bot(cache_bytes=1_000_000)
    for number in range(4):
        action = farm.shell("cksum < data", files={"data": bytes([number]) * 400_000})
        await farm.finished(await farm.submit(action))

    assert bot.cache.size_bytes <= 1_000_000
    kept = sum(path.stat().st_size for path in (bot.cache_dir / "files").glob("*/*"))
    assert kept == bot.cache.size_bytes


async def test_a_bot_that_the_server_does_not_want_ends_with_the_reason(
    farm: FakeFarm, start_bot: StartBot
) -> None:
    farm.bots.refusal = (grpc.StatusCode.INVALID_ARGUMENT, "instance_name 'typo' is not known here")
    bot = await start_bot(refused_for=0.5)

    with pytest.raises(
        SessionRefused, match=r"instance_name 'typo' is not known here.*--instance.*giving up"
    ):
        await asyncio.wait_for(asyncio.shield(bot.task), 20)


async def test_a_server_that_is_set_up_while_it_refuses_gets_its_bot(
    farm: FakeFarm, start_bot: StartBot, caplog: pytest.LogCaptureFixture
) -> None:
    farm.bots.refusal = (grpc.StatusCode.FAILED_PRECONDITION, "no label is served by Colour=red")
    bot = await start_bot()
    await farm.until(lambda: farm.bots.refusals == 2)

    farm.bots.refusal = None

    await farm.until(lambda: farm.bots.held == 1)
    assert not bot.task.done()
    assert "no label is served by Colour=red" in caplog.text and "check --property" in caplog.text
