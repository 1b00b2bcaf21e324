"""Two bots were given one --bot-id: one of them ends, the other one works on."""

import asyncio
import sys
from asyncio.subprocess import Process
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.farm.clients import Client
from tests.farm.database import Databases, drop_database, rows
from tests.farm.replica import Replica
from tests.farm.waiting import eventually

SLOW = "/bin/sleep 0.3; echo {n}"


@pytest.fixture
def database() -> Iterator[str]:
    databases = Databases()
    url = databases.create()
    yield url
    drop_database(url)
    databases.close()


@pytest.fixture
def server(database: str, tmp_path: Path) -> Iterator[Replica]:
    server = Replica(tmp_path / "server", database, scheduler={"max_job_attempts": 2})
    yield server.start()
    server.close()


async def launch(server: Replica, cache_dir: Path, log: Path) -> Process:
    with log.open("ab") as stderr:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "buildgrid_bot", "run", "--endpoint", f"grpc://{server.endpoint}"),
            *("--cache-dir", str(cache_dir), "--bot-id", "twin", "--sandbox", "none", "--slots", "2"),
            stderr=stderr,
        )


@pytest.mark.timeout(180)
async def test_one_of_two_bots_with_one_bot_id_ends_and_the_other_one_does_all_jobs(
    server: Replica, database: str, tmp_path: Path
) -> None:
    async with server.open_channel() as channel:
        client = Client(channel)
        executions = []
        for n in range(12):
            digest = await client.add_action(f"job {n}", arguments=("/bin/sh", "-c", SLOW.format(n=n)))
            executions.append(await client.queue(digest))
        logs = [tmp_path / "log-0", tmp_path / "log-1"]
        bots = [await launch(server, tmp_path / f"cache-{n}", logs[n]) for n in range(2)]
        try:
            answers = await asyncio.gather(*(execution.response(120) for execution in executions))
            assert [answer.status.code for answer in answers] == [0] * len(executions)
            assert [answer.result.exit_code for answer in answers] == [0] * len(executions)
            await eventually(
                lambda: any(bot.returncode is not None for bot in bots), 60, lambda: logs[0].read_text()
            )
            codes = [bot.returncode for bot in bots]
            assert sorted(codes, key=str) == [1, None], [log.read_text() for log in logs]
            last = logs[codes.index(1)].read_text().strip().splitlines()[-1]
            assert "ERROR" in last
            assert "another bot uses --bot-id twin (from 127.0.0.1:" in last
            digest = await client.add_action("after", arguments=("/bin/sh", "-c", "echo after"))
            after = await client.queue(digest)
            assert (await after.response(60)).status.code == 0
        finally:
            for bot in bots:
                if bot.returncode is None:
                    bot.kill()
                await bot.wait()
    assert rows(database, "SELECT max(n_tries) FROM jobs") == [(1,)], "no job is to blame"
    assert "two bots use one bot_id" in server.log
