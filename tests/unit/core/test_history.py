"""What happened to a job, from its rows."""

import json
from datetime import UTC, datetime, timedelta

from buildgrid_scheduler.core.history import (
    LONGEST_REASON,
    Event,
    EventKind,
    JobRecord,
    LastAttempt,
    PastAttempt,
    history,
)

QUEUED = datetime(2030, 1, 1, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return QUEUED + timedelta(seconds=seconds)


VANISHED = PastAttempt("bot 1", after(1), after(2), after(3), "bot bot 1 vanished", "try")
NEVER_STARTED = PastAttempt("bot 2", after(4), None, after(5), "the bot ended", "infra")


def kinds(job: JobRecord) -> list[str]:
    return [str(event.kind) for event in history(job)]


def test_a_job_that_waits_has_been_queued_and_nothing_else() -> None:
    assert history(JobRecord("job", QUEUED)) == [Event(EventKind.QUEUED, QUEUED)]


def test_a_job_that_runs_was_assigned_and_started_by_its_bot() -> None:
    job = JobRecord("job", QUEUED, last=LastAttempt("bot 1", after(1), after(2)))
    assert history(job)[1:] == [
        Event(EventKind.ASSIGNED, after(1), "bot 1"),
        Event(EventKind.STARTED, after(2), "bot 1"),
    ]


def test_retries_are_told_with_their_reason_and_numbered_by_the_tries_that_count() -> None:
    again = PastAttempt("bot 3", after(6), after(7), after(8), "it failed", "try")
    events = history(JobRecord("job", QUEUED, [VANISHED, NEVER_STARTED, again]))
    retries = [event for event in events if event.kind is EventKind.RETRIED]
    assert [(e.bot, e.reason, e.counted, e.n_tries) for e in retries] == [
        ("bot 1", "bot bot 1 vanished", "try", 2),
        ("bot 2", "the bot ended", "infra", 2),
        ("bot 3", "it failed", "try", 3),
    ]
    assert [event.at for event in events] == sorted(event.at for event in events)


def test_a_job_that_was_done_ends_with_its_answer() -> None:
    job = JobRecord(
        "job", QUEUED, [VANISHED], LastAttempt("bot 4", after(6), after(7)), completed_at=after(9)
    )
    assert kinds(job) == ["queued", "assigned", "started", "retried", "assigned", "started", "completed"]
    assert history(job)[-1] == Event(EventKind.COMPLETED, after(9), "bot 4", status="OK")


def test_a_failure_a_cancellation_and_a_timeout_are_told_apart() -> None:
    failed = JobRecord("job", QUEUED, completed_at=after(1), status_code=9, message="an input is missing")
    assert history(failed)[-1].text == "completed as FAILED_PRECONDITION: an input is missing"
    cancelled = JobRecord("job", QUEUED, completed_at=after(1), status_code=1, cancelled=True)
    assert kinds(cancelled) == ["queued", "cancelled"]
    late = JobRecord("job", QUEUED, completed_at=after(1), status_code=4, message="it ran for too long")
    assert history(late)[-1].text == "timed out: it ran for too long"


def test_events_read_as_sentences() -> None:
    job = JobRecord(
        "job", QUEUED, [VANISHED, NEVER_STARTED], LastAttempt("bot 4", after(6), after(7)), after(9)
    )
    assert [event.text for event in history(job)] == [
        "queued",
        "assigned to bot bot 1",
        "started on bot bot 1",
        "retried (try 2): bot bot 1 vanished",
        "assigned to bot bot 2",
        "retried (try 2, which does not count as a try): the bot ended",
        "assigned to bot bot 4",
        "started on bot bot 4",
        "completed as OK",
    ]


def test_an_attempt_survives_being_kept() -> None:
    for attempt in (VANISHED, NEVER_STARTED):
        assert PastAttempt.from_json(json.loads(json.dumps(attempt.to_json()))) == attempt


def test_what_a_bot_says_is_kept_so_that_the_database_can_and_not_at_any_length() -> None:
    said = PastAttempt("a\0bot", None, None, after(1), "no\0" + "x" * 5000, "try").to_json()
    assert "\0" not in json.loads(json.dumps(said))["bot"] + said["reason"]
    assert len(said["reason"]) == LONGEST_REASON


def test_a_status_that_has_no_name_is_told_by_its_number() -> None:
    job = JobRecord("job", QUEUED, completed_at=after(1), status_code=99)
    assert history(job)[-1].status == "status 99"
