"""Unfinished jobs by what they require of a bot."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.orm import Session

from buildgrid_scheduler.core.suspects import PREFIX

STATEMENT_TIMEOUT = "5s"


@dataclass(frozen=True, slots=True)
class RequirementCount:
    """Jobs of one instance that require the same."""

    instance: str
    requirement_hash: str
    requirements: dict[str, list[str]]
    """key -> sorted values"""
    property_label: str
    queued: int
    executing: int
    """that a bot has, or is about to be told of"""
    oldest_queued_at: datetime | None
    """of those that wait"""


# Only the narrow tables of what is not finished; what hashes stand for is looked up for the few that remain.
# Suspects wait under a hash of their own and require the same. State 5 is CANCELLED.
_COUNT = text("""
WITH waiting AS (
  SELECT instance_name, requirement_hash, property_label, count(*) AS queued, 0 AS executing,
         min(queued_at) AS oldest
  FROM queue WHERE instance_name = ANY(:instances) GROUP BY 1, 2, 3
  UNION ALL
  SELECT instance_name, requirement_hash, property_label, 0, count(*), NULL
  FROM leases WHERE instance_name = ANY(:instances) AND state <> 5 GROUP BY 1, 2, 3
), counted AS (
  SELECT instance_name, CASE WHEN starts_with(requirement_hash, :prefix)
                        THEN substr(requirement_hash, length(:prefix) + 1) ELSE requirement_hash END AS hash,
         property_label, sum(queued)::bigint AS queued, sum(executing)::bigint AS executing,
         min(oldest) AS oldest
  FROM waiting GROUP BY 1, 2, 3
)
SELECT c.instance_name, c.hash, r.requirements, c.property_label, c.queued, c.executing, c.oldest
FROM counted c JOIN requirements r ON r.requirement_hash = c.hash
ORDER BY c.instance_name, c.oldest NULLS LAST, c.hash, c.property_label
""")


def count_requirements(session: Session, instances: Collection[str]) -> Sequence[RequirementCount]:
    """In these instances, those with the oldest waiting job first. Gives up after STATEMENT_TIMEOUT."""
    session.execute(text(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'"))
    rows = session.execute(_COUNT, {"instances": sorted(instances), "prefix": PREFIX})
    return [RequirementCount(*row) for row in rows]
