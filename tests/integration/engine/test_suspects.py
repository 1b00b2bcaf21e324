"""Suspects: what a bot with several slots took with it runs one to a bot."""

import pytest
from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.core.job_state import Stage
from buildgrid_scheduler.core.requirements import pairs, requirement_hash
from buildgrid_scheduler.core.suspects import is_suspect
from buildgrid_scheduler.engine.assigning import assign_waiting
from buildgrid_scheduler.engine.draining import drain_when_idle
from buildgrid_scheduler.engine.items import Enqueued, Synchronize
from buildgrid_scheduler.store.provider import SqlProvider

from tests.integration.engine.replica import (
    ACTIVE,
    KEEPALIVE,
    PENDING,
    Replica,
    Report,
    failure,
    result,
    success,
)


def suspects(provider: SqlProvider) -> set[str]:
    """The jobs that wait, or are leased, under a hash for suspects."""
    with provider.connect() as connection:
        rows = connection.execute(
            "SELECT job_name, requirement_hash FROM queue UNION ALL "
            "SELECT job_name, requirement_hash FROM leases"
        ).fetchall()
    return {job for job, hash_ in rows if is_suspect(hash_)}


def lost_together(replica: Replica, *words: str, bot_id: str = "victim") -> list[Enqueued]:
    """Jobs that a bot runs which then vanishes."""
    jobs = [replica.enqueue(word) for word in words]
    session = replica.open(bot_id, capacity=max(2, len(words)))
    told = asks(replica, session, bot_id)
    assert sorted(told) == sorted(job.job_name for job in jobs)
    replica.sync(session, bot_id, reports={job: Report(ACTIVE) for job in told}, offer=None)
    replica.close(session)
    return jobs


def asks(replica: Replica, session: str, bot_id: str = "bot", **options: object) -> list[str]:
    """The leases that a bot is told of when it asks for work."""
    replica.look()
    return [tell.job_name for tell in replica.sync(session, bot_id, **options).leases]


def running(*jobs: str) -> dict[str, Report]:
    return {job: Report(ACTIVE) for job in jobs}


# --- who becomes one


@pytest.mark.parametrize("how", ["closed", "expired", "opened anew"])
def test_what_ran_on_a_bot_with_several_slots_that_vanished_is_suspected(
    replica: Replica, provider: SqlProvider, how: str
) -> None:
    ran, never_started = replica.enqueue("ran").job_name, replica.enqueue("never started").job_name
    session = replica.open(capacity=2)
    asks(replica, session)
    replica.sync(session, reports={ran: Report(ACTIVE), never_started: Report(PENDING)})
    if how == "closed":
        replica.close(session)
    elif how == "expired":
        replica.clock.advance(2 * KEEPALIVE)
        assert replica.reap() == 1
    else:
        replica.open(capacity=2)
    assert suspects(provider) == {ran}


def test_what_ran_on_a_bot_with_one_slot_is_not(replica: Replica, provider: SqlProvider) -> None:
    replica.enqueue("action")
    session = replica.open()
    replica.sync(session, reports=running(replica.take(session)))
    replica.close(session)
    assert suspects(provider) == set()


def test_a_bot_that_announced_its_end_or_was_disrupted_leaves_no_suspects(
    replica: Replica, provider: SqlProvider
) -> None:
    for bot_id in ("announced", "disrupted"):
        replica.enqueue(bot_id)
        session = replica.open(bot_id, capacity=2)
        jobs = asks(replica, session, bot_id)
        status = BotStatus.BOT_TERMINATING if bot_id == "announced" else BotStatus.OK
        replica.sync(session, bot_id, reports=running(*jobs), status=status)
        if bot_id == "disrupted":
            replica.call(drain_when_idle("", [bot_id], disrupted=True))
        replica.close(session)
    assert suspects(provider) == set()


def test_a_single_lease_that_a_bot_has_lost_is_not_suspected(replica: Replica, provider: SqlProvider) -> None:
    replica.enqueue("a")
    replica.enqueue("b")
    session = replica.open(capacity=2)
    jobs = asks(replica, session)
    replica.sync(session, reports=running(*jobs))
    replica.sync(session, reports=running(jobs[0]), offer=None)
    assert suspects(provider) == set()


def test_a_suspect_stays_one_until_it_is_done(replica: Replica, provider: SqlProvider) -> None:
    (job,) = lost_together(replica, "greedy")
    single = replica.open("single")
    assert asks(replica, single, "single") == [job.job_name]
    replica.sync(single, "single", reports={job.job_name: failure()}, offer=None)
    assert suspects(provider) == {job.job_name}
    replica.sync(single, "single", offer=None)
    replica.close(single)
    several = replica.open("several", capacity=3)
    assert asks(replica, several, "several") == [job.job_name]
    replica.sync(several, "several", reports=running(job.job_name))
    replica.close(several)
    assert suspects(provider) == {job.job_name}


