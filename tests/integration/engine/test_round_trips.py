"""What a round of the hot path costs: statements, and how often their answers are waited for.

Drains, suspects and capacity classes cost nothing where there are none.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from buildgrid_scheduler.engine.draining import drain_when_idle
from buildgrid_scheduler.store.hot_connection import Statements

from tests.integration.engine.faults import WRITER
from tests.integration.engine.replica import ACTIVE, Replica, Report, success


@dataclass
class Cost:
    """Of what the writer has done since it was reset."""

    statements: list[str] = field(default_factory=list)
    waits: int = 0

    def of(self, action: Callable[[], Any]) -> tuple[int, int]:
        """Statements, and waits before the commit."""
        self.statements.clear()
        self.waits = 0
        action()
        return len(self.statements), self.waits


@pytest.fixture
def cost(monkeypatch: pytest.MonkeyPatch, replica: Replica) -> Iterator[Cost]:
    replica.engine.news.peers = False
    cost = Cost()
    execute, fetch = Statements.execute, psycopg.Cursor._fetch_pipeline

    def counted(self: Statements, statement: str, parameters: Any = None) -> Any:
        if threading.current_thread().name == WRITER:
            cost.statements.append(statement)
        return execute(self, statement, parameters)

    def waited(self: Any) -> None:
        if threading.current_thread().name == WRITER and self.pgresult is None:
            cost.waits += 1
        fetch(self)

    with monkeypatch.context() as patch:
        patch.setattr(Statements, "execute", counted)
        patch.setattr(psycopg.Cursor, "_fetch_pipeline", waited)
        yield cost


LOCK_AND_REFRESH = 3
"""The rows of the sessions, those of their leases, and the sessions again."""
RAISED = 1
"""The priority of a job that a client shares."""
CLAIM, TOLD, DONE = 1, 1, 4
"""Waiting jobs; a state of leases; jobs, in_flight, the action cache and leases, at completion."""


def test_an_ordinary_round_looks_at_sessions_and_leases_once_and_writes_all_at_once(
    replica: Replica, cost: Cost
) -> None:
    session = replica.open()
    assert cost.of(lambda: replica.sync(session)) == (LOCK_AND_REFRESH, 1)
    first = replica.enqueue("first").job_name
    assert cost.of(lambda: replica.enqueue("second")) == (1, 1)
    assert cost.of(lambda: replica.enqueue("second")) == (1 + RAISED, 1)
    assert cost.of(lambda: replica.sync(session)) == (LOCK_AND_REFRESH + CLAIM, 2)
    started = {first: Report(ACTIVE)}
    assert cost.of(lambda: replica.sync(session, reports=started)) == (LOCK_AND_REFRESH + TOLD, 1)
    done = {first: success()}
    assert cost.of(lambda: replica.sync(session, reports=done)) == (LOCK_AND_REFRESH + DONE + CLAIM, 2)


@pytest.mark.parametrize("disrupted", [True, False])
def test_a_drained_bot_costs_nothing_more(replica: Replica, cost: Cost, disrupted: bool) -> None:
    session = replica.open()
    replica.call(drain_when_idle("", ["bot"], disrupted=disrupted))
    replica.enqueue("action")
    assert cost.of(lambda: replica.sync(session)) == (LOCK_AND_REFRESH, 1)


def test_a_bot_with_a_class_costs_nothing_more(replica: Replica, cost: Cost) -> None:
    session = replica.open(capacity_class="spot")
    replica.enqueue("action")
    assert cost.of(lambda: replica.sync(session)) == (LOCK_AND_REFRESH + CLAIM, 2)


def test_only_a_bot_with_several_slots_asks_twice_while_suspects_wait(replica: Replica, cost: Cost) -> None:
    replica.enqueue("greedy")
    victim = replica.open("victim", capacity=2)
    (tell,) = replica.sync(victim, "victim").leases
    replica.sync(victim, "victim", reports={tell.job_name: Report(ACTIVE)})
    replica.close(victim)
    for n in range(5):
        replica.enqueue(f"urgent {n}", priority=-1)
    single, several = replica.open("single"), replica.open("several", capacity=3)
    assert cost.of(lambda: replica.sync(single, "single")) == (LOCK_AND_REFRESH + CLAIM, 2)
    assert cost.of(lambda: replica.sync(several, "several")) == (LOCK_AND_REFRESH + 2 * CLAIM, 3)
