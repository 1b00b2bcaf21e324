"""Rounds of timers through the engine: bounded, heard of everywhere, and run by whoever calls the loops."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from buildgrid_scheduler.core.job_state import Stage
from buildgrid_scheduler.engine import timed_rounds
from buildgrid_scheduler.engine.following import Following
from buildgrid_scheduler.engine.timed_rounds import TimedRounds
from buildgrid_scheduler.facade.timer_methods import TimerMethods
from buildgrid_scheduler.notifier.listener import Listener
from buildgrid_scheduler.notifier.watches import Watch
from buildgrid_scheduler.store.provider import SqlProvider
from buildgrid_scheduler.timers.options import AgedJobHandlerOptions, TimerSettings
from buildgrid_scheduler.timers.timers import Timers
from google.rpc import code_pb2

from tests.farm.waiting import eventually_sync
from tests.integration.engine.faults import ERRANDS, first_commit_unheard
from tests.integration.engine.replica import KEEPALIVE, Replica, counts
from tests.integration.timers.jobs import left_alone, one, running

OFTEN = timedelta(milliseconds=10)
LIMIT = timedelta(hours=1)
WAIT = 30


class Scheduler(TimerMethods):
    """As much of a scheduler as these methods need."""

    def __init__(self, replica: Replica, settings: TimerSettings) -> None:
        following = Following(replica.engine.watches, replica.engine.submit)
        self.rounds = TimedRounds(replica.engine, following, settings)
        self.timers = Timers(self.rounds, settings)


def aged(window: int = 10_000) -> AgedJobHandlerOptions:
    return AgedJobHandlerOptions(LIMIT, OFTEN, window)


@contextmanager
def listening(replica: Replica) -> Iterator[None]:
    """The replica hears the others."""
    listener = Listener(replica.provider, replica.engine.news)
    listener.start()
    try:
        assert listener.heard_once.wait(WAIT)
        yield
    finally:
        listener.stop()


def test_a_round_handles_its_window_and_no_more(
    replica: Replica, provider: SqlProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timed_rounds, "JOBS_AT_ONCE", 3)
    scheduler = Scheduler(replica, TimerSettings(queue_timeout=aged(7), pruning=aged(5)))
    for number in range(10):
        replica.enqueue(f"action {number}")
    replica.clock.advance(LIMIT * 2)
    assert list(scheduler.rounds.queue_timeouts()) == [3, 3, 1]
    assert list(scheduler.rounds.queue_timeouts()) == [3, 0]
    replica.clock.advance(LIMIT * 2)
    assert list(scheduler.rounds.pruning()) == [3, 2]
    assert list(scheduler.rounds.pruning()) == [3, 2]
    assert counts(provider, "jobs") == 0


def test_a_round_keeps_to_its_window_when_a_commit_goes_unheard(
    replica: Replica, provider: SqlProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timed_rounds, "JOBS_AT_ONCE", 3)
    rounds = Scheduler(replica, TimerSettings(queue_timeout=aged(5))).rounds
    for number in range(10):
        replica.enqueue(f"action {number}")
    replica.clock.advance(LIMIT * 2)
    with first_commit_unheard(monkeypatch, ERRANDS):
        assert list(rounds.queue_timeouts()) == [3, 2]
    assert counts(provider, "queue") == 5


def test_without_options_a_round_does_nothing(replica: Replica) -> None:
    replica.enqueue("action")
    replica.clock.advance(timedelta(days=1000))
    rounds = Scheduler(replica, TimerSettings()).rounds
    for begin in (rounds.execution_timeouts, rounds.queue_timeouts, rounds.pruning):
        assert list(begin()) == []


def test_expired_sessions_are_closed_until_there_are_none(replica: Replica, provider: SqlProvider) -> None:
    for number in range(25):
        replica.open(f"bot {number}")
    replica.clock.advance(KEEPALIVE * 2)
    replica.open("lives")
    assert list(Scheduler(replica, TimerSettings()).rounds.expired_sessions()) == [10, 10, 5]
    assert counts(provider, "bots") == 1


@pytest.mark.parametrize("nothing", [None, 0, -5])
def test_jobs_are_ended_by_hand_after_the_given_seconds_and_none_without(
    replica: Replica, nothing: int | None
) -> None:
    scheduler = Scheduler(replica, TimerSettings())
    enqueued, _ = running(replica, "action")
    replica.clock.advance(timedelta(seconds=100))
    scheduler.cancel_jobs_exceeding_execution_timeout()
    scheduler.cancel_jobs_exceeding_execution_timeout(nothing)
    scheduler.cancel_jobs_exceeding_execution_timeout(max_execution_timeout=101)
    assert replica.stage(enqueued.operation_name) is Stage.EXECUTING
    scheduler.cancel_jobs_exceeding_execution_timeout(max_execution_timeout=99)
    answer = replica.response(enqueued.operation_name)
    assert answer is not None
    assert answer.status.code == code_pb2.DEADLINE_EXCEEDED


def test_the_execution_timer_adds_a_grace(replica: Replica) -> None:
    settings = TimerSettings(max_execution_timeout=LIMIT, execution_grace=timedelta(seconds=60))
    rounds = Scheduler(replica, settings).rounds
    running(replica, "action")
    replica.clock.advance(LIMIT + timedelta(seconds=59))
    assert sum(rounds.execution_timeouts()) == 0
    replica.clock.advance(timedelta(seconds=2))
    assert sum(rounds.execution_timeouts()) == 1


@pytest.mark.parametrize("loop", ["execution", "queue", "prune", "session_expiry"])
def test_a_caller_may_run_the_loops_itself(replica: Replica, provider: SqlProvider, loop: str) -> None:
    settings = TimerSettings(
        session_expiry_interval=0.01,
        execution_interval=0.01,
        max_execution_timeout=LIMIT,
        queue_timeout=aged(),
        pruning=aged(),
    )
    scheduler = Scheduler(replica, settings)
    running(replica, "runs")
    replica.enqueue("waits", needs={"Pool": ["none"]})
    replica.enqueue("is done", response=b"")
    replica.clock.advance(LIMIT * 2)
    done = {
        "execution": "SELECT EXISTS (SELECT FROM jobs WHERE command = 'runs' AND status_code = 4)",
        "queue": "SELECT EXISTS (SELECT FROM jobs WHERE command = 'waits' AND status_code = 14)",
        "prune": "SELECT NOT EXISTS (SELECT FROM jobs WHERE command = 'is done')",
        "session_expiry": "SELECT NOT EXISTS (SELECT FROM bots)",
    }
    shutdown_requested = threading.Event()
    run = getattr(scheduler, f"{loop}_timer_loop")
    thread = threading.Thread(target=run, args=(shutdown_requested,))
    thread.start()
    eventually_sync(lambda: bool(one(provider, done[loop])), WAIT, lambda: f"{loop}: nothing was done")
    shutdown_requested.set()
    thread.join(WAIT)
    assert not thread.is_alive()
    others = [query for name, query in done.items() if name != loop]
    assert not any(one(provider, query) for query in others)


@pytest.mark.parametrize("loop", ["execution", "queue", "prune", "session_expiry"])
def test_a_loop_without_options_returns_at_once(replica: Replica, loop: str) -> None:
    settings = TimerSettings(session_expiry_interval=0, execution_interval=10, max_execution_timeout=None)
    getattr(Scheduler(replica, settings), f"{loop}_timer_loop")(threading.Event())


@pytest.mark.parametrize("kind", ["execution", "queue", "abandoned"])
async def test_a_client_on_another_replica_hears_how_it_ended(
    replica: Replica, other: Replica, kind: str
) -> None:
    settings = TimerSettings(
        max_execution_timeout=LIMIT, queue_timeout=aged(), abandoned_operation_timeout=LIMIT
    )
    rounds = Scheduler(replica, settings).rounds
    if kind == "execution":
        enqueued, _ = running(replica, "action")
    else:
        enqueued = left_alone(replica, "action")
    watch = Watch(enqueued.operation_name)
    with listening(replica), listening(other):
        other.engine.watches.add(enqueued.job_name, watch)
        assert sum(rounds.abandoned_operations()) == 0
        watch.arm()
        for _ in range(5):  # regularly, so that what was not followed meanwhile is known to be abandoned
            replica.clock.advance(LIMIT / 3)
            if kind == "abandoned":
                sum(rounds.abandoned_operations())
        if kind == "execution":
            assert sum(rounds.execution_timeouts()) == 1
        elif kind == "queue":
            assert sum(rounds.queue_timeouts()) == 1
        assert await watch.changed(WAIT)
    loaded = await other.engine.load(watch.operation_name)
    assert loaded is not None
    assert loaded.state.stage is Stage.COMPLETED


def test_the_timers_of_a_replica_start_and_stop(replica: Replica, provider: SqlProvider) -> None:
    settings = TimerSettings(session_expiry_interval=0.01, queue_timeout=aged())
    scheduler = Scheduler(replica, settings)
    replica.open()
    replica.enqueue("action")
    replica.clock.advance(LIMIT * 2)
    scheduler.timers.start()
    gone = "SELECT NOT EXISTS (SELECT FROM bots) AND NOT EXISTS (SELECT FROM queue)"
    eventually_sync(lambda: bool(one(provider, gone)), WAIT, lambda: "the timers do nothing")
    scheduler.timers.stop()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("timer: ")]
