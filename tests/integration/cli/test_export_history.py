"""`export-history` prints what bots had of a farm's jobs, and the simulator of fleets reads it."""

import asyncio
import contextlib
import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from buildgrid_operator.simulator.trace import COLUMNS, Job, read_trace
from buildgrid_scheduler.cli.main import main
from buildgrid_scheduler.fleet.finished_jobs import FinishedJob
from buildgrid_scheduler.fleet.trace import Written, write_trace

from tests.farm.bots import active, completed
from tests.integration.cli.conftest import Cli, Farm

START = datetime(2026, 1, 1, tzinfo=UTC)


def finished(seconds: float, duration: float | None = 5, **requirements: list[str]) -> FinishedJob:
    took = None if duration is None else timedelta(seconds=duration)
    return FinishedJob("", START + timedelta(seconds=seconds), "job", took, requirements, "", 0, 0)


def written(folder: Path, *jobs: FinishedJob) -> Path:
    """A trace of these."""
    file = folder / "trace.csv"
    with file.open("w", encoding="utf-8") as opened:
        write_trace(jobs, opened)
    return file


def test_the_simulator_reads_what_is_written(tmp_path: Path) -> None:
    file = written(
        tmp_path, finished(60, 1.25, Pool=["gpu"]), finished(63.5, 7200), finished(63.5, 0, A=["b"])
    )
    assert file.read_text().splitlines()[0] == ",".join(COLUMNS)
    assert read_trace(file).jobs == (
        Job(0.0, "Pool=gpu", 1.25),
        Job(3.5, "", 7200.0),
        Job(3.5, "A=b", 0.0),
    )


def test_different_requirements_are_different_texts(tmp_path: Path) -> None:
    strange = [
        finished(0, Pool=["a", "b"]),
        finished(1, Pool=["a&Pool=b"]),
        finished(2, Pool=["a,b"]),
        finished(3, Pool=['a"\nb', "ü"]),
        finished(4, 5, **{"container-image": ["docker://ubuntu@sha256:00"]}),
    ]
    requirements = [job.requirement for job in read_trace(written(tmp_path, *strange)).jobs]
    assert len(set(requirements)) == 5
    assert requirements[0] == "Pool=a&Pool=b"
    assert requirements[4] == "container-image=docker://ubuntu@sha256:00"


def test_what_no_bot_had_is_left_out_and_counted() -> None:
    file = io.StringIO()
    assert write_trace([finished(0, None), finished(60), finished(61, None)], file) == Written(1, 2)
    assert file.getvalue().splitlines()[1:] == ["0.000,,5.000"]


async def do_a_job(farm: Farm, name: str) -> None:
    execution = await farm.client.queue(await farm.client.add_action(name, platform={"Pool": "gpu"}))
    bot = farm.bot(f"bot-{name}", properties={"Pool": "gpu"})
    lease = await bot.take_lease()
    await bot.update(active(lease))
    await bot.update(completed(lease))
    await execution.response()


async def test_a_farms_jobs_go_into_a_trace(farm: Farm, cli: Cli, tmp_path: Path) -> None:
    await do_a_job(farm, "first")
    await do_a_job(farm, "second")
    waiting = await farm.client.queue(await farm.client.add_action("third"))
    code, out, err = await asyncio.to_thread(cli, "export-history")
    assert (code, err) == (0, "")
    file = tmp_path / "trace.csv"
    file.write_text(out)
    first, second = read_trace(file).jobs
    assert (first.requirement, second.requirement) == ("Pool=gpu", "Pool=gpu")
    assert first.arrival == 0 < second.arrival < 300
    assert 0 <= first.duration < 300

    await farm.client.cancel(waiting.name)
    code, again, err = await asyncio.to_thread(cli, "export-history")
    assert (code, again) == (0, out)
    assert "left out, since no bot had them: 1 jobs" in err


async def test_only_jobs_of_that_time_are_printed(farm: Farm, cli: Cli) -> None:
    await do_a_job(farm, "job")
    now = datetime.now(UTC)
    yesterday, tomorrow = now - timedelta(days=1), now + timedelta(days=1)
    for arguments in (
        ["--since", yesterday.date().isoformat()],
        ["--since", yesterday.isoformat(), "--until", tomorrow.isoformat().replace("+00:00", "Z")],
    ):
        code, out, _ = await asyncio.to_thread(cli, "export-history", *arguments)
        assert (code, len(out.splitlines())) == (0, 2)
    for arguments in (["--until", yesterday.isoformat()], ["--since", tomorrow.isoformat()]):
        code, out, err = await asyncio.to_thread(cli, "export-history", *arguments)
        assert (code, out) == (1, ",".join(COLUMNS) + "\n")
        assert "no finished jobs in that time" in err


async def test_an_instance_that_nobody_knows_is_told(farm: Farm, cli: Cli) -> None:
    await do_a_job(farm, "job")
    code, _, err = await asyncio.to_thread(cli, "export-history", instance="team/typo")
    assert code == 2
    assert "'team/typo'" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--since", "yesterday"], "'yesterday' is no time; write for example 2026-11-24"),
        (["--since", "2026-11-02", "--until", "2026-11-01"], "--since is after --until; exchange the two"),
    ],
)
def test_a_time_that_is_none_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.suppress(SystemExit):  # of argparse
        assert main(["export-history", *arguments]) == 2
    assert message in capsys.readouterr().err
