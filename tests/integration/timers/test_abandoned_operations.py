"""What nobody follows any more is cancelled; what somebody follows, anywhere, is not, whoever comes first."""

from datetime import timedelta

import pytest
from buildgrid_scheduler.core.errors import Cancelled
from buildgrid_scheduler.core.job_state import Stage
from buildgrid_scheduler.engine.abandoned import Look, cancel_abandoned, note_followed
from buildgrid_scheduler.engine.items import Call
from buildgrid_scheduler.engine.operations import attach
from buildgrid_scheduler.notifier.delivery import Ticket
from buildgrid_scheduler.store.provider import SqlProvider
from google.rpc import code_pb2

from tests.integration.engine.faults import every_first_try_fails
from tests.integration.engine.replica import (
    ACTIVE,
    CANCELLED,
    Replica,
    Report,
    counts,
    digest_of,
    enqueue,
    result,
    success,
)
from tests.integration.timers.jobs import (
    Transaction,
    held,
    held_open,
    interrupted,
    left_alone,
    one,
    wait_for_a_lock,
)

TIMEOUT = timedelta(seconds=300)
MOMENT = timedelta(seconds=1)


def abandoned(*, after: str = "", page: int = 100, at_once: int = 100) -> Transaction[Look]:
    return cancel_abandoned(TIMEOUT, after=after, page=page, at_once=at_once)


def code_of(replica: Replica, operation: str) -> int:
    """The google.rpc code of a finished operation."""
    answer = replica.response(operation)
    assert answer is not None, "it is not done"
    code: int = answer.status.code
    return code


async def test_an_operation_that_nobody_follows_is_cancelled_with_its_job_after_the_timeout(
    replica: Replica, provider: SqlProvider
) -> None:
    left = left_alone(replica, "action", instance="team/main")
    replica.clock.advance(TIMEOUT - MOMENT)
    assert replica.call(abandoned()).cancelled == 0
    assert replica.stage(left.operation_name) is Stage.QUEUED
    replica.clock.advance(MOMENT * 2)
    assert replica.call(abandoned()) == Look(1, None)
    assert code_of(replica, left.operation_name) == code_pb2.CANCELLED
    assert one(provider, "SELECT cancelled AND completed_at IS NOT NULL FROM jobs")
    assert counts(provider, "queue") == counts(provider, "in_flight") == 0
    assert replica.call(abandoned()) == Look(0, None)


async def test_one_that_is_noted_as_followed_lives_for_another_timeout(
    replica: Replica, other: Replica
) -> None:
    left = left_alone(replica, "action")
    replica.clock.advance(TIMEOUT - MOMENT)
    other.call(note_followed([left.operation_name, "unknown"]))
    replica.clock.advance(TIMEOUT - MOMENT)
    assert replica.call(abandoned()).cancelled == 0
    replica.clock.advance(MOMENT * 2)
    assert replica.call(abandoned()).cancelled == 1


async def test_an_operation_that_was_made_without_being_followed_is_nobodys_to_cancel(
    replica: Replica,
) -> None:
    mine = replica.enqueue("action").operation_name
    replica.call(note_followed([mine]))
    replica.clock.advance(TIMEOUT * 100)
    assert replica.call(abandoned()).cancelled == 0
    assert replica.stage(mine) is Stage.QUEUED


async def test_a_job_that_others_want_goes_on_without_the_operation(
    replica: Replica, other: Replica, provider: SqlProvider
) -> None:
    left = left_alone(replica, "action")
    wanted = other.enqueue("action")
    assert wanted.shared
    replica.clock.advance(TIMEOUT * 2)
    assert replica.call(abandoned()).cancelled == 1
    assert code_of(other, left.operation_name) == code_pb2.CANCELLED
    assert other.stage(wanted.operation_name) is Stage.QUEUED
    session = other.open()
    job = other.take(session)
    other.sync(session, reports={job: success()}, offer=None)
    assert code_of(replica, wanted.operation_name) == code_pb2.OK
    assert code_of(replica, left.operation_name) == code_pb2.CANCELLED


