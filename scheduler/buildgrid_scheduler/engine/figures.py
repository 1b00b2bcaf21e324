"""Adds up what the engine of this replica does, by what jobs require, until somebody writes it down."""

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING

from google.rpc import code_pb2

from buildgrid_scheduler.core.requirement_figures import Figures, Sums
from buildgrid_scheduler.core.suspects import plain_hash

if TYPE_CHECKING:
    from buildgrid_scheduler.engine.items import Effects
    from buildgrid_scheduler.engine.lease_ends import LeaseChanges
    from buildgrid_scheduler.engine.round import Round

Key = tuple[str, str]
"""Instance and requirement hash; suspects count under the plain one."""
MAX_KEYS = 10_000
"""Of these at most, so that clients with ever new requirements do not fill the memory."""


class RequirementSums:
    """A WorkObserver. It costs the hot path no statement, and of memory a few numbers for each requirement.

    Jobs arrive once, however often they wait again. Of durations only those of attempts count that ended OK,
    with whatever exit code: one that was lost, cancelled or refused says nothing of how long such jobs take.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: dict[Key, Sums] = {}
        self._longest: dict[Key, float] = {}
        """seconds, see Figures.longest_counted"""

    def round(self, work: "Round") -> None:
        """See WorkObserver."""
        if not work.new_jobs and not work.changes.completed:
            return
        with self._lock:
            for job in work.new_jobs:
                if (sums := self._of((job.instance, job.requirement_hash))) is not None:
                    sums.arrived += 1
            self._finish(work.changes)

    def errand(self, effects: "Effects") -> None:
        """See WorkObserver."""
        if effects.lease_changes:
            with self._lock:
                for changes in effects.lease_changes:
                    self._finish(changes)

    def take(self) -> Mapping[Key, Sums]:
        """What happened since the last time. Give it to `put_back` if it could not be written down."""
        with self._lock:
            taken, self._sums = self._sums, {}
        return taken

    def put_back(self, taken: Mapping[Key, Sums]) -> None:
        """It still waits to be written down."""
        with self._lock:
            for key, sums in taken.items():
                if (mine := self._of(key)) is not None:
                    mine.add(sums)

    def learn(self, figures: Mapping[Key, Figures]) -> None:
        """What is known of these now, of all replicas: which durations are out of the ordinary."""
        with self._lock:
            if len(self._longest) + len(figures) > MAX_KEYS:
                self._longest = {}
            self._longest.update({key: known.longest_counted for key, known in figures.items()})

    def _finish(self, changes: "LeaseChanges") -> None:
        for lease, end, _ in changes.completed:
            if end.status_code != code_pb2.OK or lease.told_at is None:
                continue
            key = (lease.instance, plain_hash(lease.requirement_hash))
            if (sums := self._of(key)) is not None:
                sums.finish(changes.now - lease.told_at, self._longest.get(key, float("inf")))

    def _of(self, key: Key) -> Sums | None:
        sums = self._sums.get(key)
        if sums is None and len(self._sums) < MAX_KEYS:
            sums = self._sums[key] = Sums()
        return sums
