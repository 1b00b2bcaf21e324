"""The embedded PostgreSQL is killed under a running server: it comes back, and the jobs go on."""

import asyncio
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from buildgrid_scheduler.cli.main import main
from buildgrid_scheduler.store.postmaster import find_postmaster

from tests.farm.bots import HELD, Bot, completed
from tests.farm.clients import Client
from tests.farm.database import new_folder
from tests.farm.waiting import eventually, eventually_sync
from tests.integration.server.server_process import Server

RECOVERS_WITHIN = 60.0
MakeAlone = Callable[[str], Server]


@pytest.fixture
def make_alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeAlone]:
    """Makes servers with one data folder and an embedded database in it, which ends with the last of them."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    folder = new_folder()  # not below pytest's, which PostgreSQL could not reach
    made: list[Server] = []

    def make(name: str) -> Server:
        server = Server(folder / name, None)
        server.write(data=str(folder / "data"))
        made.append(server)
        return server

    yield make
    for server in made:
        if server.liveness()[0]:
            server.terminate(40)
        server.close()
    left = find_postmaster(folder / "data" / "postgres")
    if left is not None:
        os.kill(left.pid, signal.SIGQUIT)
    shutil.rmtree(folder)
    assert left is None


def data_of(server: Server) -> Path:
    return Path(server.configuration["data"]) / "postgres"


def postmaster_of(server: Server) -> int:
    found = find_postmaster(data_of(server))
    assert found is not None
    return found.pid


def backends_of(postmaster: int) -> list[int]:
    """The processes that serve connections."""
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    return [int(child) for child in children if b"[local]" in Path(f"/proc/{child}/cmdline").read_bytes()]


def postmasters_on(folder: Path) -> list[int]:
    """Processes of PostgreSQL that work there and whose parents are none."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if not entry.name.isdigit() or (entry / "comm").read_text() != "postgres\n":
                continue
            if (entry / "cwd").resolve(strict=True) == folder.resolve():
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                found[int(entry.name)] = int(stat[1])
        except OSError:
            continue
    return [pid for pid, parent in found.items() if parent not in found]


def ready_other_than(killed: int, folder: Path) -> bool:
    found = find_postmaster(folder)
    return found is not None and found.pid != killed and found.ready


async def test_a_killed_postmaster_is_started_again_and_no_job_is_lost(make_alone: MakeAlone) -> None:
    server = make_alone("one")
    await asyncio.to_thread(server.start)
    async with server.open_channel() as channel:
        client, bot = Client(channel), Bot(channel, "", "bot")
        before = await client.queue(await client.add_action("before"))
        for times in ("once", "again"):
            killed = postmaster_of(server)
            os.kill(killed, signal.SIGKILL)
            await eventually(
                partial(ready_other_than, killed, data_of(server)), RECOVERS_WITHIN, server.describe
            )
            assert "it is started again" in server.log, times
        leases = await bot.open(timeout=HELD) or await bot.update(timeout=HELD)
        await bot.update(completed(leases[0]))
        await eventually(lambda: server.readiness()[0] == 200, RECOVERS_WITHIN, server.describe)
        assert (await before.response()).status.code == 0
        after = await client.queue(await client.add_action("after"))
        leases = await bot.update(timeout=HELD)
        await bot.update(completed(leases[0]))
        assert (await after.response()).status.code == 0
    # One that was started anew is stopped with the server as the first one would have been.
    assert await asyncio.to_thread(server.terminate, 40) == 0, server.describe()
    assert postmasters_on(data_of(server)) == []


def test_a_killed_connection_is_recovered_from_by_postgres_itself(make_alone: MakeAlone) -> None:
    server = make_alone("one")
    server.start()
    postmaster = postmaster_of(server)
    for backend in backends_of(postmaster):
        with suppress(ProcessLookupError):  # one that is killed takes the others with it
            os.kill(backend, signal.SIGKILL)
    log = data_of(server) / "log"
    ready = "ready to accept connections"
    eventually_sync(lambda: log.read_text().count(ready) == 2, RECOVERS_WITHIN, log.read_text)
    eventually_sync(lambda: server.readiness()[0] == 200, RECOVERS_WITHIN, server.describe)
    assert postmaster_of(server) == postmaster
    assert "it is started again" not in server.log


def test_a_server_stops_while_its_postgres_recovers(make_alone: MakeAlone) -> None:
    server = make_alone("one")
    server.start()
    os.kill(backends_of(postmaster_of(server))[0], signal.SIGKILL)
    log = data_of(server) / "log"
    eventually_sync(lambda: "terminated by signal 9" in log.read_text(), RECOVERS_WITHIN, log.read_text)
    assert server.terminate(40) == 0, server.describe()


def test_a_process_that_outlives_its_postmaster_is_ended_first(make_alone: MakeAlone) -> None:
    server = make_alone("one")
    server.start()
    postmaster = postmaster_of(server)
    (stopped, *_) = backends_of(postmaster)
    os.kill(stopped, signal.SIGSTOP)  # it cannot notice that its postmaster has gone
    os.kill(postmaster, signal.SIGKILL)
    eventually_sync(lambda: "runs again" in server.log, RECOVERS_WITHIN, server.describe)
    eventually_sync(lambda: server.readiness()[0] == 200, RECOVERS_WITHIN, server.describe)
    assert postmasters_on(data_of(server)) == [postmaster_of(server)]


def test_two_servers_on_one_folder_start_one_postmaster(make_alone: MakeAlone) -> None:
    one, two = make_alone("one"), make_alone("two")
    one.start()
    two.start()
    for _ in range(2):
        killed = postmaster_of(one)
        os.kill(killed, signal.SIGKILL)
        eventually_sync(partial(ready_other_than, killed, data_of(one)), RECOVERS_WITHIN, one.describe)
        assert postmasters_on(data_of(one)) == [postmaster_of(one)]
    assert one.terminate(40) == 0, one.describe()
    assert postmasters_on(data_of(one)) == [postmaster_of(two)]


def test_while_it_cannot_be_started_the_cause_is_named_and_stopping_works(
    make_alone: MakeAlone, capsys: pytest.CaptureFixture[str]
) -> None:
    server = make_alone("one")
    server.start()
    settings = data_of(server) / "postgresql.conf"
    settings.rename(settings.with_suffix(".away"))
    os.kill(postmaster_of(server), signal.SIGKILL)
    eventually_sync(lambda: "does not start" in server.readiness()[1], RECOVERS_WITHIN, server.describe)
    status, reason = server.readiness()
    assert (status, str(data_of(server) / "log") in reason) == (503, True)
    for command in ("jobs", "bots"):
        assert main([command, "--data", server.configuration["data"]]) == 1
        told = capsys.readouterr().err
        assert f"has ended, and the server (process {server.pid}) starts it again" in told
    assert server.terminate(40) == 0, server.describe()
    assert main(["jobs", "--data", server.configuration["data"]]) == 2
    assert "start one: buildgrid-scheduler serve --data" in capsys.readouterr().err
    settings.with_suffix(".away").rename(settings)
    server.start()


def test_the_next_server_recovers_what_a_killed_pair_left(make_alone: MakeAlone) -> None:
    server = make_alone("one")
    server.start()
    killed = postmaster_of(server)
    server.kill()
    os.kill(killed, signal.SIGKILL)
    # Its number is somebody else's by now, and what it wrote is cut off.
    lock = data_of(server) / "postmaster.pid"
    lock.write_text("\n".join([str(os.getpid()), *lock.read_text().splitlines()[1:5]]) + "\n")
    server.start()
    assert postmasters_on(data_of(server)) == [postmaster_of(server)]
