"""Looks at bots and at what waits: pages of workers, counts by status, and job metrics."""

from datetime import UTC, datetime, timedelta

import pytest
from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.core.errors import InvalidArgument, Unavailable
from buildgrid_scheduler.engine.fleet_view import count_bots_by_status, list_workers
from buildgrid_scheduler.engine.job_metrics import JobMetrics
from buildgrid_scheduler.store.provider import SqlProvider
from buildgrid_scheduler.store.schema import BotEntry

from tests.integration.engine.replica import ACTIVE, Replica, Report, success

NOW = datetime(2030, 1, 1, tzinfo=UTC)
UNFINISHED = ("UNKNOWN", "CACHE_CHECK", "QUEUED", "EXECUTING")
NOTHING = {(stage, "unknown"): 0 for stage in UNFINISHED}


def add(provider: SqlProvider, *bots: tuple[str, str], status: int = 1, instance: str = "main") -> None:
    """Sessions, by name and bot_id."""
    with provider.session() as session:
        for name, bot_id in bots:
            session.add(
                BotEntry(
                    name=name,
                    instance_name=instance,
                    bot_id=bot_id,
                    status=status,
                    connected_at=NOW,
                    expires_at=NOW,
                )
            )


def workers(
    provider: SqlProvider, name_filter: str = "", page: int = 1, size: int = 0, instance: str = "main"
) -> tuple[list[str], int]:
    with provider.session() as session:
        found, total = list_workers(session, instance, name_filter, page, size)
    return [bot.bot_id for bot in found], total  # once the session is over: entries outlive it


# --- workers


def test_workers_are_listed_by_bot_id_in_pages_from_one(provider: SqlProvider) -> None:
    add(provider, ("s5", "b"), ("s4", "a"), ("s3", "C"), ("s2", "e-1"), ("s1", "e1"))
    assert workers(provider) == (["C", "a", "b", "e-1", "e1"], 5)
    assert workers(provider, page=1, size=2) == (["C", "a"], 5)
    assert workers(provider, page=2, size=2) == (["b", "e-1"], 5)
    assert workers(provider, page=3, size=2) == (["e1"], 5)
    assert workers(provider, page=4, size=2) == ([], 5)
    assert workers(provider, page=2, size=0) == ([], 5)
    assert workers(provider, page=2**40, size=2**40) == ([], 5)


def test_workers_are_found_by_any_part_of_session_name_or_bot_id_whatever_the_case(
    provider: SqlProvider,
) -> None:
    add(provider, ("Session-1", "linux-A"), ("session-2", "linux-b"), ("other-3", "MAC-session"))
    assert workers(provider, "SESSION") == (["MAC-session", "linux-A", "linux-b"], 3)
    assert workers(provider, "session-", size=1) == (["linux-A"], 2)
    assert workers(provider, "mac") == (["MAC-session"], 1)
    assert workers(provider, "nothing") == ([], 0)


@pytest.mark.parametrize("wild", ["%", "_", "\\", "/"])
def test_a_name_filter_has_no_wildcards(provider: SqlProvider, wild: str) -> None:
    add(provider, ("s1", "plain"), ("s2", f"a{wild}b"))
    assert workers(provider, wild) == ([f"a{wild}b"], 1)


def test_workers_of_another_instance_are_not_listed(provider: SqlProvider) -> None:
    add(provider, ("s1", "ours"))
    add(provider, ("s2", "theirs"), instance="other")
    assert workers(provider) == (["ours"], 1)
    assert workers(provider, instance="other") == (["theirs"], 1)
    assert workers(provider, instance="") == ([], 0)


@pytest.mark.parametrize(
    ("name_filter", "page", "size", "words"),
    [("", 0, 5, "page_number"), ("", 1, -1, "page_size"), ("a\0", 1, 1, "name_filter")],
)
def test_pages_and_filters_that_make_no_sense_are_refused(
    provider: SqlProvider, name_filter: str, page: int, size: int, words: str
) -> None:
    with pytest.raises(InvalidArgument, match=words):
        workers(provider, name_filter, page, size)


