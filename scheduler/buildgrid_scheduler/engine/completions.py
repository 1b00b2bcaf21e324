"""Tells of jobs that came to their ends: once for each, whoever ended it, and only if that is committed.

A transaction notes in its Effects which jobs it completes. They are told of once it is committed. When nobody
heard whether it was, they are in doubt: a job is completed once and for all, so if it is complete in the
database as of the very time that the transaction gave it, that transaction was committed; with another time,
it was somebody else's, who tells of it. This costs a transaction that goes well nothing.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from buildgrid_scheduler.core.completed_job import CompletedJob
from buildgrid_scheduler.engine.items import Call, Effects
from buildgrid_scheduler.notifier.delivery import Ticket
from buildgrid_scheduler.store.hot_connection import Statements

log = logging.getLogger(__name__)

Listener = Callable[[Sequence[CompletedJob]], None]
"""Called on the engine's threads: must not block."""

DOUBT_FOR = timedelta(minutes=1)
"""So long a commit whose answer was lost may still be under way on a server that has not noticed yet."""
_ENDS = "SELECT name, completed_at FROM jobs WHERE name = ANY(%s) AND completed_at IS NOT NULL"


@dataclass(frozen=True, slots=True)
class _Doubt:
    job: CompletedJob
    since: datetime


class Completions:
    """Thread-safe."""

    def __init__(self, submit: Callable[[Call[Any]], None]) -> None:
        """`submit`: hands a transaction to the engine."""
        self._submit = submit
        self._listeners: list[Listener] = []
        self._lock = threading.Lock()
        self._doubts: dict[tuple[str, datetime], _Doubt] = {}
        """by job and time of completion"""

    def listen(self, listener: Listener) -> None:
        """Tell this one, too. Before the engine is started."""
        self._listeners.append(listener)

    def tell(self, jobs: Sequence[CompletedJob]) -> None:
        """The ends of these jobs, of one transaction, are committed."""
        if not jobs:
            return
        if self._doubts:
            self._drop(jobs)
        for listener in self._listeners:
            try:
                listener(jobs)
            except Exception:  # what is committed must not look as if it had failed
                log.exception("the ends of %d jobs could not be told", len(jobs))

    def doubt(self, jobs: Sequence[CompletedJob], now: datetime) -> None:
        """Nobody knows whether the ends of these jobs are committed."""
        with self._lock:
            for job in jobs:
                self._doubts.setdefault((job.name, job.completed_at), _Doubt(job, now))

    def clear_up(self) -> None:
        """The database can be reached: let it say what became of those in doubt, if there are any."""
        if self._doubts:
            self._submit(Call(Ticket(), self._ask))

    def stop(self) -> None:
        """There are no further transactions."""
        if self._doubts:
            log.warning("nobody was told of %d jobs that may be complete", len(self._doubts))

    def _drop(self, jobs: Iterable[CompletedJob]) -> None:
        with self._lock:
            for job in jobs:
                self._doubts.pop((job.name, job.completed_at), None)

    def _ask(self, db: Statements, now: datetime, effects: Effects) -> None:
        """What is found is told of as if this transaction had completed it: in doubt until then."""
        with self._lock:
            asked = list(self._doubts.values())
        ends: dict[str, datetime] = dict(db.rows(_ENDS, ([doubt.job.name for doubt in asked],)))
        effects.completed += [d.job for d in asked if ends.get(d.job.name) == d.job.completed_at]
        self._drop(d.job for d in asked if _came_to_nothing(d, ends.get(d.job.name), now))


def _came_to_nothing(doubt: _Doubt, end: datetime | None, now: datetime) -> bool:
    return now - doubt.since > DOUBT_FOR if end is None else end != doubt.job.completed_at
