"""The whole farm in numbers: what waits, what runs, who is there. Of all instances, in one query."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.orm import Session

from buildgrid_scheduler.core.bot_status import BotStatus

STATEMENT_TIMEOUT = "5s"
# Only narrow tables, of what is not finished: `queue` by its index on labels. State 5 is CANCELLED.
_COUNT = text("""
SELECT 'queue' AS what, property_label AS name, 0 AS status, count(*) AS n, min(queued_at) AS oldest,
       0 AS slots
FROM queue GROUP BY property_label
UNION ALL
SELECT CASE WHEN told_at IS NULL THEN 'assigned' ELSE 'executing' END, '', 0, count(*), NULL, 0
FROM leases WHERE state <> 5 GROUP BY 1
UNION ALL
SELECT CASE WHEN drained THEN 'drained' ELSE 'bot' END, '', status, count(*), NULL, sum(capacity)
FROM bots GROUP BY 1, 3
""")


@dataclass(slots=True)
class FleetCounts:
    """At one moment, that of the database's snapshot."""

    read_at: datetime
    waiting: dict[str, tuple[int, datetime]] = field(default_factory=dict)
    """jobs in the queue and since when the oldest one is, by property label"""
    assigned: int = 0
    """jobs that a bot is to be told of"""
    executing: int = 0
    bots: Mapping[BotStatus, int] = field(default_factory=lambda: dict.fromkeys(BotStatus, 0))
    """sessions; every status is a key"""
    drained: int = 0
    """how many of them get no leases"""
    slots: int = 0
    """of those that may get leases"""


def count_fleet(session: Session, now: datetime) -> FleetCounts:
    """Read it; gives up after STATEMENT_TIMEOUT."""
    session.execute(text(f"SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'"))
    counts = FleetCounts(now)
    bots = dict.fromkeys(BotStatus, 0)
    for row in session.execute(_COUNT):
        match row.what:
            case "queue":
                counts.waiting[row.name] = (row.n, row.oldest)
            case "assigned":
                counts.assigned = row.n
            case "executing":
                counts.executing = row.n
            case _:
                bots[BotStatus(row.status)] += row.n
                if row.what == "drained":
                    counts.drained += row.n
                elif row.status == BotStatus.OK:
                    counts.slots += row.slots
    counts.bots = bots
    return counts
