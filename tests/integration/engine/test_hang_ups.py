"""Bots whose calls break off: their sessions end soon, unless they call again."""

import asyncio
import time
from datetime import datetime, timedelta
from typing import Any

import pytest
from buildgrid_scheduler.core.job_state import Stage
from buildgrid_scheduler.engine.hang_ups import GRACE, SETTLED, HangUp, doubt
from buildgrid_scheduler.engine.items import Call, Synchronize, Synchronized
from buildgrid_scheduler.engine.timed_rounds import TimedRounds
from buildgrid_scheduler.notifier.delivery import Ticket
from buildgrid_scheduler.store.provider import SqlProvider
from buildgrid_scheduler.timers.options import TimerSettings

from tests.integration.engine.faults import WRITER, stopped_after_commit
from tests.integration.engine.races import Meeting, Races, Side
from tests.integration.engine.replica import (
    ACTIVE,
    CANCELLED,
    KEEPALIVE,
    Replica,
    Report,
    result,
    success,
    synchronize,
)

MOMENT = timedelta(seconds=1)


def call_of(replica: Replica, session: str, **options: Any) -> Synchronize:
    """A call for a coroutine to wait in."""
    item = synchronize(session, **options)
    item.ticket = replica.engine.ticket()
    return item


async def held(replica: Replica, item: Synchronize) -> "asyncio.Task[Synchronized]":
    """The call, which is held now."""
    before = replica.engine.waiting.held
    task = asyncio.create_task(replica.engine.synchronize(item, hold=300))
    await asyncio.sleep(0)
    replica.settle()
    assert replica.engine.waiting.held == before + 1
    return task