def test_bots_are_counted_by_status_and_each_status_is_there(provider: SqlProvider) -> None:
    add(provider, ("s1", "a"), ("s2", "b"), status=1)
    add(provider, ("s3", "c"), status=4)
    add(provider, ("s4", "d"), status=2, instance="other")
    with provider.session() as session:
        counts = count_bots_by_status(session, "main")
    assert counts == {
        BotStatus.UNSPECIFIED: 0,
        BotStatus.OK: 2,
        BotStatus.UNHEALTHY: 0,
        BotStatus.HOST_REBOOTING: 0,
        BotStatus.BOT_TERMINATING: 1,
    }
    assert list(counts) == list(BotStatus)


# --- jobs


class Time:
    """A clock that tests move."""

    now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


def test_without_jobs_every_unfinished_stage_is_there_for_the_label_unknown(provider: SqlProvider) -> None:
    assert JobMetrics(provider).publish("main") == {"jobs": NOTHING}


def test_jobs_are_counted_by_the_stage_that_clients_see_and_by_label(
    replica: Replica, provider: SqlProvider
) -> None:
    for number in range(5):
        replica.enqueue(f"a {number}", label="big")
    replica.enqueue("b", label="small")
    replica.enqueue("elsewhere", label="big", instance="other")
    session = replica.open(capacity=1)
    first = replica.take(session)
    replica.sync(session, reports={first: Report(ACTIVE)})
    replica.sync(session, reports={first: success()}, offer=None)
    second = replica.take(session)
    replica.sync(session, reports={second: Report(ACTIVE)})
    assert JobMetrics(provider).publish("") == {
        "jobs": NOTHING
        | {(stage, label): 0 for stage in UNFINISHED for label in ("big", "small")}
        | {("QUEUED", "big"): 3, ("EXECUTING", "big"): 1, ("QUEUED", "small"): 1}
    }


def test_a_cancelled_job_that_its_bot_has_yet_to_stop_is_not_counted(
    replica: Replica, provider: SqlProvider
) -> None:
    operation = replica.enqueue("a").operation_name
    session = replica.open()
    replica.take(session)
    metrics = JobMetrics(provider, interval=timedelta(0))
    assert metrics.publish("") == {"jobs": NOTHING | {("EXECUTING", "unknown"): 1}}
    replica.cancel(operation)
    assert metrics.publish("") == {"jobs": NOTHING}


def test_a_lease_that_the_bot_was_not_told_of_waits(provider: SqlProvider) -> None:
    with provider.connect(autocommit=True) as connection:
        connection.execute(
            "INSERT INTO leases (job_name, instance_name, session_name, state, requirement_hash,"
            " property_label, priority, queued_at) VALUES ('j', 'main', 's', 1, '', 'big', 0, now())"
        )
        connection.execute(
            "INSERT INTO queue (job_name, instance_name, requirement_hash, property_label, priority,"
            " queued_at) VALUES ('k', 'main', '', 'big', 0, now())"
        )
    metrics = JobMetrics(provider).publish("main")
    assert metrics is not None
    assert metrics["jobs"]["QUEUED", "big"] == 2
    assert metrics["jobs"]["EXECUTING", "big"] == 0


def test_within_the_publish_interval_there_is_nothing_new_to_publish(
    provider: SqlProvider, time: Time
) -> None:
    metrics = JobMetrics(provider, interval=timedelta(seconds=300), clock=time)
    assert metrics.publish("main") is not None
    time.now += timedelta(seconds=299)
    assert metrics.publish("main") is None
    assert metrics.publish("other") is not None, "each instance has its own interval"
    time.now += timedelta(seconds=1)
    assert metrics.publish("main") is not None
    assert metrics.publish("main") is None


def test_a_clock_that_is_set_back_does_not_silence_the_metrics(provider: SqlProvider, time: Time) -> None:
    metrics = JobMetrics(provider, clock=time)
    assert metrics.publish("main") is not None
    time.now -= timedelta(days=1)
    assert metrics.publish("main") is not None


def test_what_could_not_be_counted_is_counted_by_the_next_call(time: Time) -> None:
    away = SqlProvider("postgresql://nobody@127.0.0.1:9/nothing")
    metrics = JobMetrics(away, clock=time)
    for _ in range(2):
        with pytest.raises(Unavailable):
            metrics.publish("main")
    away.close()