async def test_all_operations_of_a_job_may_be_abandoned_at_once(replica: Replica) -> None:
    operations = [left_alone(replica, "action").operation_name for _ in range(3)]
    replica.clock.advance(TIMEOUT * 2)
    assert replica.call(abandoned()).cancelled == 3
    assert [code_of(replica, o) for o in operations] == [code_pb2.CANCELLED] * 3


async def test_the_bot_is_told_to_stop(replica: Replica, provider: SqlProvider) -> None:
    left = left_alone(replica, "action")
    session = replica.open(capacity=2)
    job = replica.take(session)
    reports = {job: Report(ACTIVE)}
    replica.sync(session, reports=reports)
    call = replica.submitted_sync(session, reports=reports, hold=True)
    replica.settle()
    assert not call.ticket.future.done()
    replica.clock.advance(TIMEOUT * 2)
    assert replica.call(abandoned()).cancelled == 1
    assert [(t.job_name, t.state) for t in result(call).leases] == [(left.job_name, CANCELLED)]
    assert replica.call(abandoned()).cancelled == 0
    replica.sync(session, reports={job: success()}, offer=None)
    assert code_of(replica, left.operation_name) == code_pb2.CANCELLED
    assert counts(provider, "leases") == 0


async def test_what_is_done_is_left_as_it_is(replica: Replica) -> None:
    left = left_alone(replica, "action")
    session = replica.open()
    replica.sync(session, reports={replica.take(session): success()}, offer=None)
    replica.clock.advance(TIMEOUT * 2)
    assert replica.call(abandoned()).cancelled == 0
    assert code_of(replica, left.operation_name) == code_pb2.OK


async def test_a_round_looks_at_a_page_and_takes_so_many_at_once(
    replica: Replica, provider: SqlProvider
) -> None:
    for number in range(7):
        left_alone(replica, f"left {number}")
        replica.enqueue(f"wanted {number}")
    session = replica.open(capacity=5)
    replica.look()
    assert len(replica.sync(session).leases) == 5  # some wait, some are leased
    replica.clock.advance(TIMEOUT * 2)
    looks, after = [], ""
    while True:
        look = replica.call(abandoned(after=after, page=4, at_once=2))
        looks.append(look)
        if look.after is None:
            break
        assert look.after > after
        after = look.after
    assert sum(look.cancelled for look in looks) == 7
    assert max(look.cancelled for look in looks) <= 2
    assert len(looks) >= 4
    assert one(provider, "SELECT count(*) FROM jobs WHERE completed_at IS NULL") == 7


async def test_another_replica_neither_waits_for_what_this_one_holds_nor_does_it_again(
    replica: Replica, other: Replica, provider: SqlProvider
) -> None:
    for number in range(5):
        left_alone(replica, f"action {number}")
    replica.clock.advance(TIMEOUT * 2)
    with held_open(provider, abandoned(at_once=2), replica.clock()) as mine:
        assert mine.cancelled == 2
        assert other.call(abandoned()).cancelled == 3
    assert other.call(abandoned()).cancelled == 0
    assert one(provider, "SELECT count(*) FROM jobs WHERE cancelled") == 5


