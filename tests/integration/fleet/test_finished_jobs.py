"""The history of a farm, page by page."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from buildgrid_scheduler.core.errors import DeadlineExceeded, InvalidArgument, Unavailable
from buildgrid_scheduler.fleet import finished_jobs
from buildgrid_scheduler.fleet.finished_jobs import FinishedJob, FinishedJobs
from buildgrid_scheduler.store.provider import SqlProvider
from sqlalchemy import DateTime, Text, bindparam, text

START = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
_INSERT = text("""
INSERT INTO jobs (name, instance_name, action_digest, action, do_not_cache, priority, requirement_hash,
                  platform_requirements, property_label, command, n_tries, queued_at, assigned_at,
                  completed_at, status_code)
SELECT coalesce(:name, 'job-' || lpad(n::text, 6, '0')), :instance, 'a/1', '', false, 7, 'h',
       '{"Pool": ["a", "b"], "ISA": ["x86-64"]}', 'label', '', 1, :queued + n * :step, :assigned, :completed,
       5
FROM generate_series(0, :jobs - 1) AS n
""").bindparams(
    bindparam("name", type_=Text),
    *(bindparam(name, type_=DateTime(timezone=True)) for name in ("queued", "assigned", "completed")),
)
Add = Callable[..., None]


@pytest.fixture
def add(provider: SqlProvider) -> Add:
    """Jobs that were queued one after the other, from a number of minutes after START on."""

    def add(
        minute: float,
        *,
        name: str | None = None,
        instance: str = "",
        took: timedelta | None = MINUTE,
        finished: bool = True,
        jobs: int = 1,
        step: timedelta = MINUTE,
    ) -> None:
        end = START + timedelta(days=1)
        values = {
            "name": name,
            "instance": instance,
            "queued": START + minute * MINUTE,
            "step": step,
            "jobs": jobs,
            "assigned": None if took is None else end - took,
            "completed": end if finished else None,
        }
        with provider.session() as session:
            session.execute(_INSERT, values)

    return add


def names(jobs: list[FinishedJob]) -> list[str]:
    return [job.name for job in jobs]


def test_a_job_is_told_of_with_what_a_simulation_needs(add: Add, provider: SqlProvider) -> None:
    add(3, name="job", took=timedelta(seconds=90))
    assert list(FinishedJobs(provider, [""])) == [
        FinishedJob(
            "",
            START + 3 * MINUTE,
            "job",
            timedelta(seconds=90),
            {"ISA": ["x86-64"], "Pool": ["a", "b"]},
            "label",
            7,
            5,
        )
    ]


def test_only_what_is_finished_is_told_and_only_of_these_instances(add: Add, provider: SqlProvider) -> None:
    add(1, name="runs", finished=False)
    add(2, name="ours")
    add(3, name="theirs", instance="other")
    add(4, name="unasked", instance="unasked")
    assert names(list(FinishedJobs(provider, ["", "other", "empty"]))) == ["ours", "theirs"]
    assert list(FinishedJobs(provider, [])) == []


def test_a_job_that_no_bot_had_has_no_duration_and_no_clock_makes_one_negative(
    add: Add, provider: SqlProvider
) -> None:
    add(1, took=None, name="cached")
    add(2, took=timedelta(seconds=-3), name="of two clocks")
    assert [job.duration for job in FinishedJobs(provider, [""])] == [None, timedelta(0)]


def test_a_start_is_within_and_an_end_is_not(add: Add, provider: SqlProvider) -> None:
    add(0, jobs=5)
    within = FinishedJobs(provider, [""], START + MINUTE, START + 3 * MINUTE)
    assert names(list(within)) == ["job-000001", "job-000002"]
    assert len(list(FinishedJobs(provider, [""], START + 3 * MINUTE))) == 2
    assert len(list(FinishedJobs(provider, [""], end=START + 3 * MINUTE))) == 3
    assert list(FinishedJobs(provider, [""], START, START)) == []
    with pytest.raises(InvalidArgument, match=r"start_time 2026-01-01T00:01:00.* is after end_time"):
        FinishedJobs(provider, [""], START + MINUTE, START)


@pytest.mark.parametrize("step", [MINUTE, timedelta(0)], ids=["one after the other", "all at once"])
def test_pages_are_bounded_and_leave_none_out(add: Add, provider: SqlProvider, step: timedelta) -> None:
    add(0, jobs=105, step=step)
    jobs = FinishedJobs(provider, [""], page=25)
    sizes, found = [], []
    while page := jobs.page():
        sizes.append(len(page))
        found += page
    assert sizes == [25, 25, 25, 25, 5]
    assert names(found) == [f"job-{number:06}" for number in range(105)]
    assert jobs.page() == []


def test_instances_are_merged_by_time(add: Add, provider: SqlProvider) -> None:
    add(100, name="last", instance="a")
    for minute in range(60):
        add(minute, name=f"b {minute}", instance="b")
    add(30.5, name="between", instance="c")
    expected = [*(f"b {m}" for m in range(31)), "between", *(f"b {m}" for m in range(31, 60)), "last"]
    found = list(FinishedJobs(provider, ["a", "b", "c"], page=7))
    assert names(found) == expected


def test_between_pages_no_transaction_is_open(add: Add, provider: SqlProvider) -> None:
    add(0, jobs=60)
    jobs = FinishedJobs(provider, [""], page=25)
    first = jobs.page()
    with provider.session() as session:  # would wait for a reader
        session.execute(text("SET LOCAL lock_timeout = '5s'"))
        session.execute(text("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE"))
        session.execute(text("DELETE FROM jobs WHERE name = :name"), {"name": first[-1].name})
    assert len(jobs.page()) == 25, "it goes on after a job that was pruned"


def test_while_the_database_is_away_the_same_page_can_be_asked_for_again(
    add: Add, provider: SqlProvider
) -> None:
    add(0, jobs=60)
    jobs = FinishedJobs(provider, [""], page=25)
    jobs.page()
    with provider.session() as session:
        session.execute(text("ALTER TABLE jobs RENAME TO elsewhere"))
    with pytest.raises(Unavailable, match="try again"):
        jobs.page()
    with provider.session() as session:
        session.execute(text("ALTER TABLE elsewhere RENAME TO jobs"))
    assert names(jobs.page())[0] == "job-000025"


def test_a_page_that_takes_too_long_is_given_up(
    add: Add, provider: SqlProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(0)
    monkeypatch.setattr(finished_jobs, "STATEMENT_TIMEOUT", "50ms")
    with provider.session() as session:
        session.execute(text("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(DeadlineExceeded, match="longer than 50ms"):
            FinishedJobs(provider, [""]).page()


def test_a_page_in_the_middle_reads_little_of_the_history(add: Add, provider: SqlProvider) -> None:
    add(0, jobs=20_000, step=timedelta(seconds=1))
    values = {
        "instance": "",
        "start": START,
        "end": None,
        "after": START + timedelta(seconds=15_000),
        "name": "job-015000",
        "limit": 100,
    }
    with provider.session() as session:
        session.execute(text("ANALYZE jobs"))
        explained = finished_jobs._READ.text.lstrip()
        plan = session.execute(
            text(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {explained}").bindparams(
                *finished_jobs._READ._bindparams.values()
            ),
            values,
        ).scalar_one()[0]["Plan"]
    assert plan["Plans"][0]["Index Name"] == "ix_jobs_queued_at"
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 100
