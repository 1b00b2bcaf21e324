"""Whoever takes note of ends hears of each once, however the job ended, and of none that is not committed."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import pytest
from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb2
from buildgrid_scheduler.core.attempts import AttemptLimits
from buildgrid_scheduler.core.completed_job import CompletedJob
from buildgrid_scheduler.core.completion import code_name
from buildgrid_scheduler.core.errors import Unavailable
from buildgrid_scheduler.core.job_state import Stage
from buildgrid_scheduler.engine.completions import DOUBT_FOR
from buildgrid_scheduler.engine.expiring import end_unserved
from buildgrid_scheduler.server.metrics.engine import EngineMetrics
from buildgrid_scheduler.store.provider import SqlProvider
from prometheus_client import CollectorRegistry

from tests.integration.engine.conftest import StartReplica
from tests.integration.engine.ends import LIMIT, WAYS, Way, brought_to_its_end
from tests.integration.engine.faults import (
    ERRANDS,
    WRITER,
    every_first_try_fails,
    first_run_in_vain,
)
from tests.integration.engine.replica import (
    ACTIVE,
    CANCELLED,
    LONGEST_PAUSE,
    Replica,
    Report,
    digest_of,
    failure,
    success,
)

ONCE = AttemptLimits(max_job_attempts=1, max_infra_attempts=1)
FAULTS = ["none", "rolled back", "commit unheard"]


@dataclass
class Ear:
    """Takes note."""

    heard: list[CompletedJob] = field(default_factory=list)

    def __call__(self, jobs: Sequence[CompletedJob]) -> None:
        assert jobs, "nothing is not told"
        self.heard += jobs

    @property
    def names(self) -> list[str]:
        return [job.name for job in self.heard]


@pytest.fixture
def once(start_replica: StartReplica) -> Replica:
    """A replica that tries each job once."""
    return start_replica(limits=ONCE)


@pytest.fixture
def ear(once: Replica) -> Ear:
    return listening(once)


def listening(replica: Replica) -> Ear:
    ear = Ear()
    replica.engine.completions.listen(ear)
    return ear


def fault(monkeypatch: pytest.MonkeyPatch, kind: str) -> AbstractContextManager[None]:
    if kind == "none":
        return nullcontext()
    return every_first_try_fails(monkeypatch, committed=kind == "commit unheard")


def sessions(provider: SqlProvider) -> list[str]:
    with provider.connect() as connection:
        return [name for (name,) in connection.execute("SELECT name FROM bots").fetchall()]


def ended_by_a_server_that_has_not_noticed_yet(replica: Replica) -> CompletedJob:
    """That the connection is lost: the commit is still under way."""
    enqueued = replica.enqueue("action")
    response = re_pb2.ExecuteResponse().SerializeToString()
    digest = digest_of("action")
    job = CompletedJob(enqueued.job_name, "", digest, "unknown", response, 0, replica.clock())
    replica.engine.completions.doubt([job], replica.clock())
    return job


def complete(provider: SqlProvider, job: CompletedJob) -> None:
    with provider.connect() as connection:
        connection.execute(
            "UPDATE jobs SET completed_at = %s, response = %s, status_code = 0 WHERE name = %s",
            (job.completed_at, job.response, job.name),
        )
        connection.execute("DELETE FROM queue")
        connection.execute("DELETE FROM in_flight")


@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
def test_the_metric_counts_each_end_by_its_status(provider: SqlProvider, way: Way) -> None:
    registry = CollectorRegistry()
    replica = Replica(provider, limits=ONCE, observer=EngineMetrics(registry))
    enqueued = replica.enqueue("action")
    brought_to_its_end(replica, enqueued, way)()
    replica.settle()
    replica.stop()
    (metric,) = [m for m in registry.collect() if m.name == "buildgrid_jobs_completed"]
    counted = {s.labels["code"]: s.value for s in metric.samples if s.name.endswith("_total")}
    assert counted == {code_name(way.code): 1}


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))
def test_each_end_is_told_once(
    once: Replica, ear: Ear, monkeypatch: pytest.MonkeyPatch, way: Way, kind: str
) -> None:
    enqueued = once.enqueue("action", label="linux")
    step = brought_to_its_end(once, enqueued, way)
    assert ear.heard == []
    with fault(monkeypatch, kind):
        step()
        once.settle()
    once.look()
    once.settle()
    assert once.stage(enqueued.operation_name) is Stage.COMPLETED
    (told,) = ear.heard
    assert (told.name, told.instance, told.action_digest) == (enqueued.job_name, "", digest_of("action"))
    assert (told.property_label, told.status_code, told.cancelled) == ("linux", way.code, way.cancelled)
    answer = once.response(enqueued.operation_name)
    assert answer == re_pb2.ExecuteResponse.FromString(told.response)
    assert answer.status.code == way.code
    assert answer.HasField("result") == way.has_result


def test_the_result_for_a_cache_elsewhere_is_told_with_the_end(
    once: Replica, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = brought_to_its_end(once, once.enqueue("action"), WAYS["its bot succeeds"])
    with fault(monkeypatch, "commit unheard"):
        step()
    once.look()
    (told,) = ear.heard
    assert told.cache_entry is not None
    assert re_pb2.ActionResult.FromString(told.cache_entry).exit_code == 0


def test_what_is_tried_again_has_not_ended(replica: Replica) -> None:
    ear = listening(replica)
    replica.enqueue("action")
    session = replica.open()
    for _ in range(2):
        job = replica.take(session)
        replica.sync(session, reports={job: failure()}, offer=None)
        replica.clock.advance(LONGEST_PAUSE)
    replica.take(session)
    replica.close(session)
    replica.settle()
    assert ear.heard == []


def test_what_is_born_complete_was_not_executed(once: Replica, ear: Ear) -> None:
    cached = re_pb2.ExecuteResponse(cached_result=True).SerializeToString()
    once.enqueue("action", response=cached)
    once.settle()
    assert ear.heard == []


def test_an_operation_of_several_that_is_cancelled_ends_nothing(once: Replica, ear: Ear) -> None:
    first, second = once.enqueue("action"), once.enqueue("action")
    assert first.job_name == second.job_name
    once.cancel(first.operation_name)
    once.settle()
    assert ear.heard == []


@pytest.mark.parametrize("name", ["it executes for too long", "its client cancels it while it runs"])
def test_what_the_bot_still_says_of_it_is_no_further_end(once: Replica, ear: Ear, name: str) -> None:
    enqueued = once.enqueue("action")
    brought_to_its_end(once, enqueued, WAYS[name])()
    session = sessions(once.provider)[0]
    (tell,) = once.sync(session, reports={enqueued.job_name: Report(ACTIVE)}).leases
    assert tell.state is CANCELLED
    once.sync(session, reports={enqueued.job_name: success()})
    once.settle()
    assert ear.names == [enqueued.job_name]


def test_all_ends_of_a_batch_are_told(once: Replica, ear: Ear) -> None:
    jobs = [once.enqueue(f"action {n}").job_name for n in range(5)]
    once.clock.advance(2 * LIMIT)
    once.call(end_unserved(LIMIT, at_once=3, policy=once.engine.policy))
    once.call(end_unserved(LIMIT, at_once=3, policy=once.engine.policy))
    once.settle()
    assert sorted(ear.names) == sorted(jobs)


# --- commits that nobody heard of


def test_an_end_whose_caller_was_told_that_it_failed_is_told_all_the_same(
    start_replica: StartReplica, monkeypatch: pytest.MonkeyPatch
) -> None:
    impatient = start_replica(patience=0.0)
    ear = listening(impatient)
    enqueued = impatient.enqueue("action")
    step = brought_to_its_end(impatient, enqueued, WAYS["its bot succeeds"])
    with (
        first_run_in_vain(monkeypatch, lambda: None, committed=True, thread=WRITER),
        pytest.raises(Unavailable),
    ):
        step()
    assert ear.heard == []
    impatient.look()
    impatient.settle()
    assert ear.names == [enqueued.job_name]


def test_an_end_that_came_to_nothing_is_told_by_whoever_brings_it_about(
    once: Replica, other: Replica, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction was rolled back, which nobody heard of; the bot calls another replica."""
    there = listening(other)
    enqueued = once.enqueue("action")
    step = brought_to_its_end(once, enqueued, WAYS["its bot succeeds"])
    session = sessions(once.provider)[0]

    def the_bot_calls_elsewhere() -> None:
        other.sync(session, reports={enqueued.job_name: success()}, offer=None)

    with first_run_in_vain(monkeypatch, the_bot_calls_elsewhere, committed=False, thread=WRITER):
        step()
    once.look()
    once.settle()
    assert there.names == [enqueued.job_name]
    assert ear.heard == []


