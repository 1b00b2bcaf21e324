"""What happened to a job, as it is told to people."""

import pytest
from buildgrid_scheduler.core.attempts import AttemptLimits
from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.core.errors import NotFound, Unavailable
from buildgrid_scheduler.engine.history import JobHistories
from buildgrid_scheduler.store.provider import SqlProvider

from tests.integration.engine.conftest import StartReplica
from tests.integration.engine.replica import (
    ACTIVE,
    CANCELLED,
    Replica,
    Report,
    failure,
    result,
    success,
)


def told(provider: SqlProvider, name: str, instance: str = "") -> list[str]:
    """The history, in words; it goes forward in time."""
    events = JobHistories(provider).load(instance, name).events
    assert [event.at for event in events] == sorted(event.at for event in events)
    return [event.text for event in events]


def test_a_life_without_troubles(replica: Replica, provider: SqlProvider) -> None:
    job = replica.enqueue("action").job_name
    assert told(provider, job) == ["queued"]
    session = replica.open()
    replica.take(session)
    assert told(provider, job) == ["queued", "assigned to bot bot"]
    replica.sync(session, reports={job: Report(ACTIVE)})
    assert told(provider, job) == ["queued", "assigned to bot bot", "started on bot bot"]
    replica.sync(session, reports={job: success()})
    assert told(provider, job) == [
        "queued",
        "assigned to bot bot",
        "started on bot bot",
        "completed as OK",
    ]


def test_a_job_is_found_by_its_operations_too_and_only_in_its_instance(
    replica: Replica, provider: SqlProvider
) -> None:
    first, second = (replica.enqueue("action", instance="mine") for _ in range(2))
    histories = JobHistories(provider)
    for name in (first.job_name, first.operation_name, second.operation_name):
        assert histories.load("mine", name).job_name == first.job_name
        with pytest.raises(NotFound):
            histories.load("theirs", name)
    for name in ("", "unknown", "a NUL \0"):
        with pytest.raises(NotFound, match="neither"):
            histories.load("mine", name)


def test_every_attempt_is_told_with_what_came_of_it(
    start_replica: StartReplica, provider: SqlProvider
) -> None:
    replica = start_replica(limits=AttemptLimits(max_job_attempts=3))
    job = replica.enqueue("action").job_name
    failing = replica.open("failing")
    replica.take(failing, "failing")
    replica.sync(failing, "failing", reports={job: Report(ACTIVE)})
    replica.sync(failing, "failing", reports={job: failure(message="no \0 network")}, offer=None)
    ending = replica.open("ending")
    replica.take(ending, "ending")
    replica.sync(ending, "ending", status=BotStatus.BOT_TERMINATING)
    for bot in ("vanishing", "last"):
        session = replica.open(bot)
        replica.take(session, bot)
        replica.sync(session, bot, reports={job: Report(ACTIVE)})
        replica.close(session)
    assert told(provider, job) == [
        "queued",
        "assigned to bot failing",
        "started on bot failing",
        "retried (try 2): bot failing reported UNAVAILABLE: no \ufffd network",
        "assigned to bot ending",
        "retried (try 2, which does not count as a try): bot ending ended before it started the action",
        "assigned to bot vanishing",
        "started on bot vanishing",
        "retried (try 3): bot vanishing vanished: the node is gone",
        "assigned to bot last",
        "started on bot last",
        "completed as UNAVAILABLE: gave up after 3 lost attempts; "
        "the last: bot last vanished: the node is gone",
    ]


@pytest.mark.parametrize("how", ["waiting", "running", "stopped", "bot gone"])
def test_a_cancelled_job_tells_who_had_it(replica: Replica, provider: SqlProvider, how: str) -> None:
    enqueued = replica.enqueue("action")
    session = replica.open()
    if how != "waiting":
        job = replica.take(session)
        replica.sync(session, reports={job: Report(ACTIVE)})
    replica.cancel(enqueued.operation_name)
    if how == "stopped":
        replica.sync(session, reports={enqueued.job_name: Report(CANCELLED)})
    elif how == "bot gone":
        replica.close(session)
    ran = [] if how == "waiting" else ["assigned to bot bot", "started on bot bot"]
    assert told(provider, enqueued.job_name) == ["queued", *ran, "cancelled"]


def test_a_claim_that_was_undone_is_not_told(replica: Replica, provider: SqlProvider) -> None:
    job = replica.enqueue("action").job_name
    session = replica.open()
    item = replica.submitted_sync(session)
    result(item)
    replica.call(replica.engine.sessions.hand_back(session, [job], item.call_id))
    assert told(provider, job) == ["queued"]


def test_a_job_from_the_cache_was_never_assigned(replica: Replica, provider: SqlProvider) -> None:
    job = replica.enqueue("action", response=b"").job_name
    assert told(provider, job) == ["queued", "completed as OK"]


def test_a_history_can_not_be_read_while_the_database_is_away() -> None:
    nowhere = SqlProvider("postgresql://nobody@/none?host=/nonexistent")
    with pytest.raises(Unavailable, match="try again"):
        JobHistories(nowhere).load("", "job")
    nowhere.close()
