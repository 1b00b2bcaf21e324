"""The instances of which a database knows anything, for people who mistype a name."""

from sqlalchemy import text
from sqlalchemy.orm import Session

# One step along an index for each instance, however many jobs it has.
_SEEN = text("""
WITH RECURSIVE of_jobs AS (
  (SELECT instance_name FROM jobs ORDER BY instance_name LIMIT 1)
  UNION ALL
  SELECT (SELECT j.instance_name FROM jobs j WHERE j.instance_name > s.instance_name
          ORDER BY j.instance_name LIMIT 1)
  FROM of_jobs s WHERE s.instance_name IS NOT NULL)
SELECT instance_name FROM of_jobs WHERE instance_name IS NOT NULL
UNION SELECT instance_name FROM bots
UNION SELECT instance_name FROM drains
ORDER BY 1
""")


def seen_instances(session: Session) -> list[str]:
    """Those that have jobs, bots or marked bots. An instance that is served and not used yet is not among
    them: the database does not know what the servers serve."""
    return list(session.execute(_SEEN).scalars())
