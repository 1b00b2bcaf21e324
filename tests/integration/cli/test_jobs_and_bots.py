"""`jobs` and `bots` show a running farm: tables for people, JSON for programs."""

import asyncio
import json
from pathlib import Path

import grpc

from tests.farm.bots import active, completed, failed
from tests.integration.cli.conftest import Cli, Farm


async def test_jobs_lists_what_waits_and_runs(farm: Farm, cli: Cli) -> None:
    client, bot = farm.client, farm.bot("bot-1", properties={"OSFamily": "linux"})
    running = await client.queue(
        await client.add_action("r", arguments=("gcc", "-c", "a.c"), platform={"OSFamily": "linux"})
    )
    lease = await bot.take_lease()
    await bot.update(active(lease))
    waiting = await client.queue(
        await client.add_action("w", arguments=("make", "all"), platform={"Pool": "gpu"}), priority=7
    )
    code, out, _ = await asyncio.to_thread(cli, "jobs")
    assert code == 0
    headings, *rows = (line.split() for line in out.splitlines())
    assert headings == ["OPERATION", "STAGE", "FOR", "PRIORITY", "LABEL", "BOT", "WHAT"]
    first, second = rows
    assert (first[0], first[1], first[3:]) == (
        running.name.rpartition("/")[2],
        "EXECUTING",
        ["0", "unknown", "bot-1", "gcc", "-c", "a.c"],
    )
    assert (second[0], second[1], second[3:]) == (
        waiting.name.rpartition("/")[2],
        "QUEUED",
        ["7", "gpu", "make", "all"],
    )

    code, out, _ = await asyncio.to_thread(cli, "jobs", "list", "--json", "--filter", "platform=Pool:gpu")
    (told,) = json.loads(out)
    assert (told["name"], told["stage"], told["requirements"], told["priority"]) == (
        second[0],
        "QUEUED",
        {"Pool": ["gpu"]},
        7,
    )
    assert told["queued_at"].endswith("+00:00")


async def test_jobs_are_those_of_one_instance_and_as_many_as_asked_for(farm: Farm, cli: Cli) -> None:
    client = farm.client
    for digest in await client.add_actions("many", 3):
        await client.queue(digest)
    code, out, err = await asyncio.to_thread(cli, "jobs", "--limit", "2")
    assert (code, len(out.splitlines())) == (0, 3)
    assert "there are more than 2" in err


async def test_an_instance_that_nobody_knows_is_told_with_those_that_there_are(
    farm: Farm, cli: Cli, tmp_path: Path
) -> None:
    await farm.client.queue(await farm.client.add_action("a"))
    for command in ("jobs", "bots"):
        code, out, err = await asyncio.to_thread(cli, command, "--json", instance="team/typo")
        assert (code, out) == (2, "")
        assert "has no jobs and no bots of an instance 'team/typo'" in err
        assert repr(farm.instance) in err
    # The servers' configuration knows better, also of an instance that was never used.
    file = tmp_path / "server.yaml"
    file.write_text("instances: [team/new, team/other]")
    for command in ("jobs", "bots", "drain"):
        code, _, _ = await asyncio.to_thread(cli, command, "--config", str(file), instance="team/new")
        assert code == 0
        code, _, err = await asyncio.to_thread(cli, command, "--config", str(file), instance="team/typo")
        assert code == 2
        assert "'team/typo' is not served by the servers of" in err
        assert "they serve 'team/new', 'team/other'" in err


async def test_an_instance_that_is_known_and_has_nothing_to_do_is_an_empty_table(
    farm: Farm, cli: Cli
) -> None:
    await farm.bot("bot").open()
    code, out, _ = await asyncio.to_thread(cli, "jobs")
    assert (code, out.splitlines()[1:]) == (0, [])


async def test_a_bad_filter_is_refused_with_its_reason(farm: Farm, cli: Cli) -> None:
    code, _, err = await asyncio.to_thread(cli, "jobs", "--filter", "stag=QUEUED")
    assert code == 2
    assert err.startswith("buildgrid-scheduler jobs: filter: ")
    assert "stage" in err


async def test_show_tells_what_happened_to_a_job(farm: Farm, cli: Cli) -> None:
    client, bot = farm.client, farm.bot("bot-1")
    digest = await client.add_action("a", arguments=("true",))
    execution = await client.queue(digest)
    other = await client.queue(digest)
    lease = await bot.take_lease()
    await bot.update(failed(lease, grpc.StatusCode.UNAVAILABLE, "no disk"))
    lease = await bot.take_again()
    await bot.update(completed(lease))
    await execution.response()
    code, out, _ = await asyncio.to_thread(cli, "jobs", "show", execution.name)
    assert code == 0
    for words in (
        f"job {lease.id}",
        "COMPLETED OK",
        "command   true",
        "attempts  2\n",
        "retried (try 2): ",
        "no disk",
        "bot-1",
    ):
        assert words in out
    assert other.name.rpartition("/")[2] in out
    code, out, _ = await asyncio.to_thread(cli, "jobs", "show", lease.id, "--json")
    told = json.loads(out)
    assert told["job"] == lease.id
    assert len(told["operations"]) == 2
    assert [event["kind"] for event in told["events"]][-1] == "completed"


async def test_a_job_that_no_bot_was_given_has_no_attempts(farm: Farm, cli: Cli, tmp_path: Path) -> None:
    execution = await farm.client.queue(await farm.client.add_action("a"))
    code, out, _ = await asyncio.to_thread(cli, "jobs", "show", execution.name)
    assert code == 0
    assert "attempts  none yet\n" in out
    bot = farm.bot("bot")
    await bot.update(active(await bot.take_lease()))
    file = tmp_path / "server.yaml"
    file.write_text(f"instances: [{farm.instance}]\nscheduler: {{max_job_attempts: 7}}")
    _, out, _ = await asyncio.to_thread(cli, "jobs", "show", execution.name, "--config", str(file))
    assert "attempts  1 of 7\n" in out


async def test_show_needs_a_name_that_is_known(farm: Farm, cli: Cli) -> None:
    code, _, err = await asyncio.to_thread(cli, "jobs", "show", "no-such-job")
    assert (code, "neither a job nor an operation" in err) == (1, True)
    assert (await asyncio.to_thread(cli, "jobs", "show"))[0] == 2
    assert (await asyncio.to_thread(cli, "jobs", "list", "x"))[0] == 2


async def test_bots_shows_who_is_connected_and_busy(farm: Farm, cli: Cli) -> None:
    client = farm.client
    busy, idle = (
        farm.bot(name, properties={"OSFamily": "linux", "Pool": name}, capacity=2)
        for name in ("a-busy", "b-idle")
    )
    await client.queue(await client.add_action("a", platform={"Pool": "a-busy"}))
    lease = await busy.take_lease()
    await idle.open()
    code, out, _ = await asyncio.to_thread(cli, "bots")
    assert code == 0
    headings, *rows = (line.split() for line in out.splitlines())
    assert headings[:3] == ["BOT", "STATUS", "BUSY"]
    assert [row[:3] for row in rows] == [["a-busy", "OK", "1/2"], ["b-idle", "OK", "0/2"]]
    assert rows[0][-2:] == ["OSFamily=linux", "Pool=a-busy"]
    code, out, _ = await asyncio.to_thread(cli, "bots", "--json", "--filter", "BUSY")
    (told,) = json.loads(out)
    assert (told["bot_id"], told["jobs"], told["capacity"], told["drained"]) == (
        "a-busy",
        [lease.id],
        2,
        False,
    )
