"""What the scheduler's database has of jobs: how often each was tried, and who ran it when."""

import json
from dataclasses import dataclass

from tests.cluster.images.installation import RELEASE, Installation

_JOBS = """
SELECT coalesce(json_agg(found ORDER BY queued), '[]') FROM (
  SELECT name, extract(epoch FROM queued_at) AS queued, extract(epoch FROM worker_start_at) AS started,
    extract(epoch FROM completed_at) AS completed, worker_name AS bot, status_code AS status,
    n_tries - 1 AS retries, n_infra_tries AS losses,
    coalesce(jsonb_array_length(attempts), 0) AS earlier, cancelled
  FROM jobs WHERE queued_at >= to_timestamp({since})) found
"""


@dataclass(frozen=True, slots=True)
class Job:
    """Times are seconds since the epoch, by the clock of the database; that of `started` by the bot's."""

    name: str
    queued: float
    started: float | None
    completed: float | None
    bot: str | None
    status: int | None
    """the gRPC code that clients were told"""
    retries: int
    """attempts that may have failed by the action's doing"""
    losses: int
    """attempts that cannot have"""
    earlier: int
    """attempts before the last one"""
    cancelled: bool

    @property
    def ran_once(self) -> bool:
        """It ended well, at the first attempt."""
        return self.status == 0 and not (self.retries or self.losses or self.earlier or self.cancelled)


def database_now(installation: Installation) -> float:
    """Seconds since the epoch by the clock of the database."""
    return float(_query(installation, "SELECT extract(epoch FROM now())"))


def jobs_since(installation: Installation, since: float) -> list[Job]:
    """All jobs that were queued then or later, oldest first."""
    return [Job(**each) for each in json.loads(_query(installation, _JOBS.format(since=since)))]


def _query(installation: Installation, statement: str) -> str:
    return installation.run("exec", f"{RELEASE}-postgresql-0", "--", "psql", "-Atc", statement)
