"""How many jobs are in each stage, for those who publish it."""

import threading
from datetime import datetime, timedelta
from typing import TypedDict

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from buildgrid_scheduler.core.clock import Clock, utc_now
from buildgrid_scheduler.core.errors import Unavailable
from buildgrid_scheduler.core.job_state import Stage
from buildgrid_scheduler.store.provider import SqlProvider

PUBLISH_INTERVAL = timedelta(seconds=300)
NO_LABEL = "unknown"

# Only the narrow tables of what is not finished are counted; `jobs` may be large.
_COUNT = text("""
SELECT false AS told, property_label AS label, count(*) AS jobs FROM queue
WHERE instance_name = :instance GROUP BY property_label
UNION ALL
SELECT told_at IS NOT NULL, property_label, count(*) FROM leases
WHERE instance_name = :instance AND state <> 5 GROUP BY told_at IS NOT NULL, property_label
""")


class SchedulerMetrics(TypedDict):
    """`jobs`: how many are not finished, by (name of the stage, property label)."""

    jobs: dict[tuple[str, str], int]


class JobMetrics:
    """Counts the jobs of an instance, at most once per interval. Safe from any thread."""

    def __init__(
        self, provider: SqlProvider, *, interval: timedelta = PUBLISH_INTERVAL, clock: Clock = utc_now
    ) -> None:
        self._provider = provider
        self._interval = interval
        self._clock = clock
        self._lock = threading.Lock()
        self._published: dict[str, datetime] = {}

    def publish(self, instance: str) -> SchedulerMetrics | None:
        """The counts; None when this instance's were given within the interval.

        Every unfinished stage is there for every label that has jobs, and for `unknown`; zeros, too. Raises
        Unavailable while the database is away: the next call tries again.
        """
        now = self._clock()
        with self._lock:
            before = self._published.get(instance)
            if before is not None and timedelta(0) <= now - before < self._interval:
                return None
            self._published[instance] = now
        try:
            return {"jobs": self._count(instance)}
        except (DBAPIError, Unavailable) as error:
            with self._lock:
                self._published.pop(instance, None)
            raise Unavailable("the database cannot be reached; try again") from error

    def _count(self, instance: str) -> dict[tuple[str, str], int]:
        with self._provider.session() as session:
            rows = session.execute(_COUNT, {"instance": instance}).all()
        labels = {NO_LABEL, *(row.label for row in rows)}
        counts = {(s.name, label): 0 for label in sorted(labels) for s in Stage if s is not Stage.COMPLETED}
        for row in rows:
            # A lease that its bot was not told of waits, as its clients see it.
            counts[(Stage.EXECUTING if row.told else Stage.QUEUED).name, row.label] += row.jobs
        return counts
