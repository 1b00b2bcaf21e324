"""What replicas add up of the jobs that they see, and write down together."""

from datetime import timedelta

import pytest
from buildgrid_scheduler.core.attempts import AttemptLimits
from buildgrid_scheduler.core.requirement_figures import Figures, Sums
from buildgrid_scheduler.core.requirements import requirement_hash
from buildgrid_scheduler.engine import figures
from buildgrid_scheduler.engine.figures import Key, RequirementSums
from buildgrid_scheduler.fleet.estimates import add_figures, estimates_of

from tests.integration.engine.conftest import StartReplica
from tests.integration.engine.ends import WAYS, Way, brought_to_its_end
from tests.integration.engine.faults import every_first_try_fails
from tests.integration.engine.replica import (
    ACTIVE,
    LONGEST_PAUSE,
    Replica,
    Report,
    enqueue,
    failure,
    result,
    success,
)

ANY: Key = ("", requirement_hash({}))
ONCE = AttemptLimits(max_job_attempts=1, max_infra_attempts=1)
TEN_SECONDS = timedelta(seconds=10)


def observed(replica: Replica) -> RequirementSums:
    sums = RequirementSums()
    replica.engine.observe_work(sums)
    return sums


@pytest.fixture
def sums(replica: Replica) -> RequirementSums:
    return observed(replica)


def finish(replica: Replica, session: str, job: str, after: timedelta = TEN_SECONDS) -> None:
    replica.clock.advance(after)
    replica.sync(session, reports={job: success()}, offer=None)


def write_down(replica: Replica, sums: RequirementSums) -> None:
    with replica.provider.session() as session:
        sums.learn(add_figures(session, sums.take()))


def test_a_job_counts_when_it_comes_and_when_it_is_done(replica: Replica, sums: RequirementSums) -> None:
    replica.enqueue("action")
    assert sums.take() == {ANY: Sums(arrived=1)}
    session = replica.open()
    replica.clock.advance(timedelta(hours=1))  # waiting is no part of the duration
    job = replica.take(session)
    replica.sync(session, reports={job: Report(ACTIVE)})
    finish(replica, session, job)
    (seen,) = sums.take().values()
    assert (seen.arrived, seen.finished) == (0, 1)
    assert seen.seconds == pytest.approx(10, abs=0.01)
    assert seen.seconds_squared == pytest.approx(100, abs=0.1)
    assert sums.take() == {}


def test_each_instance_and_requirement_counts_for_itself(replica: Replica, sums: RequirementSums) -> None:
    gpu = {"Pool": ["gpu"]}
    replica.enqueue("first")
    replica.enqueue("second", needs=gpu)
    replica.enqueue("third", needs=gpu)
    replica.enqueue("fourth", needs=gpu, instance="other")
    hash_ = requirement_hash(gpu)
    assert {key: seen.arrived for key, seen in sums.take().items()} == {
        ANY: 1,
        ("", hash_): 2,
        ("other", hash_): 1,
    }


def test_what_shares_a_job_or_is_born_complete_does_not_come(replica: Replica, sums: RequirementSums) -> None:
    replica.enqueue("action")
    assert replica.enqueue("action").shared
    replica.enqueue("cached", response=b"")
    assert sums.take() == {ANY: Sums(arrived=1)}


@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
def test_only_an_attempt_that_ended_ok_tells_how_long_jobs_take(
    start_replica: StartReplica, way: Way
) -> None:
    replica = start_replica(limits=ONCE)
    sums = observed(replica)
    brought_to_its_end(replica, replica.enqueue("action"), way)()
    replica.settle()
    (seen,) = sums.take().values()
    assert (seen.arrived, seen.finished) == (1, int(way.has_result))


def test_a_job_that_fails_and_is_tried_again_comes_once(replica: Replica, sums: RequirementSums) -> None:
    replica.enqueue("action")
    session = replica.open()
    job = replica.take(session)
    replica.clock.advance(timedelta(hours=1))
    replica.sync(session, reports={job: failure()}, offer=None)
    replica.clock.advance(LONGEST_PAUSE)
    assert replica.take(session) == job
    finish(replica, session, job)
    (seen,) = sums.take().values()
    assert (seen.arrived, seen.finished) == (1, 1)
    assert seen.seconds == pytest.approx(10, abs=0.01), "of the attempt that completed it"


def test_a_suspect_counts_as_what_it_requires(replica: Replica, sums: RequirementSums) -> None:
    replica.enqueue("action")
    victim = replica.open("victim", capacity=2)
    (tell,) = replica.sync(victim, "victim").leases
    replica.sync(victim, "victim", reports={tell.job_name: Report(ACTIVE)})
    replica.close(victim)
    session = replica.open()
    finish(replica, session, replica.take(session))
    assert {key: seen.finished for key, seen in sums.take().items()} == {ANY: 1}


@pytest.mark.parametrize("committed", [True, False], ids=["commit unheard", "rolled back"])
def test_a_transaction_that_is_run_twice_counts_once_at_most(
    replica: Replica, sums: RequirementSums, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    session = replica.open()
    with every_first_try_fails(monkeypatch, committed=committed):
        replica.enqueue("action")
        job = replica.take(session)
        finish(replica, session, job)
    # Nobody heard of the commits: that is not known here, and it is only an estimate.
    assert {key: (seen.arrived, seen.finished) for key, seen in sums.take().items()} == (
        {} if committed else {ANY: (1, 1)}
    )


def test_replicas_know_together_what_each_saw_and_a_new_one_too(replica: Replica, other: Replica) -> None:
    mine, theirs = observed(replica), observed(other)
    session = replica.open()
    for word in ("first", "second"):
        other.enqueue(word)
        finish(replica, session, replica.take(session))
    write_down(other, theirs)
    write_down(replica, mine)
    with replica.provider.session() as database:
        before = estimates_of(database, [ANY])[ANY]
    assert before.duration == pytest.approx(TEN_SECONDS, abs=timedelta(seconds=0.01))
    assert before.arrival_rate > 0
    write_down(replica, RequirementSums())
    with replica.provider.session() as database:
        assert estimates_of(database, [ANY])[ANY].duration == before.duration


def test_what_could_not_be_written_down_is_not_lost(replica: Replica, sums: RequirementSums) -> None:
    replica.enqueue("first")
    taken = sums.take()
    replica.enqueue("second")
    sums.put_back(taken)
    assert sums.take() == {ANY: Sums(arrived=2)}


def test_a_job_that_hung_counts_as_long_as_is_usual(replica: Replica, sums: RequirementSums) -> None:
    sums.learn({ANY: Figures(0, 50, 500, 5000)})
    longest = Figures(0, 50, 500, 5000).longest_counted
    session = replica.open()
    replica.enqueue("action")
    finish(replica, session, replica.take(session), timedelta(hours=2))
    (seen,) = sums.take().values()
    assert seen.seconds == longest < 100


def test_clients_with_ever_new_requirements_do_not_fill_the_memory(
    replica: Replica, sums: RequirementSums, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "MAX_KEYS", 3)
    items = [enqueue(str(number), needs={"Pool": [str(number)]}) for number in range(5)]
    for item in items:
        replica.submit(item)
    for item in items:
        result(item)
    assert len(sums.take()) == 3
    replica.enqueue("later")
    assert len(sums.take()) == 1