# --- who gets it


def test_a_bot_with_several_slots_gets_one_suspect_and_nothing_else_until_that_is_done(
    replica: Replica,
) -> None:
    jobs = {job.job_name for job in lost_together(replica, "a", "b", "c")}
    innocent = replica.enqueue("innocent").job_name
    session = replica.open(capacity=4)
    left = set(jobs)
    reports: dict[str, Report] = {}
    while left:
        (job,) = asks(replica, session, reports=reports)
        assert job in left
        assert asks(replica, session, reports=running(job)) == [job], "nothing comes to it"
        left.discard(job)
        reports = {job: success()}
    assert asks(replica, session, reports=reports) == [innocent]


def test_several_suspects_run_at_once_on_several_bots(replica: Replica) -> None:
    jobs = {job.job_name for job in lost_together(replica, "a", "b", "c")}
    got = [asks(replica, replica.open(f"bot {n}", capacity=4), f"bot {n}") for n in range(3)]
    assert sorted(job for jobs in got for job in jobs) == sorted(jobs)
    assert all(len(jobs) == 1 for jobs in got)


def test_bots_with_one_slot_take_suspects_as_they_take_anything(replica: Replica) -> None:
    (suspect,) = lost_together(replica, "greedy")
    other = replica.enqueue("innocent").job_name
    order = [asks(replica, replica.open(f"bot {n}"), f"bot {n}") for n in range(2)]
    assert order == [[suspect.job_name], [other]]


def test_bots_that_ask_in_one_batch_get_one_suspect_each_or_fill_up(replica: Replica) -> None:
    lost_together(replica, "a", "b")
    others = {replica.enqueue(f"innocent {n}").job_name for n in range(4)}
    replica.look()
    sessions = [replica.open(f"bot {n}", capacity=2) for n in range(4)]
    items = [replica.submitted_sync(s, f"bot {n}") for n, s in enumerate(sessions)]
    told = [[tell.job_name for tell in result(item).leases] for item in items]
    assert sorted(map(len, told)) == [1, 1, 2, 2]
    assert {job for jobs in told if len(jobs) == 2 for job in jobs} == others


def test_a_suspect_falls_to_a_busy_bot_where_no_other_waits_and_starts_when_the_rest_is_done(
    replica: Replica, provider: SqlProvider
) -> None:
    """Otherwise it would wait for ever on a farm that is never idle."""
    first = replica.enqueue("first").job_name
    busy = replica.open(capacity=2)
    assert asks(replica, busy) == [first]
    (suspect,) = lost_together(replica, "greedy")
    replica.enqueue("later")
    assert asks(replica, busy, reports=running(first)) == [first], "it is not told yet, and gets nothing else"
    assert replica.stage(suspect.operation_name) is Stage.QUEUED
    assert asks(replica, busy, reports=running(first)) == [first]
    (tell,) = replica.sync(busy, reports={first: success()}).leases
    assert (tell.job_name, tell.state, tell.action) == (suspect.job_name, PENDING, b"greedy")
    assert replica.stage(suspect.operation_name) is Stage.EXECUTING
    assert suspects(provider) == {suspect.job_name}


def test_a_busy_bot_that_waits_is_not_woken_for_a_suspect_that_an_idle_one_can_start(
    replica: Replica,
) -> None:
    first = replica.enqueue("first").job_name
    victim = replica.open("victim", capacity=2)
    busy, idle = replica.open("busy", capacity=2), replica.open("idle", capacity=2)
    assert asks(replica, busy, "busy") == [first]
    greedy = replica.enqueue("greedy").job_name
    assert asks(replica, victim, "victim") == [greedy]
    replica.sync(victim, "victim", reports=running(greedy))
    items = [
        replica.submitted_sync(busy, "busy", reports=running(first), hold=True),
        replica.submitted_sync(idle, "idle", hold=True),
    ]
    replica.settle()
    replica.close(victim)
    assert [tell.job_name for tell in result(items[1]).leases] == [greedy]
    assert not items[0].ticket.future.done()


def asked_for(provider: SqlProvider, session: str) -> object:
    """Until when the session lives: each batch that asks for it moves that."""
    with provider.connect() as connection:
        return connection.execute("SELECT expires_at FROM bots WHERE name = %s", (session,)).fetchone()


def test_a_busy_bot_that_was_given_a_suspect_may_wait_in_its_call(
    replica: Replica, provider: SqlProvider
) -> None:
    """It sees a free slot: answered at once each time, it would call and call."""
    first = replica.enqueue("first").job_name
    busy = replica.open(capacity=3)
    assert asks(replica, busy) == [first]
    lost_together(replica, "greedy")
    replica.look()
    item = replica.submitted_sync(busy, reports=running(first), hold=True)
    replica.settle()
    assert not item.ticket.future.done()
    again = replica.submitted_sync(busy, reports=running(first), hold=True)
    replica.settle()
    assert not again.ticket.future.done()
    before = asked_for(provider, busy)
    replica.enqueue("innocent")
    replica.settle()
    assert not again.ticket.future.done(), "that is for others"
    assert asked_for(provider, busy) == before, "it is not woken for that"


