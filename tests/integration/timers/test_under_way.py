"""Timers of two replicas at once, among bots that complete and clients that cancel and ask again."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from buildgrid_scheduler.core.errors import DataLoss, InvalidArgument, NotFound
from buildgrid_scheduler.engine.abandoned import cancel_abandoned, note_followed
from buildgrid_scheduler.engine.expiring import end_overlong, end_unserved
from buildgrid_scheduler.engine.items import Effects
from buildgrid_scheduler.engine.pruning import prune
from buildgrid_scheduler.store.hot_connection import DatabaseBusyError, HotConnection, Statements
from buildgrid_scheduler.store.provider import SqlProvider

from tests.integration.engine.replica import (
    ACTIVE,
    CANCELLED,
    Replica,
    Report,
    check_invariants,
    counts,
    success,
)
from tests.integration.engine.replica import result as result_of
from tests.integration.timers.jobs import POLICY, Transaction, one

ACTIONS = 60
CALLS = 80
LIMIT = timedelta(minutes=10)


@contextmanager
def no_deadlocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fails if a transaction had to be run again: with this order of locks there are no deadlocks."""
    real, busy = HotConnection.transaction, []

    def transaction(connection: HotConnection, body: Callable[[Statements], Any]) -> Any:
        try:
            return real(connection, body)
        except DatabaseBusyError as error:
            busy.append(error)
            raise

    with monkeypatch.context() as patch:
        patch.setattr(HotConnection, "transaction", transaction)
        yield
    assert not busy


class Crowd:
    """Threads that do things at the same time."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []
        self._together = threading.Event()
        self._lock = threading.Lock()
        self._busy = 0

    def add(self, act: Callable[[], object], *, background: bool = False) -> None:
        """Let a thread do this; one in the `background` goes on as long as others are `busy`."""

        def run() -> None:
            self._together.wait(30)
            try:
                act()
            except BaseException as error:  # noqa: BLE001 - raised again by `go`
                self._errors.append(error)
            finally:
                with self._lock:
                    self._busy -= not background

        self._busy += not background
        self._threads.append(threading.Thread(target=run))

    def busy(self) -> bool:
        """Whether somebody who is not in the background is not done yet."""
        return self._busy > 0

    def go(self) -> None:
        """Let all run to their ends."""
        for thread in self._threads:
            thread.start()
        self._together.set()
        for thread in self._threads:
            thread.join(90)
        if self._errors:
            raise self._errors[0]
        assert not any(thread.is_alive() for thread in self._threads)


def bot_life(replica: Replica, bot_id: str, chance: random.Random) -> None:
    """Take what there is, begin it, and complete most of it."""
    session = replica.open(bot_id, capacity=3)
    reports: dict[str, Report] = {}
    for _ in range(CALLS):
        try:
            answer = result_of(replica.submitted_sync(session, bot_id, reports=reports))
        except (DataLoss, InvalidArgument):
            return
        reports = {}
        for tell in answer.leases:
            if tell.state is CANCELLED:
                reports[tell.job_name] = Report(CANCELLED)
            else:
                reports[tell.job_name] = chance.choice([Report(ACTIVE), success()])


def as_if_followed(operation: str) -> Transaction[None]:
    """Make it an operation of the Execution service; it may have been pruned."""

    def transaction(db: Statements, now: datetime, effects: Effects) -> None:
        db.execute("UPDATE operations SET watched_at = created_at WHERE name = %s", (operation,))

    return transaction


def client_life(replica: Replica, chance: random.Random) -> None:
    """Ask for actions, others ask for too; cancel some, follow some."""
    operations: list[str] = []
    for _ in range(ACTIONS):
        word = f"action {chance.randrange(ACTIONS // 2)}"
        operations.append(replica.enqueue(word, do_not_cache=chance.random() < 0.1).operation_name)
        replica.call(as_if_followed(operations[-1]))
        if chance.random() < 0.3:
            try:
                replica.cancel(chance.choice(operations))
            except NotFound:  # pruned
                operations.clear()
        if operations:
            replica.call(note_followed(chance.sample(operations, min(5, len(operations)))))


def timer_life(replica: Replica, done: Counter[str], busy: Callable[[], bool]) -> None:
    """All timers, again and again, while time flies; `done` counts what they did."""
    while busy():
        replica.clock.advance(LIMIT / 2)
        done["overlong"] += replica.call(end_overlong(LIMIT, at_once=3, policy=POLICY))
        done["unserved"] += replica.call(end_unserved(LIMIT, at_once=3, policy=POLICY))
        done["abandoned"] += replica.call(cancel_abandoned(LIMIT / 2, page=50, at_once=3)).cancelled
        done["pruned"] += replica.call(prune(LIMIT * 3, at_once=5))


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_lost_or_done_by_halves_and_nobody_stands_in_anybodys_way(
    replica: Replica, other: Replica, provider: SqlProvider, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    crowd, done = Crowd(), Counter[str]()
    for number, where in enumerate((replica, other)):
        crowd.add(partial(bot_life, where, f"bot {number}", random.Random(seed + number)))
        crowd.add(partial(client_life, where, random.Random(seed * 100 + number)))
        crowd.add(partial(timer_life, where, done, crowd.busy), background=True)
    with no_deadlocks(monkeypatch):
        crowd.go()
    check_invariants(provider)
    assert done.total() > 0, "the timers had nothing to do"


def test_two_replicas_share_the_work_and_each_job_is_ended_once(
    replica: Replica, other: Replica, provider: SqlProvider
) -> None:
    for number in range(100):
        replica.enqueue(f"action {number}")
    replica.clock.advance(LIMIT * 2)
    done: list[int] = []

    def ends(where: Replica) -> None:
        while number := where.call(end_unserved(LIMIT, at_once=7, policy=POLICY)):
            done.append(number)

    crowd = Crowd()
    for where in (replica, other):
        crowd.add(partial(ends, where))
    crowd.go()
    ends(replica)
    assert sum(done) == 100
    assert counts(provider, "queue") == 0
    assert one(provider, "SELECT count(*) FROM jobs WHERE status_code = 14") == 100