@pytest.mark.parametrize("committed", [False, True], ids=["rolled back", "commit unheard"])
async def test_it_may_be_run_twice(
    replica: Replica, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    left = left_alone(replica, "action")
    replica.clock.advance(TIMEOUT * 2)
    with every_first_try_fails(monkeypatch, committed=committed):
        assert replica.call(abandoned()).cancelled == (0 if committed else 1)
    assert code_of(replica, left.operation_name) == code_pb2.CANCELLED


# --- a client comes back while its operation is about to be cancelled


async def test_who_comes_back_before_the_operation_is_cancelled_keeps_it(
    replica: Replica, other: Replica
) -> None:
    left = left_alone(replica, "action")
    replica.clock.advance(TIMEOUT * 2)
    acts = {"UPDATE operations SET cancelled": lambda: other.call(note_followed([left.operation_name]))}
    assert replica.call(interrupted(abandoned(), acts)).cancelled == 0
    assert other.stage(left.operation_name) is Stage.QUEUED
    session = other.open()
    other.sync(session, reports={other.take(session): success()}, offer=None)
    assert code_of(other, left.operation_name) == code_pb2.OK


async def test_who_comes_back_when_it_was_cancelled_finds_it_cancelled_and_not_half(
    replica: Replica, other: Replica, provider: SqlProvider
) -> None:
    left = left_alone(replica, "action")
    replica.clock.advance(TIMEOUT * 2)
    comes_back: Call[None] = Call(Ticket(), note_followed([left.operation_name]))

    def come_back() -> None:
        other.submit(comes_back)
        wait_for_a_lock(provider)  # for the operation
        assert other.stage(left.operation_name) is Stage.QUEUED, "nothing is committed yet"

    assert replica.call(interrupted(abandoned(), {"SELECT t.job FROM": come_back})).cancelled == 1
    result(comes_back)
    loaded = other.load(left.operation_name)
    assert loaded.cancelled
    assert loaded.state.stage is Stage.COMPLETED
    assert code_of(other, left.operation_name) == code_pb2.CANCELLED
    assert one(provider, "SELECT watched_at = created_at FROM operations"), "it was not noted"


async def test_while_somebody_notes_that_it_is_followed_it_is_left_alone(
    replica: Replica, provider: SqlProvider
) -> None:
    left = left_alone(replica, "action")
    replica.clock.advance(TIMEOUT * 2)
    with held_open(provider, note_followed([left.operation_name]), replica.clock()):
        assert replica.call(abandoned()).cancelled == 0
    assert replica.call(abandoned()).cancelled == 0
    assert replica.stage(left.operation_name) is Stage.QUEUED


# --- somebody else wants the job that is about to be cancelled


async def test_who_asks_for_the_action_meanwhile_gets_a_job_that_is_not_cancelled(
    replica: Replica, other: Replica, provider: SqlProvider
) -> None:
    left = left_alone(replica, "action")
    replica.clock.advance(TIMEOUT * 2)
    asked = enqueue("action")

    def ask() -> None:
        other.submit(asked)
        wait_for_a_lock(provider)  # for the row in in_flight

    assert replica.call(interrupted(abandoned(), {"UPDATE operations SET cancelled": ask})).cancelled == 1
    mine = result(asked)
    assert mine.job_name != left.job_name
    assert other.stage(mine.operation_name) is Stage.QUEUED


async def test_a_job_that_somebody_is_about_to_share_is_left_for_later(
    replica: Replica, provider: SqlProvider
) -> None:
    left = left_alone(replica, "action")
    replica.clock.advance(TIMEOUT * 2)
    digest = digest_of("action")
    with held(provider, "SELECT 1 FROM in_flight WHERE action_digest = %s FOR UPDATE", (digest,)):
        assert replica.call(abandoned()).cancelled == 0
    assert replica.stage(left.operation_name) is Stage.QUEUED
    assert replica.call(abandoned()).cancelled == 1


@pytest.mark.parametrize("table", ["queue", "jobs", "operations"])
async def test_what_is_held_by_somebody_is_left_for_later(
    replica: Replica, provider: SqlProvider, table: str
) -> None:
    left_alone(replica, "action")
    replica.clock.advance(TIMEOUT * 2)
    with held(provider, f"SELECT 1 FROM {table} FOR UPDATE", ()):  # noqa: S608 - names of tables
        assert replica.call(abandoned()).cancelled == 0
    assert replica.call(abandoned()).cancelled == 1


async def test_who_attaches_an_operation_meanwhile_hears_that_the_job_was_cancelled(
    replica: Replica, other: Replica, provider: SqlProvider
) -> None:
    left = left_alone(replica, "action")
    replica.clock.advance(TIMEOUT * 2)
    attached: Call[None] = Call(Ticket(), attach("", "late", left.job_name))

    def attach_late() -> None:
        other.submit(attached)
        wait_for_a_lock(provider)  # for the job

    assert replica.call(interrupted(abandoned(), {"SELECT t.job FROM": attach_late})).cancelled == 1
    with pytest.raises(Cancelled):
        result(attached)
