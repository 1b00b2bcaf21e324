"""Two transactions that meet: one is held open before each of its statements in turn while the other runs."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest
from buildgrid_scheduler.engine.items import WriteItem
from buildgrid_scheduler.store.provider import SqlProvider

from tests.integration.engine.faults import held_open
from tests.integration.engine.replica import PATIENCE, Replica, check_invariants

_WAITS_FOR_A_LOCK = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


@dataclass(frozen=True)
class Side:
    """A transaction, on a thread of a replica."""

    at: Replica
    item: WriteItem

    @property
    def thread(self) -> int:
        """Of the thread that will run it."""
        return self.at.thread_of(self.item)

    @property
    def over(self) -> bool:
        """Whether it has come to an end, or will only by another event."""
        return self.item.ticket.future.done() or self.at.holds(self.item)

    def outcome(self) -> Any:
        """What it came to: a value, or the error that its caller gets."""
        try:
            return self.item.ticket.future.result(PATIENCE)  # type: ignore[call-arg]
        except Exception as error:  # noqa: BLE001 - for the check
            return error


@dataclass(frozen=True)
class Meeting:
    """Two transactions, and what must hold afterwards."""

    one: Side
    other: Side
    check: Callable[[], None]


class Races:
    """Lets transactions meet."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, provider: SqlProvider) -> None:
        self._monkeypatch = monkeypatch
        self._provider = provider

    def in_every_order(self, scene: Callable[[str], Meeting], *, least: int = 3) -> None:
        """Either transaction is held open at each of its points while the other runs as far as it can.

        `scene` sets the stage, for an instance of its own. `least`: the points that there are at least.
        """
        numbers = count()
        for swapped in (False, True):
            for point in count():
                meeting = scene(f"race/{next(numbers)}")
                sides = (meeting.other, meeting.one) if swapped else (meeting.one, meeting.other)
                came = self._meet(*sides, point)
                meeting.check()
                check_invariants(self._provider)
                if not came:
                    break
            assert point >= least, f"a transaction of {point} steps was not held open at all of them"

    def _meet(self, held: Side, free: Side, point: int) -> bool:
        with held_open(self._monkeypatch, held.thread, point) as gate:
            held.at.submit(held.item)
            came = gate.reached_before(lambda: held.over)
            free.at.submit(free.item)
            self._until_over_or_stuck(free)
        self._until_over(held)
        self._until_over(free)
        return came

    def _until_over_or_stuck(self, side: Side) -> None:
        deadline = time.monotonic() + PATIENCE
        with self._provider.connect(autocommit=True) as connection:
            while not side.over:
                assert time.monotonic() < deadline, "it neither ends nor waits"
                row = connection.execute(_WAITS_FOR_A_LOCK).fetchone()
                if row is not None and row[0]:
                    return
                time.sleep(0.002)

    @staticmethod
    def _until_over(side: Side) -> None:
        deadline = time.monotonic() + PATIENCE
        while not side.over:
            assert time.monotonic() < deadline, "it does not end"
            time.sleep(0.002)