async def breaks_off(task: "asyncio.Task[Synchronized]") -> None:
    """The connection of a call is gone."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def hung_up(replica: Replica, session: str, **options: Any) -> Synchronize:
    """A call that was held until it broke off."""
    item = call_of(replica, session, **options)
    await breaks_off(await held(replica, item))
    return item


def a_round_of_the_timers(replica: Replica) -> int:
    """Returns how many sessions it closed."""
    rounds = TimedRounds(replica.engine, replica.engine.following, TimerSettings())
    return sum(rounds.expired_sessions())


def expiry(provider: SqlProvider, session: str) -> datetime:
    with provider.connect() as connection:
        row = connection.execute("SELECT expires_at FROM bots WHERE name = %s", (session,)).fetchone()
    assert row is not None
    found: datetime = row[0]
    return found


async def test_the_job_of_a_bot_that_died_while_its_call_was_held_waits_again_after_the_grace(
    replica: Replica,
) -> None:
    operation = replica.enqueue("action").operation_name
    session = replica.open()
    job = replica.take(session)
    await hung_up(replica, session, reports={job: Report(ACTIVE)}, hold_full=True)
    replica.clock.advance(SETTLED)
    assert a_round_of_the_timers(replica) == 0
    replica.clock.advance(GRACE - SETTLED - MOMENT)
    assert a_round_of_the_timers(replica) == 0, "it may still come back"
    replica.clock.advance(2 * MOMENT)
    assert a_round_of_the_timers(replica) == 1
    assert replica.stage(operation) is Stage.QUEUED


async def test_a_bot_that_calls_again_within_moments_is_not_looked_at(
    replica: Replica, provider: SqlProvider
) -> None:
    session = replica.open()
    await hung_up(replica, session)
    replica.sync(session)
    replica.clock.advance(SETTLED)
    assert replica.engine.hang_ups.settled() == []
    assert expiry(provider, session) > replica.clock() + KEEPALIVE - SETTLED - MOMENT


async def test_a_bot_that_comes_back_within_the_grace_is_believed_as_ever(
    replica: Replica, provider: SqlProvider
) -> None:
    session = replica.open()
    await hung_up(replica, session)
    replica.clock.advance(SETTLED)
    a_round_of_the_timers(replica)
    assert expiry(provider, session) < replica.clock() + GRACE
    replica.sync(session)
    assert expiry(provider, session) > replica.clock() + KEEPALIVE - MOMENT


async def test_a_bot_that_calls_another_replica_is_not_doubted(
    replica: Replica, other: Replica, provider: SqlProvider
) -> None:
    session = replica.open()
    await hung_up(replica, session)
    other.sync(session)
    replica.clock.advance(SETTLED)
    a_round_of_the_timers(replica)
    assert expiry(provider, session) > replica.clock() + KEEPALIVE - SETTLED - MOMENT


async def test_a_bot_that_works_and_polls_between_is_not_doubted(
    replica: Replica, provider: SqlProvider
) -> None:
    replica.enqueue("action")
    session = replica.open()
    job = replica.take(session)
    replica.sync(session, reports={job: Report(ACTIVE)})  # is answered: nothing can break off
    replica.clock.advance(GRACE)
    assert a_round_of_the_timers(replica) == 0
    assert expiry(provider, session) > replica.clock() + KEEPALIVE - GRACE - MOMENT


async def test_a_caller_whose_own_deadline_is_over_is_not_doubted(
    replica: Replica, provider: SqlProvider
) -> None:
    session = replica.open()
    item = call_of(replica, session)
    item.patient_until = time.monotonic()
    await breaks_off(await held(replica, item))
    replica.clock.advance(SETTLED)
    assert replica.engine.hang_ups.settled() == []


async def test_a_call_that_breaks_off_before_it_is_held_counts_too(
    replica: Replica, provider: SqlProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = replica.open()
    with stopped_after_commit(monkeypatch, WRITER) as gate:
        task = asyncio.create_task(replica.engine.synchronize(call_of(replica, session), hold=300))
        await asyncio.sleep(0)
        gate.wait_until_reached()
        await breaks_off(task)
    replica.settle()
    await asyncio.sleep(0)
    replica.clock.advance(SETTLED)
    a_round_of_the_timers(replica)
    assert expiry(provider, session) < replica.clock() + GRACE


async def test_a_call_that_breaks_off_before_it_was_told_its_job_counts_too(
    replica: Replica, provider: SqlProvider
) -> None:
    session = replica.open()
    task = await held(replica, call_of(replica, session))
    operation = replica.enqueue("action").operation_name
    await breaks_off(task)
    await asyncio.sleep(0)
    replica.settle()
    assert replica.stage(operation) is Stage.QUEUED
    replica.clock.advance(SETTLED)
    a_round_of_the_timers(replica)
    assert expiry(provider, session) < replica.clock() + GRACE


async def test_a_call_that_opens_a_session_and_breaks_off_leaves_none_for_long(
    replica: Replica, provider: SqlProvider
) -> None:
    session = replica.open()
    replica.engine.held.never_named(session)
    replica.clock.advance(SETTLED)
    a_round_of_the_timers(replica)
    assert expiry(provider, session) < replica.clock() + GRACE


async def test_what_a_replica_breaks_off_as_it_stops_says_nothing_of_the_bots(
    replica: Replica, provider: SqlProvider
) -> None:
    early, late = replica.open("early"), replica.open("late")
    await hung_up(replica, early, bot_id="early")
    task = await held(replica, call_of(replica, late, bot_id="late"))
    replica.engine.send_elsewhere()
    task.cancel()
    await asyncio.wait([task])
    replica.engine.held.never_named(late)
    replica.clock.advance(SETTLED)
    assert replica.engine.hang_ups.settled() == []


def test_a_session_is_doubted_for_its_latest_call_only_and_never_believed_for_longer(
    replica: Replica, provider: SqlProvider
) -> None:
    session = replica.open()
    item = synchronize(session)
    replica.submit(item)
    result(item)
    before = expiry(provider, session)
    now = replica.clock()
    assert replica.call(doubt([HangUp(session, "another call", now)])) == 0
    assert expiry(provider, session) == before
    assert replica.call(doubt([HangUp(session, item.call_id, now + 2 * KEEPALIVE)])) == 1
    assert expiry(provider, session) == before
    assert replica.call(doubt([HangUp(session, item.call_id, now)])) == 1
    assert expiry(provider, session) == now + GRACE


def test_a_newer_call_that_meets_the_doubt_is_believed(
    replica: Replica, other: Replica, provider: SqlProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of the two comes first, and wherever the other waits for it."""

    def scene(instance: str) -> Meeting:
        session = replica.open(instance=instance)
        old = synchronize(session, instance=instance)
        replica.submit(old)
        result(old)
        broken = HangUp(session, old.call_id, replica.clock())
        doubting = Side(other, Call(Ticket(), doubt([broken])))
        calling = Side(replica, synchronize(session, instance=instance))

        def check() -> None:
            assert expiry(provider, session) > replica.clock() + KEEPALIVE - MOMENT

        return Meeting(doubting, calling, check)

    Races(monkeypatch, provider).in_every_order(scene, least=2)


# --- bots that are answered, and should call again soon


async def given_a_job(replica: Replica, session: str, *, hold_full: bool = True) -> tuple[str, str]:
    """A call is answered with a job, and the bot says nothing since; returns the call, and the job."""
    replica.enqueue("action")
    item = call_of(replica, session, hold_full=hold_full)
    task = asyncio.create_task(replica.engine.synchronize(item, hold=300))
    (told,) = (await asyncio.wait_for(task, 30)).leases
    return item.call_id, told.job_name


