"""Finished jobs, oldest first, in pages: the history of a farm, however long, in little memory."""

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg.errors import QueryCanceled
from sqlalchemy import bindparam, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.types import DateTime

from buildgrid_scheduler.core.errors import DeadlineExceeded, InvalidArgument, Unavailable
from buildgrid_scheduler.store.provider import SqlProvider

PAGE = 500
"""Jobs."""
_LEAST_OF_AN_INSTANCE = 20
"""that are read at once, where there are very many instances"""
STATEMENT_TIMEOUT = "10s"

# A range of ix_jobs_queued_at.
_READ = text("""
SELECT queued_at, name, completed_at - assigned_at, platform_requirements, property_label, priority,
       status_code
FROM jobs
WHERE instance_name = :instance AND completed_at IS NOT NULL
  AND queued_at >= coalesce(:start, '-infinity') AND queued_at < coalesce(:end, 'infinity')
  AND (queued_at, name) > (coalesce(:after, '-infinity'), :name)
ORDER BY queued_at, name LIMIT :limit
""").bindparams(
    *(bindparam(name, type_=DateTime(timezone=True)) for name in ("start", "end", "after")),
)


@dataclass(frozen=True, slots=True)
class FinishedJob:
    """A job that came to its end, in whatever way."""

    instance: str
    queued_at: datetime
    name: str
    duration: timedelta | None
    """from when the bot was told of it until it was complete; none: no bot ever had it"""
    requirements: Mapping[str, Sequence[str]]
    """key -> sorted values"""
    property_label: str
    priority: int
    status_code: int
    """google.rpc code of the answer"""


class FinishedJobs:
    """Reads a page at a time, each in a transaction of its own: what is read stays as short as that.

    For one reader. Jobs that finish, or are pruned, meanwhile may be in it or not.
    """

    def __init__(
        self,
        provider: SqlProvider,
        instances: Collection[str],
        start: datetime | None = None,
        end: datetime | None = None,
        *,
        page: int = PAGE,
    ) -> None:
        """Those queued from `start` on and before `end`. Raises InvalidArgument where that is backwards."""
        if start is not None and end is not None and start > end:
            raise InvalidArgument(
                f"start_time {start.isoformat()} is after end_time {end.isoformat()}; exchange the two"
            )
        self._provider = provider
        self._range = {"start": start, "end": end}
        self._page = page
        names = sorted(set(instances))
        self._at_once = max(_LEAST_OF_AN_INSTANCE, page // max(1, len(names)))
        self._read: dict[str, deque[FinishedJob]] = {name: deque() for name in names}
        """by instance, while there may be more of it"""
        self._after: dict[str, tuple[datetime, str]] = {}
        """the last one that was read, by instance"""

    def __iter__(self) -> Iterator[FinishedJob]:
        """All of them."""
        while page := self.page():
            yield from page

    def page(self) -> list[FinishedJob]:
        """The next ones, of all instances, by queued time; none: there are no more.

        Raises Unavailable while the database is away: the same call again is right. Raises DeadlineExceeded
        when a statement takes longer than STATEMENT_TIMEOUT.
        """
        self._refill()
        page: list[FinishedJob] = []
        # The oldest of those that are read is the next one as long as each instance has some, or has no more.
        while self._read and all(self._read.values()) and len(page) < self._page:
            oldest = min(self._read.values(), key=lambda jobs: (jobs[0].queued_at, jobs[0].instance))
            page.append(oldest.popleft())
        return page

    def _refill(self) -> None:
        wanted = [instance for instance, jobs in self._read.items() if not jobs]
        if not wanted:
            return
        try:
            with self._provider.session() as session:
                session.execute(text(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'"))
                found = {instance: self._more(session, instance) for instance in wanted}
        except DBAPIError as error:
            if isinstance(error.orig, QueryCanceled):
                raise DeadlineExceeded(
                    f"reading {self._at_once} finished jobs takes longer than {STATEMENT_TIMEOUT}; try again "
                    "when the database has less to do"
                ) from error
            raise Unavailable("the database cannot be reached; try again") from error
        for instance, jobs in found.items():
            if jobs:
                self._read[instance].extend(jobs)
                self._after[instance] = (jobs[-1].queued_at, jobs[-1].name)
            else:
                del self._read[instance]

    def _more(self, session: Session, instance: str) -> list[FinishedJob]:
        after, name = self._after.get(instance, (None, ""))
        values = {"instance": instance, "after": after, "name": name, "limit": self._at_once}
        return [
            FinishedJob(
                instance,
                queued_at,
                job,
                None if duration is None else max(duration, timedelta(0)),
                requirements,
                *others,
            )
            for queued_at, job, duration, requirements, *others in session.execute(
                _READ, values | self._range
            )
        ]