def test_an_end_that_is_still_under_way_is_told_when_it_is_there(once: Replica, ear: Ear) -> None:
    job = ended_by_a_server_that_has_not_noticed_yet(once)
    once.look()
    assert ear.heard == []
    complete(once.provider, job)
    once.look()
    once.look()
    assert ear.heard == [job]


def test_an_end_that_does_not_come_is_not_waited_for_for_ever(once: Replica, ear: Ear) -> None:
    job = ended_by_a_server_that_has_not_noticed_yet(once)
    once.clock.advance(DOUBT_FOR * 2)
    once.look()
    complete(once.provider, job)
    once.look()
    assert ear.heard == []


def test_the_question_may_go_unheard_too(once: Replica, ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    job = ended_by_a_server_that_has_not_noticed_yet(once)
    complete(once.provider, job)
    for committed in (True, False):
        with first_run_in_vain(monkeypatch, lambda: None, committed=committed, thread=ERRANDS):
            once.look()
    once.settle()
    assert ear.heard == [job]


def test_an_ear_that_fails_fails_nobody_else(
    once: Replica, ear: Ear, caplog: pytest.LogCaptureFixture
) -> None:
    def deaf(jobs: object) -> None:
        raise RuntimeError("I hear nothing")

    once.engine.completions.listen(deaf)
    second = listening(once)
    enqueued = once.enqueue("action")
    brought_to_its_end(once, enqueued, WAYS["its bot succeeds"])()
    assert ear.names == second.names == [enqueued.job_name]
    assert "I hear nothing" in caplog.text
