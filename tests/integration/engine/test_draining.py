"""Drain: what a marked bot gets, keeps and is told; IfIdle, WhenIdle, Undrain."""

import pytest
from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.core.errors import InvalidArgument
from buildgrid_scheduler.core.job_state import Stage
from buildgrid_scheduler.core.requirements import requirement_hash
from buildgrid_scheduler.engine.assigning import assign_waiting
from buildgrid_scheduler.engine.draining import (
    drain_if_idle,
    drain_some_if_idle,
    drain_when_idle,
    undrain,
)
from buildgrid_scheduler.engine.items import Synchronize
from buildgrid_scheduler.store.provider import SqlProvider

from tests.integration.engine.faults import ERRANDS, first_commit_unheard
from tests.integration.engine.replica import (
    ACTIVE,
    KEEPALIVE,
    Replica,
    Report,
    counts,
    result,
    success,
)


def asks(replica: Replica, session: str, bot_id: str = "bot", **options: object) -> list[str]:
    """The jobs that a bot is told of when it asks for work."""
    replica.look()
    return [tell.job_name for tell in replica.sync(session, bot_id, **options).leases]


def by_name(replica: Replica, *sessions: str) -> list[str]:
    return replica.call(assign_waiting("", requirement_hash({}), list(sessions), by_age=False))


def marks(provider: SqlProvider) -> dict[str, bool]:
    """Which bots are marked, and whether as disrupted."""
    with provider.connect() as connection:
        return dict(connection.execute("SELECT bot_id, disrupted FROM drains").fetchall())


# --- WhenIdle


def test_a_drained_bot_gets_nothing_whoever_gives_until_it_is_undrained(replica: Replica) -> None:
    session = replica.open()
    assert replica.call(drain_when_idle("", ["bot"])) == ["bot"]
    job = replica.enqueue("action").job_name
    assert asks(replica, session) == []
    assert by_name(replica, session) == []
    assert replica.call(undrain("", ["bot"])) == ["bot"]
    assert asks(replica, session) == [job]


def test_a_drained_bot_keeps_what_it_has_and_brings_it_to_its_end(replica: Replica) -> None:
    operation = replica.enqueue("action").operation_name
    session = replica.open(capacity=2)
    job = replica.take(session)
    replica.sync(session, reports={job: Report(ACTIVE)})
    replica.call(drain_when_idle("", ["bot"]))
    replica.enqueue("another")
    assert asks(replica, session, reports={job: Report(ACTIVE)}) == [job]
    assert not replica.drained()["bot"].done
    assert asks(replica, session, reports={job: success()}) == []
    assert replica.stage(operation) is Stage.COMPLETED
    assert replica.drained()["bot"].done


def test_what_was_assigned_before_the_mark_stays_with_the_bot(replica: Replica) -> None:
    job = replica.enqueue("action").job_name
    session = replica.open()
    assert by_name(replica, session) == [session]
    replica.call(drain_when_idle("", ["bot"]))
    assert replica.drained()["bot"].leases == 1
    assert asks(replica, session) == [job]


def test_a_bot_may_be_marked_before_it_comes_and_the_mark_outlives_its_sessions(replica: Replica) -> None:
    replica.call(drain_when_idle("", ["bot"]))
    assert not replica.drained()["bot"].connected
    replica.enqueue("action")
    for _ in range(2):
        session = replica.open()
        assert asks(replica, session) == []
        assert replica.drained()["bot"].connected
    replica.close(session)
    assert list(replica.drained()) == ["bot"]
    assert asks(replica, replica.open()) == []


def test_a_mark_is_for_one_bot_of_one_instance(replica: Replica) -> None:
    replica.call(drain_when_idle("mine", ["bot"]))
    theirs, mine = replica.open(instance="theirs"), replica.open("another", instance="mine")
    job = replica.enqueue("action", instance="theirs").job_name
    assert asks(replica, theirs, instance="theirs") == [job]
    job = replica.enqueue("action", instance="mine").job_name
    assert asks(replica, mine, "another", instance="mine") == [job]
    assert replica.drained("theirs") == {}


def test_marking_again_keeps_since_when_and_never_takes_a_disruption_back(
    replica: Replica, provider: SqlProvider
) -> None:
    replica.call(drain_when_idle("", ["bot"]))
    since = replica.drained()["bot"].since
    replica.clock.advance(KEEPALIVE)
    replica.call(drain_when_idle("", ["bot", "bot"], disrupted=True))
    replica.call(drain_when_idle("", ["bot"]))
    assert replica.drained()["bot"].since == since
    assert marks(provider) == {"bot": True}


@pytest.mark.parametrize("bot_id", ["", "a NUL \0 in it", "x" * 501])
def test_what_is_no_bot_id_is_refused(bot_id: str) -> None:
    for refuse in (drain_when_idle, drain_if_idle, undrain):
        with pytest.raises(InvalidArgument, match="bot_ids"):
            refuse("", ["bot", bot_id])


