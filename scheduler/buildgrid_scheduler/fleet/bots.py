"""Live bots by what they say of themselves."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import text
from sqlalchemy.orm import Session

from buildgrid_scheduler.core.bot_status import BotStatus


@dataclass(frozen=True, slots=True)
class BotCount:
    """Sessions of one instance that have the same status."""

    instance: str
    status: BotStatus
    bots: int


_COUNT = text("""
SELECT instance_name, status, count(*) FROM bots WHERE instance_name = ANY(:instances)
GROUP BY 1, 2 ORDER BY 1, 2
""")


def count_bots(session: Session, instances: Collection[str]) -> Sequence[BotCount]:
    """In these instances. A status that no bot has is left out."""
    rows = session.execute(_COUNT, {"instances": sorted(instances)})
    return [BotCount(instance, BotStatus(status), bots) for instance, status, bots in rows]
