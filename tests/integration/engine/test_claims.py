"""Who gets which job: none twice, none forgotten, in the order that was asked for."""

import threading
from collections import Counter

from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.core.requirements import pairs, requirement_hash
from buildgrid_scheduler.engine.assigning import assign_waiting
from buildgrid_scheduler.store.provider import SqlProvider

from tests.integration.engine.conftest import StartReplica
from tests.integration.engine.replica import (
    KEEPALIVE,
    PENDING,
    Replica,
    Report,
    check_invariants,
    counts,
    enqueue,
    result,
    success,
    synchronize,
)


def run_all(*threads: threading.Thread) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_two_replicas_give_500_jobs_to_40_bots_and_none_twice(
    replica: Replica, other: Replica, provider: SqlProvider
) -> None:
    asked = [enqueue(f"action {n}", priority=n % 3) for n in range(500)]
    for item in asked:
        replica.submit(item)
    jobs = {result(item).job_name for item in asked}
    other.look()
    given: Counter[str] = Counter()
    failures: list[BaseException] = []
    lock = threading.Lock()

    def work(at: Replica, bot_id: str) -> None:
        try:
            session = at.open(bot_id, capacity=3)
            reports: dict[str, Report] = {}
            while tells := at.sync(session, bot_id, reports=reports).leases:
                with lock:
                    given.update(tell.job_name for tell in tells)
                reports = {tell.job_name: success() for tell in tells}
        except BaseException as error:  # noqa: BLE001 - shown by the assertion
            failures.append(error)

    run_all(*(threading.Thread(target=work, args=((replica, other)[n % 2], f"bot {n}")) for n in range(40)))
    assert not failures
    replica.look()
    # A bot that found nothing while others held what was left went home: one that comes now finds the rest.
    work(replica, "the last")
    assert not failures
    assert given == Counter(jobs)
    assert counts(provider, "queue") == counts(provider, "leases") == 0
    check_invariants(provider)


def test_a_batch_gives_bots_of_different_kinds_only_what_they_may_take(replica: Replica) -> None:
    needs = [{}, {"Pool": ["large"]}, {"Pool": ["small"]}, {"Pool": ["large"], "ISA": ["arm"]}]
    jobs = {replica.enqueue(f"action {n}", needs=need).job_name: pairs(need) for n, need in enumerate(needs)}
    offers = [pairs({"Pool": ["large"], "ISA": ["arm"]}), pairs({"Pool": ["small"]}), frozenset()]
    sessions = [replica.open(f"bot {n}", capacity=4) for n in range(3)]
    items = [synchronize(s, f"bot {n}", offer=offers[n]) for n, s in enumerate(sessions)]
    for item in items:
        replica.submit(item)
    taken: list[str] = []
    for item, offer in zip(items, offers, strict=True):
        for tell in result(item).leases:
            assert jobs[tell.job_name] <= offer
            taken.append(tell.job_name)
    assert sorted(taken) == sorted(jobs)


def test_jobs_of_one_instance_are_not_given_to_bots_of_another(replica: Replica) -> None:
    job = replica.enqueue("action", instance="mine").job_name
    theirs, mine = replica.open(instance="theirs"), replica.open(instance="mine")
    assert not replica.sync(theirs, instance="theirs").leases
    assert [t.job_name for t in replica.sync(mine, instance="mine").leases] == [job]


def order_of(replica: Replica, number: int) -> list[str]:
    """The jobs in the order in which they are given to one bot after the other."""
    return [replica.take(replica.open(f"bot {n}"), f"bot {n}") for n in range(number)]


def test_the_most_urgent_job_goes_first_and_ties_to_the_older(replica: Replica) -> None:
    jobs = [replica.enqueue(f"action {n}", priority=p).job_name for n, p in enumerate([5, 0, -3, 0, 5, -3])]
    assert order_of(replica, 6) == [jobs[2], jobs[5], jobs[1], jobs[3], jobs[0], jobs[4]]


def test_without_a_share_for_priority_the_oldest_job_goes_first(start_replica: StartReplica) -> None:
    replica = start_replica(priority_percentage=0)
    jobs = [replica.enqueue(f"action {n}", priority=-n).job_name for n in range(6)]
    assert order_of(replica, 6) == jobs