def test_a_busy_bot_that_is_given_a_suspect_in_the_call_that_is_held_is_not_woken_for_more(
    replica: Replica, provider: SqlProvider
) -> None:
    first = replica.enqueue("first").job_name
    busy = replica.open(capacity=3)
    assert asks(replica, busy) == [first]
    lost_together(replica, "greedy")
    replica.look()
    item = replica.submitted_sync(busy, reports=running(first), hold=True)
    replica.settle()
    before = asked_for(provider, busy)
    replica.enqueue("innocent")
    replica.settle()
    assert asked_for(provider, busy) == before
    assert not item.ticket.future.done()


def test_a_suspect_that_waits_for_its_bot_is_not_lost_with_it(
    replica: Replica, provider: SqlProvider
) -> None:
    first = replica.enqueue("first").job_name
    busy = replica.open(capacity=2)
    asks(replica, busy)
    (suspect,) = lost_together(replica, "greedy")
    asks(replica, busy, reports=running(first))
    replica.close(busy)
    with provider.connect() as connection:
        rows = dict(connection.execute("SELECT name, n_tries FROM jobs").fetchall())
    assert rows == {first: 2, suspect.job_name: 2}, "the second loss of the suspect was before it started"
    assert suspects(provider) == {first, suspect.job_name}


def test_a_suspect_goes_by_priority_and_age_as_any_job(replica: Replica) -> None:
    lost_together(replica, "greedy")
    urgent = replica.enqueue("urgent", priority=-1).job_name
    session = replica.open(capacity=2)
    assert asks(replica, session) == [urgent]


def test_a_job_beside_which_others_may_run_does_not_keep_the_other_slots_empty(replica: Replica) -> None:
    lost_together(replica, "greedy")
    urgent = {replica.enqueue(f"urgent {n}", priority=-1).job_name for n in range(4)}
    assert set(asks(replica, replica.open(capacity=3), "bot")) <= urgent
    assert len(asks(replica, replica.open("b", capacity=3), "b")) == 1


def test_a_suspect_is_only_for_bots_that_meet_its_requirements(replica: Replica) -> None:
    large = {"Pool": ["large"]}
    job = replica.enqueue("greedy", needs=large).job_name
    victim = replica.open("victim", capacity=2)
    assert asks(replica, victim, "victim", offer=pairs(large)) == [job]
    replica.sync(victim, "victim", reports=running(job))
    replica.close(victim)
    small = replica.open("small", capacity=2)
    assert asks(replica, small, "small", offer=pairs({"Pool": ["small"]})) == []
    fits = replica.open("large", capacity=2)
    assert asks(replica, fits, "large", offer=pairs(large)) == [job]


# --- on whichever replica


def held(replica: Replica, session: str, bot_id: str) -> Synchronize:
    item = replica.submitted_sync(session, bot_id, hold=True)
    replica.settle()
    assert not item.ticket.future.done()
    return item


def test_another_replica_learns_what_a_suspect_requires(replica: Replica, other: Replica) -> None:
    (job,) = lost_together(replica, "greedy")
    session = other.open(capacity=2)
    assert asks(other, session) == [job.job_name]


def test_a_suspect_wakes_an_idle_bot_on_the_replica_that_hears_of_it_first(
    replica: Replica, other: Replica
) -> None:
    item = held(other, other.open("idle", capacity=2), "idle")
    replica.enqueue("greedy")
    victim = replica.open("victim", capacity=2)
    jobs = asks(replica, victim, "victim")
    replica.sync(victim, "victim", reports=running(*jobs), offer=None)
    replica.close(victim)
    other.engine.news.tell_arrivals([("", f"alone:{requirement_hash({})}")])  # as the notification has it
    assert [tell.job_name for tell in result(item).leases] == jobs


# --- by name


def by_name(replica: Replica, *sessions: str) -> list[str]:
    return replica.call(assign_waiting("", requirement_hash({}), list(sessions), by_age=True))


def test_suspects_are_assigned_by_the_plain_hash_to_bots_on_which_nothing_runs(replica: Replica) -> None:
    running_now = replica.enqueue("running").job_name
    busy = replica.open("busy", capacity=2)
    assert asks(replica, busy, "busy") == [running_now]
    lost_together(replica, "greedy")
    assert by_name(replica, busy) == []
    single, several = replica.open("single"), replica.open("several", capacity=3)
    assert by_name(replica, several) == [several]
    replica.enqueue("innocent")
    assert by_name(replica, several) == [], "it has a suspect"
    assert by_name(replica, busy, single) == [busy]
