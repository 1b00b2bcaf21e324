"""Two transactions that meet, in every order: each is held open at each of its points while the other runs.

What must hold in the database is looked at after each meeting, beside what is asserted here.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.core.errors import DataLoss, InvalidArgument
from buildgrid_scheduler.core.job_state import Stage
from buildgrid_scheduler.core.requirements import requirement_hash
from buildgrid_scheduler.engine.assigning import assign_waiting
from buildgrid_scheduler.engine.draining import (
    drain_if_idle,
    drain_some_if_idle,
    drain_when_idle,
    undrain,
)
from buildgrid_scheduler.engine.items import Call, Synchronize, WriteItem
from buildgrid_scheduler.engine.operations import cancel
from buildgrid_scheduler.notifier.delivery import Ticket
from buildgrid_scheduler.store.provider import SqlProvider

from tests.integration.engine.races import Meeting, Races, Side
from tests.integration.engine.replica import (
    ACTIVE,
    KEEPALIVE,
    Replica,
    Report,
    SteppingClock,
    Transaction,
    enqueue,
    failure,
    forget_everything,
    success,
    synchronize,
)
from tests.integration.store.postgres import TestPostgres


@dataclass(frozen=True)
class Farm:
    """Two replicas on a database."""

    provider: SqlProvider
    replicas: tuple[Replica, Replica]


@pytest.fixture(scope="module")
def farm(postgres: TestPostgres) -> Iterator[Farm]:
    """For all tests here: each meeting has an instance of its own."""
    url = postgres.create()
    provider = SqlProvider(url)
    clock = SteppingClock()
    replicas = Replica(provider, clock=clock), Replica(provider, clock=clock)
    yield Farm(provider, replicas)
    for replica in replicas:
        replica.stop()
    provider.close()
    postgres.drop(url)


@pytest.fixture
def provider(farm: Farm) -> SqlProvider:
    forget_everything(farm.provider)
    return farm.provider


@pytest.fixture
def replica(farm: Farm, provider: SqlProvider) -> Replica:
    return farm.replicas[0]


@pytest.fixture
def other(farm: Farm, provider: SqlProvider) -> Replica:
    return farm.replicas[1]


@pytest.fixture
def races(monkeypatch: pytest.MonkeyPatch, provider: SqlProvider) -> Races:
    return Races(monkeypatch, provider)


def call(transaction: Transaction[object]) -> WriteItem:
    return Call(Ticket(), transaction)


def told(side: Side) -> list[str]:
    """The jobs that the answer to a bot speaks of."""
    answer = side.outcome()
    return [tell.job_name for tell in answer.leases]


def leased(provider: SqlProvider, instance: str) -> dict[str, str]:
    """Which session has which job, by job."""
    with provider.connect() as connection:
        query = "SELECT job_name, session_name FROM leases WHERE instance_name = %s"
        return dict(connection.execute(query, (instance,)).fetchall())


def waiting(provider: SqlProvider, instance: str) -> list[str]:
    with provider.connect() as connection:
        query = "SELECT job_name FROM queue WHERE instance_name = %s"
        return [job for (job,) in connection.execute(query, (instance,)).fetchall()]


def tries(provider: SqlProvider, job: str) -> tuple[int, int]:
    with provider.connect() as connection:
        row = connection.execute("SELECT n_tries, n_infra_tries FROM jobs WHERE name = %s", (job,)).fetchone()
    assert row is not None
    return row[0], row[1]


def runs(at: Replica, session: str, instance: str, bot_id: str = "bot") -> str:
    """A job that a bot has taken up."""
    (tell,) = at.sync(session, bot_id, instance=instance).leases
    at.sync(session, bot_id, reports={tell.job_name: Report(ACTIVE)}, instance=instance, offer=None)
    return tell.job_name


# --- drain and giving work


Giving = Callable[[Replica, str, str], Side]


def asking(at: Replica, session: str, instance: str) -> Side:
    return Side(at, synchronize(session, instance=instance))


def enqueueing(at: Replica, session: str, instance: str) -> Side:
    """Its bot waits there: it is woken by a job in the batch that makes it."""
    at.submit(synchronize(session, instance=instance, hold=True))
    at.settle()
    return Side(at, enqueue("one more", instance=instance))


def assigning(at: Replica, session: str, instance: str) -> Side:
    transaction = assign_waiting(instance, requirement_hash({}), [session], by_age=False)
    return Side(at, call(transaction))


GIVING = pytest.mark.parametrize("giving", [asking, enqueueing, assigning])


@GIVING
def test_work_that_is_given_while_its_bot_is_cordoned_is_there_before_the_mark_or_not_at_all(
    replica: Replica, other: Replica, provider: SqlProvider, races: Races, giving: Giving
) -> None:
    def scene(instance: str) -> Meeting:
        session = other.open(instance=instance)
        if giving is not enqueueing:
            other.enqueue("action", instance=instance)
        gives = giving(other, session, instance)
        drains = Side(replica, call(drain_when_idle(instance, ["bot"])))

        def check() -> None:
            assert drains.outcome() == ["bot"]
            had = leased(provider, instance)
            assert replica.drained(instance)["bot"].leases == len(had)
            other.enqueue("another", instance=instance)
            other.look()
            other.sync(session, instance=instance)
            other.call(assign_waiting(instance, requirement_hash({}), [session], by_age=False))
            assert leased(provider, instance) == had, "nothing comes to it after the mark"

        return Meeting(gives, drains, check)

    races.in_every_order(scene)


@GIVING
@pytest.mark.parametrize("chosen", ["named", "any"])
def test_a_bot_is_either_marked_as_idle_or_given_work(
    replica: Replica, other: Replica, provider: SqlProvider, races: Races, giving: Giving, chosen: str
) -> None:
    def scene(instance: str) -> Meeting:
        session = other.open(instance=instance)
        if giving is not enqueueing:
            other.enqueue("action", instance=instance)
        gives = giving(other, session, instance)
        transaction = (
            drain_if_idle(instance, ["bot"]) if chosen == "named" else drain_some_if_idle(instance, 1)
        )
        drains = Side(replica, call(transaction))

        def check() -> None:
            marked = drains.outcome()
            assert set(replica.drained(instance)) == set(marked)
            assert (marked == ["bot"]) is (leased(provider, instance) == {})

        return Meeting(gives, drains, check)

    races.in_every_order(scene)


def test_of_two_idle_bots_the_one_that_is_not_given_work_meanwhile_is_chosen(
    replica: Replica, other: Replica, provider: SqlProvider, races: Races
) -> None:
    def scene(instance: str) -> Meeting:
        other.open("older", instance=instance)
        younger = other.open("younger", instance=instance)
        other.enqueue("action", instance=instance)
        gives = Side(other, synchronize(younger, "younger", instance=instance))
        drains = Side(replica, call(drain_some_if_idle(instance, 1)))

        def check() -> None:
            got_it = set(leased(provider, instance).values()) == {younger}
            assert drains.outcome() == (["older"] if got_it else ["younger"])

        return Meeting(gives, drains, check)

    races.in_every_order(scene)


def test_two_operators_who_drain_some_idle_bots_do_not_count_the_same_twice(
    replica: Replica, other: Replica, races: Races
) -> None:
    def scene(instance: str) -> Meeting:
        for n in range(5):
            replica.open(f"bot {n}", instance=instance)
        mine = Side(replica, call(drain_some_if_idle(instance, 2)))
        theirs = Side(other, call(drain_some_if_idle(instance, 2)))

        def check() -> None:
            marked = mine.outcome() + theirs.outcome()
            assert len(marked) == len(set(marked)) == 4
            assert set(replica.drained(instance)) == set(marked)

        return Meeting(mine, theirs, check)

    races.in_every_order(scene)


# --- drain and sessions


@pytest.mark.parametrize("old_session", [False, True], ids=["a new bot", "an old bot"])
@pytest.mark.parametrize("how", ["IfIdle", "WhenIdle"])
def test_a_session_that_opens_while_its_bot_is_marked_is_born_drained(
    replica: Replica, other: Replica, races: Races, old_session: bool, how: str
) -> None:
    def scene(instance: str) -> Meeting:
        if old_session:
            other.open(instance=instance)
        session, transaction = other.opening(instance=instance)
        opens = Side(other, call(transaction))
        mark = drain_if_idle if how == "IfIdle" else drain_when_idle
        drains = Side(replica, call(mark(instance, ["bot"])))

        def check() -> None:
            assert drains.outcome() == ["bot"]
            other.enqueue("action", instance=instance)
            other.look()
            assert other.sync(session, instance=instance).leases == ()

        return Meeting(opens, drains, check)

    races.in_every_order(scene)


def test_a_session_that_opens_while_its_bot_is_undrained_gets_work(
    replica: Replica, other: Replica, races: Races
) -> None:
    def scene(instance: str) -> Meeting:
        replica.call(drain_when_idle(instance, ["bot"]))
        session, transaction = other.opening(instance=instance)
        opens = Side(other, call(transaction))
        undrains = Side(replica, call(undrain(instance, ["bot"])))

        def check() -> None:
            assert undrains.outcome() == ["bot"]
            job = other.enqueue("action", instance=instance).job_name
            other.look()
            assert [t.job_name for t in other.sync(session, instance=instance).leases] == [job]

        return Meeting(opens, undrains, check)

    races.in_every_order(scene)


@pytest.mark.parametrize("how", ["closed", "reaped"])
def test_a_session_that_ends_while_its_bot_is_marked_leaves_the_mark(
    replica: Replica, other: Replica, provider: SqlProvider, races: Races, how: str
) -> None:
    def scene(instance: str) -> Meeting:
        session = other.open(instance=instance)
        job = other.enqueue("action", instance=instance).job_name
        runs(other, session, instance)
        if how == "closed":
            ends = Side(other, call(other.engine.sessions.close(instance, session, "the node is gone")))
        else:
            replica.clock.advance(2 * KEEPALIVE)
            ends = Side(other, call(other.engine.sessions.reap()))
        drains = Side(replica, call(drain_when_idle(instance, ["bot"], disrupted=True)))

        def check() -> None:
            other.reap()  # a session that is being marked is passed over, and closed the next time
            assert replica.drained(instance)["bot"].done
            assert waiting(provider, instance) == [job]
            assert tries(provider, job) in ((1, 1), (2, 0)), "by whichever came first"

        return Meeting(ends, drains, check)

    races.in_every_order(scene)


def test_marking_and_unmarking_leave_a_mark_or_none(replica: Replica, other: Replica, races: Races) -> None:
    def scene(instance: str) -> Meeting:
        session = replica.open(instance=instance)
        drains = Side(replica, call(drain_when_idle(instance, ["bot", "another"])))
        undrains = Side(other, call(undrain(instance, ["another", "bot"])))

        def check() -> None:
            removed = undrains.outcome()
            assert removed in ([], ["another", "bot"]), "both or none: neither sees half of the other"
            assert bool(replica.drained(instance)) is not bool(removed)
            job = replica.enqueue("action", instance=instance).job_name
            leases = replica.sync(session, instance=instance).leases
            assert [t.job_name for t in leases] == ([job] if removed else [])

        return Meeting(drains, undrains, check)

    races.in_every_order(scene)


def test_two_owners_who_mark_a_bot_at_once_leave_the_mark_of_one_which_the_other_cannot_take(
    replica: Replica, other: Replica, races: Races
) -> None:
    def scene(instance: str) -> Meeting:
        session = replica.open(instance=instance)
        mine = Side(replica, call(drain_when_idle(instance, ["bot"], owner="me")))
        theirs = Side(other, call(drain_if_idle(instance, ["bot"], owner="them")))

        def check() -> None:
            assert mine.outcome() == theirs.outcome() == ["bot"]
            (owner,) = {mark.owner for mark in replica.drained(instance).values()}
            stranger = {"me": "them", "them": "me"}[owner]
            assert replica.call(undrain(instance, ["bot"], owner=stranger)) == []
            job = replica.enqueue("action", instance=instance).job_name
            assert replica.sync(session, instance=instance).leases == ()
            assert replica.call(undrain(instance, ["bot"], owner=owner)) == ["bot"]
            assert [t.job_name for t in replica.sync(session, instance=instance).leases] == [job]

        return Meeting(mine, theirs, check)

    races.in_every_order(scene)


def test_an_owner_who_takes_its_mark_away_while_another_makes_one_takes_no_more_than_its_own(
    replica: Replica, other: Replica, races: Races
) -> None:
    def scene(instance: str) -> Meeting:
        session = replica.open(instance=instance)
        replica.call(drain_when_idle(instance, ["bot"], owner="me"))
        undrains = Side(replica, call(undrain(instance, ["bot"], owner="me")))
        drains = Side(other, call(drain_when_idle(instance, ["bot"], owner="them")))

        def check() -> None:
            assert undrains.outcome() == drains.outcome() == ["bot"]
            marks = {mark.owner for mark in replica.drained(instance).values()}
            assert marks in (set(), {"them"}), "it was mine until I took it, or is theirs since"
            job = replica.enqueue("action", instance=instance).job_name
            leases = replica.sync(session, instance=instance).leases
            assert [t.job_name for t in leases] == ([] if marks else [job])

        return Meeting(undrains, drains, check)

    races.in_every_order(scene)


def test_a_call_that_comes_while_its_bot_is_undrained_gets_the_job_that_waits(
    replica: Replica, races: Races
) -> None:
    """On the replica that undrains: another one is poked by the notification."""

    def scene(instance: str) -> Meeting:
        session = replica.open(instance=instance)
        replica.call(drain_when_idle(instance, ["bot"]))
        job = replica.enqueue("action", instance=instance).job_name
        item = synchronize(session, instance=instance, hold=True)
        calls = Side(replica, item)
        undrains = Side(replica, call(undrain(instance, ["bot"])))

        def check() -> None:
            assert undrains.outcome() == ["bot"]
            assert told(calls) == [job]

        return Meeting(calls, undrains, check)

    races.in_every_order(scene)


def test_a_report_that_closes_its_session_while_the_bot_is_marked_as_disrupted(
    replica: Replica, other: Replica, provider: SqlProvider, races: Races
) -> None:
    def scene(instance: str) -> Meeting:
        session = other.open(instance=instance)
        job = other.enqueue("action", instance=instance).job_name
        runs(other, session, instance)
        forgets = Side(other, synchronize(session, instance=instance))
        drains = Side(replica, call(drain_when_idle(instance, ["bot"], disrupted=True)))

        def check() -> None:
            assert isinstance(forgets.outcome(), DataLoss)
            assert waiting(provider, instance) == [job]
            assert tries(provider, job) in ((1, 1), (2, 0)), "by whichever came first"

        return Meeting(forgets, drains, check)

    races.in_every_order(scene)


# --- suspects


def suspect(at: Replica, instance: str, word: str = "greedy") -> str:
    """A job that took a bot with several slots with it, and waits."""
    job = at.enqueue(word, instance=instance).job_name
    session = at.open("victim", instance=instance, capacity=2)
    assert runs(at, session, instance, "victim") == job
    at.close(session, instance)
    return job


@pytest.mark.parametrize("capacities", [(2, 2), (1, 2), (3, 3)], ids=str)
def test_two_replicas_give_a_suspect_once_and_to_a_bot_of_its_own(
    replica: Replica, other: Replica, provider: SqlProvider, races: Races, capacities: tuple[int, int]
) -> None:
    def scene(instance: str) -> Meeting:
        job = suspect(replica, instance)
        innocents = {replica.enqueue(f"innocent {n}", instance=instance).job_name for n in range(2)}
        sides: list[Side] = []
        for at, capacity in zip((replica, other), capacities, strict=True):
            at.look()
            bot_id = f"bot of {capacity} {len(sides)}"
            session = at.open(bot_id, instance=instance, capacity=capacity)
            sides.append(Side(at, synchronize(session, bot_id, instance=instance)))

        def check() -> None:
            got = [told(side) for side in sides]
            assert sum(job in jobs for jobs in got) <= 1
            given = [name for jobs in got for name in jobs]
            assert len(given) == len(set(given))
            assert set(given) <= {job} | innocents
            for jobs in got:
                assert job not in jobs or jobs == [job]
            assert set(leased(provider, instance)) == set(given)

        return Meeting(sides[0], sides[1], check)

    races.in_every_order(scene)


def test_a_suspect_and_a_job_by_name_do_not_share_a_bot(
    replica: Replica, other: Replica, provider: SqlProvider, races: Races
) -> None:
    def scene(instance: str) -> Meeting:
        suspect(replica, instance)
        replica.enqueue("innocent", instance=instance)
        session = replica.open(instance=instance, capacity=3)
        replica.look()
        asks = Side(replica, synchronize(session, instance=instance))
        assigns = Side(other, call(assign_waiting(instance, requirement_hash({}), [session], by_age=False)))

        def check() -> None:
            told(asks)
            replica.sync(session, instance=instance)

        return Meeting(asks, assigns, check)

    races.in_every_order(scene)


def test_the_jobs_of_a_bot_that_vanishes_while_others_ask_run_one_to_a_bot(
    replica: Replica, other: Replica, provider: SqlProvider, races: Races
) -> None:
    def scene(instance: str) -> Meeting:
        jobs = {replica.enqueue(f"action {n}", instance=instance).job_name for n in range(2)}
        victim = replica.open("victim", instance=instance, capacity=2)
        replica.sync(victim, "victim", instance=instance)
        reports = {job: Report(ACTIVE) for job in jobs}
        replica.sync(victim, "victim", reports=reports, instance=instance)
        vanishes = Side(replica, call(replica.engine.sessions.close(instance, victim, "the node is gone")))
        session = other.open("bot", instance=instance, capacity=4)
        other.look()
        asks = Side(other, synchronize(session, instance=instance))

        def check() -> None:
            assert len(told(asks)) <= 1
            other.look()
            assert len(other.sync(session, instance=instance).leases) == 1

        return Meeting(vanishes, asks, check)

    races.in_every_order(scene)


# --- ends of leases


Ending = Callable[[Replica, str, str], Side]


def reaping(at: Replica, session: str, instance: str) -> Side:
    at.clock.advance(2 * KEEPALIVE)
    return Side(at, call(at.engine.sessions.reap()))


def closing(at: Replica, session: str, instance: str) -> Side:
    return Side(at, call(at.engine.sessions.close(instance, session, "the node is gone")))


def opening_anew(at: Replica, session: str, instance: str) -> Side:
    return Side(at, call(at.opening(instance=instance)[1]))


@pytest.mark.parametrize("report", [success(), failure()], ids=["success", "failure"])
@pytest.mark.parametrize("ending", [reaping, closing, opening_anew])
def test_an_attempt_that_is_reported_while_its_session_ends_is_counted_once(
    replica: Replica, other: Replica, provider: SqlProvider, races: Races, ending: Ending, report: Report
) -> None:
    def scene(instance: str) -> Meeting:
        enqueued = replica.enqueue("action", instance=instance)
        session = replica.open(instance=instance)
        job = runs(replica, session, instance)
        reports = Side(replica, synchronize(session, reports={job: report}, instance=instance, offer=None))
        ends = ending(other, session, instance)

        def check() -> None:
            answer = reports.outcome()
            assert not isinstance(ends.outcome(), Exception)
            if isinstance(answer, InvalidArgument):  # the session was gone
                assert replica.stage(enqueued.operation_name) is Stage.QUEUED
                assert tries(provider, job) == (2, 0)
            elif report.status_code:
                assert tries(provider, job) == (2, 0)
                assert waiting(provider, instance) == [job]
            else:
                assert replica.stage(enqueued.operation_name) is Stage.COMPLETED
                assert tries(provider, job) == (1, 0)

        return Meeting(reports, ends, check)

    races.in_every_order(scene)


def reporting(report: Report, status: BotStatus = BotStatus.OK) -> Ending:
    def side(at: Replica, session: str, instance: str) -> Side:
        (job,) = leased(at.provider, instance)
        item = synchronize(session, reports={job: report}, instance=instance, status=status, offer=None)
        return Side(at, item)

    return side


def forgetting(at: Replica, session: str, instance: str) -> Side:
    return Side(at, synchronize(session, instance=instance, offer=None))


@pytest.mark.parametrize(
    "ending",
    [reporting(success()), reporting(failure()), reporting(Report(ACTIVE)), forgetting, reaping, closing],
    ids=["success", "failure", "heartbeat", "mismatch", "reaping", "closing"],
)
def test_a_job_that_is_cancelled_while_its_lease_ends_has_one_answer_and_is_not_run_again(
    replica: Replica, other: Replica, provider: SqlProvider, races: Races, ending: Ending
) -> None:
    def scene(instance: str) -> Meeting:
        operation = replica.enqueue("action", instance=instance).operation_name
        session = replica.open(instance=instance)
        runs(replica, session, instance)
        ends = ending(replica, session, instance)
        cancels = Side(other, call(cancel(instance, operation)))

        def check() -> None:
            assert cancels.outcome() is None
            answer = other.response(operation)
            assert answer is not None
            assert answer.status.code in (0, 1)
            replica.look()
            assert replica.open("another", instance=instance)
            assert waiting(provider, instance) == []
            again = other.response(operation)
            assert again == answer

        return Meeting(ends, cancels, check)

    races.in_every_order(scene)


@pytest.mark.parametrize("giving", [asking, assigning])
def test_a_job_that_is_cancelled_while_it_is_given_is_not_left_running(
    replica: Replica, other: Replica, provider: SqlProvider, races: Races, giving: Giving
) -> None:
    def scene(instance: str) -> Meeting:
        session = other.open(instance=instance)
        operation = other.enqueue("action", instance=instance).operation_name
        gives = giving(other, session, instance)
        cancels = Side(replica, call(cancel(instance, operation)))

        def check() -> None:
            assert not isinstance(gives.outcome(), Exception)
            assert cancels.outcome() is None
            assert other.stage(operation) is Stage.COMPLETED
            assert waiting(provider, instance) == []
            assert states(provider, instance) in ([], ["CANCELLED"])

        return Meeting(gives, cancels, check)

    races.in_every_order(scene)


def states(provider: SqlProvider, instance: str) -> list[str]:
    with provider.connect() as connection:
        query = "SELECT state FROM leases WHERE instance_name = %s"
        names = {1: "PENDING", 2: "ACTIVE", 5: "CANCELLED"}
        return [names[state] for (state,) in connection.execute(query, (instance,)).fetchall()]


# --- sessions


def test_two_sessions_that_a_bot_opens_at_once_leave_one(
    replica: Replica, other: Replica, provider: SqlProvider, races: Races
) -> None:
    def scene(instance: str) -> Meeting:
        old = replica.open(instance=instance)
        job = replica.enqueue("action", instance=instance).job_name
        runs(replica, old, instance)
        mine, theirs = replica.opening(instance=instance), other.opening(instance=instance)
        one, two = Side(replica, call(mine[1])), Side(other, call(theirs[1]))

        def check() -> None:
            assert not isinstance(one.outcome(), Exception)
            assert not isinstance(two.outcome(), Exception)
            live = []
            for at, (name, _) in ((replica, mine), (other, theirs)):
                side = Side(at, synchronize(name, instance=instance, offer=None))
                at.submit(side.item)
                live.append(not isinstance(side.outcome(), InvalidArgument))
            assert sorted(live) == [False, True]
            assert tries(provider, job) == (2, 0)

        return Meeting(one, two, check)

    races.in_every_order(scene)


def test_two_replicas_reap_a_session_once(
    replica: Replica, other: Replica, provider: SqlProvider, races: Races
) -> None:
    def scene(instance: str) -> Meeting:
        session = replica.open(instance=instance)
        job = replica.enqueue("action", instance=instance).job_name
        runs(replica, session, instance)
        replica.clock.advance(2 * KEEPALIVE)
        one, two = (Side(at, call(at.engine.sessions.reap())) for at in (replica, other))

        def check() -> None:
            assert one.outcome() + two.outcome() == 1
            assert tries(provider, job) == (2, 0)

        return Meeting(one, two, check)

    races.in_every_order(scene)


def test_an_undone_claim_does_not_take_away_what_a_later_call_was_told(
    replica: Replica, other: Replica, provider: SqlProvider, races: Races
) -> None:
    def scene(instance: str) -> Meeting:
        session = replica.open(instance=instance)
        job = replica.enqueue("action", instance=instance).job_name
        unheard = Side(replica, synchronize(session, instance=instance))
        replica.submit(unheard.item)
        assert told(unheard) == [job]
        assert isinstance(unheard.item, Synchronize)
        undoes = Side(replica, call(replica.engine.sessions.hand_back(session, [job], unheard.item.call_id)))
        calls = Side(other, synchronize(session, instance=instance, offer=None))

        def check() -> None:
            heard = told(calls)
            assert set(leased(provider, instance)) == set(heard)
            assert waiting(provider, instance) == ([] if heard else [job])
            assert tries(provider, job) == (1, 0)

        return Meeting(undoes, calls, check)

    races.in_every_order(scene)