# --- calls that are held


def held(replica: Replica, session: str, bot_id: str = "bot") -> Synchronize:
    item = replica.submitted_sync(session, bot_id, hold=True)
    replica.settle()
    assert not item.ticket.future.done()
    return item


def told(item: Synchronize) -> list[str]:
    return [tell.job_name for tell in result(item).leases]


def asked_for(provider: SqlProvider, session: str) -> object:
    """Until when the session lives: each batch that asks for it moves that."""
    with provider.connect() as connection:
        return connection.execute("SELECT expires_at FROM bots WHERE name = %s", (session,)).fetchone()


def test_a_bot_that_is_marked_while_it_waits_goes_on_waiting_and_is_not_woken_for_work(
    replica: Replica, provider: SqlProvider
) -> None:
    session = replica.open()
    item = held(replica, session)
    replica.call(drain_when_idle("", ["bot"]))
    replica.settle()
    before = asked_for(provider, session)
    job = replica.enqueue("action").job_name
    replica.settle()
    assert asked_for(provider, session) == before
    assert not item.ticket.future.done()
    replica.call(undrain("", ["bot"]))
    assert told(item) == [job], "it can get work at once"


def test_a_drained_bot_that_calls_is_held_and_gets_work_when_it_is_undrained(replica: Replica) -> None:
    replica.call(drain_when_idle("", ["bot"]))
    job = replica.enqueue("action").job_name
    item = held(replica, replica.open())
    replica.call(undrain("", ["bot"]))
    assert told(item) == [job]


def test_a_job_wakes_the_bot_beside_the_drained_ones(replica: Replica) -> None:
    replica.call(drain_when_idle("", ["a", "b"]))
    drained = [held(replica, replica.open(bot), bot) for bot in "ab"]
    well = held(replica, replica.open("c"), "c")
    job = replica.enqueue("action").job_name
    assert told(well) == [job]
    assert not any(item.ticket.future.done() for item in drained)


def test_a_held_drained_call_still_hears_of_the_end_of_its_session(replica: Replica) -> None:
    replica.call(drain_when_idle("", ["bot"]))
    session = replica.open()
    item = held(replica, session)
    replica.close(session)
    with pytest.raises(InvalidArgument, match="create a new session"):
        result(item)


def test_a_bot_that_waits_on_another_replica_hears_of_its_mark_and_of_its_end(
    replica: Replica, other: Replica
) -> None:
    """This replica's listener would poke the session."""
    session = replica.open()
    item = held(other, session)
    replica.call(drain_when_idle("", ["bot"]))
    other.engine.news.poke([session])
    job = replica.enqueue("action").job_name
    other.look()
    other.settle()
    assert not item.ticket.future.done()
    replica.call(undrain("", ["bot"]))
    other.engine.news.poke([session])
    assert told(item) == [job]


# --- IfIdle


def test_if_idle_marks_only_bots_without_a_lease(replica: Replica) -> None:
    sessions = {bot: replica.open(bot) for bot in ("idle", "assigned", "busy", "stopping")}
    operations = []
    for bot in ("busy", "stopping"):
        operations.append(replica.enqueue(bot).operation_name)
        job = replica.take(sessions[bot], bot)
        replica.sync(sessions[bot], bot, reports={job: Report(ACTIVE)})
    replica.cancel(operations[1])
    replica.enqueue("action")
    by_name(replica, sessions["assigned"])
    named = ["busy", "idle", "stopping", "assigned", "not there yet", "idle"]
    assert replica.call(drain_if_idle("", named)) == ["idle", "not there yet"]
    assert sorted(replica.drained()) == ["idle", "not there yet"]


def test_if_idle_tells_of_a_bot_that_was_marked_before(replica: Replica) -> None:
    replica.open()
    assert replica.call(drain_if_idle("", ["bot"])) == ["bot"]
    assert replica.call(drain_if_idle("", ["bot"])) == ["bot"]


def test_some_idle_bots_are_chosen_and_the_youngest_sessions_first(replica: Replica) -> None:
    for bot in ("old", "middle", "young"):
        replica.open(bot)
        replica.clock.advance(KEEPALIVE / 100)
    busy = replica.open("busy")
    replica.enqueue("action")
    replica.take(busy, "busy")
    replica.open("theirs", instance="theirs")
    assert replica.call(drain_some_if_idle("", 2)) == ["young", "middle"]
    assert replica.call(drain_some_if_idle("", 5)) == ["old"], "those that are marked are not chosen again"
    assert replica.call(drain_some_if_idle("", 5)) == []


