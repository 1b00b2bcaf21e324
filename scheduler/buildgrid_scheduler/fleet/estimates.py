"""What is known of jobs that require the same, of all replicas together: see core.requirement_figures.

Each replica adds what it has seen since the last time. Figures grow old in the statement that adds to them.
"""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session
from sqlalchemy.types import DateTime, Double, Text

from buildgrid_scheduler.core.requirement_figures import JOBS_MEMORY, RATE_MEMORY, Estimate, Figures, Sums

Key = tuple[str, str]
"""Instance and requirement hash."""
FORGOTTEN_AFTER = timedelta(days=7)
"""Of requirements that no job had for so long nothing is known any more."""

# In the order of the key: two replicas that add to the same rows wait for each other, and do not deadlock.
# PostgreSQL takes a number that is too small for an error: what has come close to nothing is nothing.
_ADD = text("""
INSERT INTO requirement_figures AS f
  (instance_name, requirement_hash, arrived, finished, seconds, seconds_squared, decayed_at)
SELECT t.*, coalesce(:now, now()) FROM unnest(:instances, :hashes, :arrived, :finished, :seconds, :squared)
  AS t(i, h, arrived, finished, seconds, squared) ORDER BY i, h
ON CONFLICT (instance_name, requirement_hash) DO UPDATE SET
  arrived = excluded.arrived + CASE
    WHEN f.arrived < 1e-6 OR excluded.decayed_at > f.decayed_at + 50 * CAST(:rate_memory AS interval) THEN 0
    ELSE f.arrived * exp(least(0, extract(epoch FROM f.decayed_at - excluded.decayed_at)::float8
                                  / extract(epoch FROM CAST(:rate_memory AS interval))::float8)) END,
  finished = excluded.finished + f.finished * exp(-least(50, excluded.finished / :jobs_memory)),
  seconds = excluded.seconds + f.seconds * exp(-least(50, excluded.finished / :jobs_memory)),
  seconds_squared = excluded.seconds_squared
    + f.seconds_squared * exp(-least(50, excluded.finished / :jobs_memory)),
  decayed_at = greatest(f.decayed_at, excluded.decayed_at)
RETURNING instance_name, requirement_hash, arrived, finished, seconds, seconds_squared
""").bindparams(
    bindparam("now", type_=DateTime(timezone=True)),
    bindparam("instances", type_=ARRAY(Text)),
    bindparam("hashes", type_=ARRAY(Text)),
    *(bindparam(name, type_=ARRAY(Double)) for name in ("arrived", "finished", "seconds", "squared")),
    bindparam("jobs_memory", type_=Double),
)
# What another replica adds to just now is not forgotten.
_FORGET = text("""
DELETE FROM requirement_figures WHERE ctid = ANY(ARRAY(
  SELECT ctid FROM requirement_figures WHERE decayed_at < coalesce(:now, now()) - :age
  FOR UPDATE SKIP LOCKED))
""").bindparams(bindparam("now", type_=DateTime(timezone=True)))
_KNOWN = text("""
SELECT f.instance_name, f.requirement_hash, f.arrived, f.finished, f.seconds, f.seconds_squared,
       coalesce(:now, now()) - f.decayed_at
FROM requirement_figures f JOIN unnest(:instances, :hashes) AS t(i, h)
  ON f.instance_name = t.i AND f.requirement_hash = t.h
""").bindparams(
    bindparam("now", type_=DateTime(timezone=True)),
    bindparam("instances", type_=ARRAY(Text)),
    bindparam("hashes", type_=ARRAY(Text)),
)


def add_figures(
    session: Session, sums: Mapping[Key, Sums], now: datetime | None = None
) -> Mapping[Key, Figures]:
    """Add what happened; returns what is known of these requirements then. Nothing, for nothing.

    `now`: by default the database's, which is the same for all replicas.
    """
    if not sums:
        return {}
    added = list(sums.values())
    rows = session.execute(
        _ADD,
        {
            "now": now,
            "instances": [instance for instance, _ in sums],
            "hashes": [hash_ for _, hash_ in sums],
            "arrived": [float(each.arrived) for each in added],
            "finished": [float(each.finished) for each in added],
            "seconds": [each.seconds for each in added],
            "squared": [each.seconds_squared for each in added],
            "rate_memory": RATE_MEMORY,
            "jobs_memory": JOBS_MEMORY,
        },
    )
    known = {(instance, hash_): Figures(*figures) for instance, hash_, *figures in rows}
    session.execute(_FORGET, {"now": now, "age": FORGOTTEN_AFTER})
    return known


def estimates_of(
    session: Session, keys: Collection[Key], now: datetime | None = None
) -> Mapping[Key, Estimate]:
    """Of those among these of which anything is known. `now`: as for `add_figures`."""
    if not keys:
        return {}
    asked = {
        "now": now,
        "instances": [instance for instance, _ in keys],
        "hashes": [hash_ for _, hash_ in keys],
    }
    return {
        (instance, hash_): Figures(*figures).estimate(age)
        for instance, hash_, *figures, age in session.execute(_KNOWN, asked)
    }
