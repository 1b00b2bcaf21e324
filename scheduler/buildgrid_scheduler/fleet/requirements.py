"""Unfinished jobs by what they require of a bot."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.orm import Session

from buildgrid_scheduler.core.suspects import PREFIX


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
    avoidances: Mapping[str, int] = field(default_factory=dict)
    """capacity class -> how many of the queued ones avoid it now, since they lost a bot of it"""


# Only the narrow tables of what is not finished; what hashes stand for is looked up for the few that remain.
# Suspects wait under a hash of their own and require the same. State 5 is CANCELLED.
_COUNT = text("""
WITH waiting AS (
  SELECT instance_name, requirement_hash, property_label,
         CASE WHEN avoid_until > now() THEN avoid_class END AS avoided,
         count(*) AS queued, 0 AS executing, min(queued_at) AS oldest
  FROM queue WHERE instance_name = ANY(:instances) GROUP BY 1, 2, 3, 4
  UNION ALL
  SELECT instance_name, requirement_hash, property_label, NULL, 0, count(*), NULL
  FROM leases WHERE instance_name = ANY(:instances) AND state <> 5 GROUP BY 1, 2, 3
), plain AS (
  SELECT instance_name, CASE WHEN starts_with(requirement_hash, :prefix)
                        THEN substr(requirement_hash, length(:prefix) + 1) ELSE requirement_hash END AS hash,
         property_label, avoided, sum(queued)::bigint AS queued, sum(executing)::bigint AS executing,
         min(oldest) AS oldest
  FROM waiting GROUP BY 1, 2, 3, 4
), counted AS (
  SELECT instance_name, hash, property_label, sum(queued)::bigint AS queued,
         sum(executing)::bigint AS executing, min(oldest) AS oldest,
         coalesce(jsonb_object_agg(avoided, queued) FILTER (WHERE avoided IS NOT NULL), '{}') AS avoidances
  FROM plain GROUP BY 1, 2, 3
)
SELECT c.instance_name, c.hash, r.requirements, c.property_label, c.queued, c.executing, c.oldest,
       c.avoidances
FROM counted c JOIN requirements r ON r.requirement_hash = c.hash
ORDER BY c.instance_name, c.oldest NULLS LAST, c.hash, c.property_label
""")


def count_requirements(session: Session, instances: Collection[str]) -> Sequence[RequirementCount]:
    """In these instances, those with the oldest waiting job first."""
    rows = session.execute(_COUNT, {"instances": sorted(instances), "prefix": PREFIX})
    return [RequirementCount(*row) for row in rows]