def test_bots_that_stopped_calling_are_not_chosen(replica: Replica) -> None:
    replica.open("gone")
    replica.clock.advance(2 * KEEPALIVE)
    replica.open("there")
    assert replica.call(drain_some_if_idle("", 5)) == ["there"]


def test_an_unhealthy_bot_may_be_chosen(replica: Replica) -> None:
    session = replica.open()
    replica.sync(session, status=BotStatus.UNHEALTHY)
    assert replica.call(drain_some_if_idle("", 1)) == ["bot"]


@pytest.mark.parametrize("number", [0, -1])
def test_no_bots_can_not_be_chosen(number: int) -> None:
    with pytest.raises(InvalidArgument, match="number"):
        drain_some_if_idle("", number)


def test_a_drain_whose_commit_was_unheard_does_not_mark_more(
    replica: Replica, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(4):
        replica.open(f"bot {n}")
    with first_commit_unheard(monkeypatch, ERRANDS):
        marked = replica.call(drain_some_if_idle("", 2))
    assert len(marked) == 2
    assert sorted(replica.drained()) == sorted(marked)


# --- Undrain


def test_undrain_tells_which_bots_had_a_mark(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    replica.call(drain_when_idle("", ["a", "b"]))
    with first_commit_unheard(monkeypatch, ERRANDS):
        assert replica.call(undrain("", ["unknown", "b", "a"])) == ["b", "a"]
    assert replica.drained() == {}
    assert replica.call(undrain("", ["a"])) == []


# --- whose mark it is


def owners(replica: Replica) -> dict[str, str]:
    return {bot: mark.owner for bot, mark in replica.drained().items()}


def test_a_mark_keeps_its_first_owner_whoever_marks_the_bot_again(replica: Replica) -> None:
    replica.open("idle")
    replica.call(drain_when_idle("", ["bot"], owner="mine"))
    replica.call(drain_if_idle("", ["another"], owner="theirs"))
    assert replica.call(drain_some_if_idle("", 1, owner="mine")) == ["idle"]
    expected = {"another": "theirs", "bot": "mine", "idle": "mine"}
    assert owners(replica) == expected
    assert replica.call(drain_when_idle("", ["another"], owner="mine")) == ["another"]
    assert replica.call(drain_if_idle("", ["idle", "bot"], owner="theirs")) == ["idle", "bot"]
    assert replica.call(drain_when_idle("", ["bot"])) == ["bot"]
    assert owners(replica) == expected


def test_undrain_takes_only_the_owner_s_marks_and_without_one_all(replica: Replica) -> None:
    session = replica.open("theirs")
    replica.call(drain_when_idle("", ["theirs"], owner="somebody else"))
    replica.call(drain_when_idle("", ["mine"], owner="me"))
    replica.call(drain_when_idle("", ["a person's"]))
    bots = ["a person's", "theirs", "mine", "unmarked"]
    assert replica.call(undrain("", bots, owner="me")) == ["mine"]
    assert owners(replica) == {"a person's": "", "theirs": "somebody else"}
    job = replica.enqueue("action").job_name
    assert asks(replica, session, "theirs") == [], "the other's mark is in force"
    assert replica.call(undrain("", bots)) == ["a person's", "theirs"]
    assert asks(replica, session, "theirs") == [job]


def test_undrain_of_the_busy_leaves_the_mark_of_those_that_may_be_about_to_end(replica: Replica) -> None:
    replica.enqueue("action")
    replica.take(replica.open("busy"), "busy")
    replica.open("idle")
    bots = ["busy", "idle", "unconnected"]
    replica.call(drain_when_idle("", bots, owner="me"))
    assert replica.call(undrain("", bots, owner="me", busy_only=True)) == ["busy"]
    assert owners(replica) == {"idle": "me", "unconnected": "me"}


# --- what a disrupted bot loses


@pytest.mark.parametrize("how", ["closed", "expired", "opened anew", "mismatch"])
@pytest.mark.parametrize("disrupted", [True, False])
def test_what_a_disrupted_bot_loses_does_not_count_as_a_try(
    replica: Replica, provider: SqlProvider, how: str, disrupted: bool
) -> None:
    replica.enqueue("action")
    session = replica.open()
    job = replica.take(session)
    replica.sync(session, reports={job: Report(ACTIVE)})
    replica.call(drain_when_idle("", ["bot"], disrupted=disrupted))
    if how == "closed":
        replica.close(session)
    elif how == "expired":
        replica.clock.advance(2 * KEEPALIVE)
        replica.reap()
    elif how == "opened anew":
        replica.open()
    else:
        result(replica.submitted_sync(session), quiet=True)
    assert counts(provider, "queue") == 1
    with provider.connect() as connection:
        row = connection.execute("SELECT n_tries, n_infra_tries FROM jobs").fetchone()
    assert row == ((1, 1) if disrupted else (2, 0))