def test_order_holds_across_the_requirements_that_a_bot_meets(replica: Replica) -> None:
    offer = pairs({"Pool": ["large"]})
    late = replica.enqueue("late", priority=2, needs={"Pool": ["large"]}).job_name
    middle = replica.enqueue("middle", priority=1).job_name
    first = replica.enqueue("first", priority=0, needs={"Pool": ["large"]}).job_name
    session = replica.open(capacity=3)
    assert [t.job_name for t in replica.sync(session, offer=offer).leases] == [first, middle, late]


# --- by name


def by_name(replica: Replica, *sessions: str, by_age: bool = False) -> list[str]:
    return replica.call(assign_waiting("", requirement_hash({}), list(sessions), by_age=by_age))


def test_only_live_and_well_sessions_with_a_free_slot_are_given_work_by_name(replica: Replica) -> None:
    for n in range(6):
        replica.enqueue(f"action {n}")
    expired = replica.open("expired")
    replica.clock.advance(2 * KEEPALIVE)
    idle, ill = replica.open("idle"), replica.open("ill")
    busy, theirs = replica.open("busy"), replica.open("theirs", instance="theirs")
    replica.sync(ill, "ill", status=BotStatus.UNHEALTHY)
    replica.take(busy, "busy")
    assert by_name(replica, expired, ill, busy, theirs, "unknown", idle, idle) == [idle]
    assert by_name(replica, idle) == []
    (tell,) = replica.sync(idle, "idle", offer=None).leases
    assert tell.state is PENDING


def test_work_by_name_goes_by_priority_or_by_age(replica: Replica) -> None:
    old = replica.enqueue("old", priority=1).job_name
    urgent = replica.enqueue("urgent").job_name
    first, second = replica.open("first"), replica.open("second")
    by_name(replica, first, by_age=True)
    by_name(replica, second)
    assert [t.job_name for t in replica.sync(first, "first", offer=None).leases] == [old]
    assert [t.job_name for t in replica.sync(second, "second", offer=None).leases] == [urgent]


def test_work_by_name_is_for_exactly_that_hash(replica: Replica) -> None:
    replica.enqueue("action", needs={"Pool": ["large"]})
    assert by_name(replica, replica.open()) == []


def test_two_replicas_that_assign_by_name_at_once_give_no_slot_two_jobs(
    replica: Replica, other: Replica, provider: SqlProvider
) -> None:
    for n in range(30):
        replica.enqueue(f"action {n}")
    sessions = [replica.open(f"bot {n}") for n in range(10)]
    got: list[str] = []
    run_all(
        *(
            threading.Thread(target=lambda at=at: got.extend(by_name(at, *sessions)))
            for at in (replica, other) * 3
        )
    )
    assert sorted(got) == sorted(sessions)
    assert counts(provider, "leases") == 10
    assert counts(provider, "queue") == 20


def test_two_replicas_reap_the_same_sessions_at_once_and_each_is_closed_once(
    replica: Replica, other: Replica, provider: SqlProvider
) -> None:
    for n in range(50):
        replica.enqueue(f"action {n}")
        replica.take(replica.open(f"bot {n}"), f"bot {n}")
    replica.clock.advance(2 * KEEPALIVE)
    closed: list[int] = []

    def reap(at: Replica) -> None:
        while number := at.reap():
            closed.append(number)

    run_all(*(threading.Thread(target=reap, args=(at,)) for at in (replica, other)))
    assert sum(closed) == 50
    assert counts(provider, "bots") == counts(provider, "leases") == 0
    assert counts(provider, "queue") == 50
    with provider.connect() as connection:
        rows = connection.execute("SELECT DISTINCT n_tries, n_infra_tries FROM jobs").fetchall()
    assert rows == [(1, 1)]


def test_hints_of_jobs_that_no_bot_asks_for_here_are_forgotten_once_others_have_done_them(
    replica: Replica, other: Replica
) -> None:
    """Otherwise each kind of job that ever passed would be kept for ever."""
    everything = pairs({"Pool": [str(n) for n in range(50)]})
    for n in range(50):
        replica.enqueue(f"action {n}", needs={"Pool": [str(n)]})
    assert len(replica.engine.waiting.candidates("", everything)) == 50
    session = other.open(capacity=50)
    other.look()
    jobs = {tell.job_name: success() for tell in other.sync(session, offer=everything).leases}
    assert len(jobs) == 50
    other.sync(session, offer=everything, reports=jobs)
    replica.look()
    assert replica.engine.waiting.candidates("", everything) == set()