async def test_the_job_of_a_bot_that_died_before_its_first_call_for_it_waits_again_after_the_grace(
    replica: Replica, provider: SqlProvider
) -> None:
    session = replica.open()
    await given_a_job(replica, session)
    assert expiry(provider, session) > replica.clock() + KEEPALIVE - MOMENT
    replica.clock.advance(SETTLED)
    assert a_round_of_the_timers(replica) == 0
    replica.clock.advance(GRACE - SETTLED - MOMENT)
    assert a_round_of_the_timers(replica) == 0, "it may still call"
    replica.clock.advance(2 * MOMENT)
    assert a_round_of_the_timers(replica) == 1


async def test_a_bot_that_calls_for_its_job_within_the_grace_keeps_it(
    replica: Replica, provider: SqlProvider
) -> None:
    """As one whose network was away for a while; or whose first answer was lost, and that has no job yet."""
    session = replica.open()
    await given_a_job(replica, session)
    replica.clock.advance(SETTLED)
    a_round_of_the_timers(replica)
    assert expiry(provider, session) < replica.clock() + GRACE
    replica.clock.advance(GRACE - SETTLED - MOMENT)
    assert a_round_of_the_timers(replica) == 0
    (told,) = replica.sync(session).leases  # as if it had not heard of it: told once more
    replica.sync(session, reports={told.job_name: Report(ACTIVE)})
    assert expiry(provider, session) > replica.clock() + KEEPALIVE - MOMENT
    replica.clock.advance(GRACE)
    assert a_round_of_the_timers(replica) == 0


async def test_a_bot_that_calls_soon_after_the_answer_is_not_looked_at(replica: Replica) -> None:
    session = replica.open()
    _, job = await given_a_job(replica, session)
    replica.sync(session, reports={job: Report(ACTIVE)})
    replica.clock.advance(SETTLED)
    assert replica.engine.hang_ups.settled() == []


async def test_a_bot_that_does_not_promise_to_call_soon_is_believed(
    replica: Replica, provider: SqlProvider
) -> None:
    session = replica.open()
    await given_a_job(replica, session, hold_full=False)
    replica.clock.advance(SETTLED)
    assert replica.engine.hang_ups.settled() == []


async def test_an_answer_without_leases_needs_no_call_soon(replica: Replica) -> None:
    session = replica.open()
    item = call_of(replica, session, hold_full=True)
    assert (await replica.engine.synchronize(item, hold=0.01)).leases == ()
    replica.clock.advance(SETTLED)
    assert replica.engine.hang_ups.settled() == []


async def test_an_answer_that_arrives_after_the_next_call_did_shortens_nothing(
    replica: Replica, provider: SqlProvider
) -> None:
    """The bot gave that call up, and has called again; the answer is noted last."""
    session = replica.open()
    old, job = await given_a_job(replica, session)
    replica.sync(session, reports={job: Report(ACTIVE)})
    replica.engine.hang_ups.note(session, old)
    replica.clock.advance(SETTLED)
    a_round_of_the_timers(replica)
    assert expiry(provider, session) > replica.clock() + KEEPALIVE - SETTLED - MOMENT


async def test_what_a_replica_that_stops_has_answered_shortens_nothing(replica: Replica) -> None:
    early, late = replica.open("early"), replica.open("late")
    item = call_of(replica, early, bot_id="early", hold_full=True)
    replica.enqueue("first")
    assert (await replica.engine.synchronize(item, hold=300)).leases
    replica.engine.send_elsewhere()
    replica.enqueue("second")
    item = call_of(replica, late, bot_id="late", hold_full=True)
    assert (await replica.engine.synchronize(item, hold=300)).leases
    replica.clock.advance(SETTLED)
    assert replica.engine.hang_ups.settled() == []


# --- bots that work and say that their calls may be held


async def test_a_bot_without_a_free_slot_is_held_if_it_says_so_and_told_at_once_to_stop(
    replica: Replica,
) -> None:
    operation = replica.enqueue("action").operation_name
    session = replica.open()
    job = replica.take(session)
    item = call_of(replica, session, reports={job: Report(ACTIVE)}, hold_full=True)
    task = await held(replica, item)
    replica.cancel(operation)
    answer = await asyncio.wait_for(task, 30)
    assert [tell.state for tell in answer.leases] == [CANCELLED]


def test_a_full_bot_that_does_not_say_so_is_answered_at_once(replica: Replica) -> None:
    replica.enqueue("action")
    session = replica.open()
    job = replica.take(session)
    item = replica.submitted_sync(session, reports={job: Report(ACTIVE)}, hold=True)
    assert [tell.job_name for tell in result(item).leases] == [job]


def test_an_end_that_is_reported_is_answered_at_once_though_the_bot_takes_nothing_new(
    replica: Replica,
) -> None:
    replica.enqueue("action")
    session = replica.open()
    job = replica.take(session)
    item = synchronize(session, reports={job: success()}, hold=True)
    item.hold_full, item.status = True, item.status.BOT_TERMINATING
    replica.submit(item)
    assert result(item).leases == ()
