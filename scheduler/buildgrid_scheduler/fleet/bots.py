"""Bots that have a session, one by one and in numbers."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.orm import Session

from buildgrid_scheduler.core.bot_status import BotStatus


@dataclass(frozen=True, slots=True)
class ConnectedBot:
    """A bot that has a session, and what it has to do."""

    instance: str
    bot_id: str
    status: BotStatus
    slots: int
    """leases that it may have at the same time"""
    connected_at: datetime
    capacity_class: str
    fleet_uid: str
    cluster_uid: str
    lease_count: int
    """leases that this session has been given so far"""
    leases: int
    """that it has, those that it was told to stop included"""
    busy_since: datetime | None
    """when it was told of the oldest of them; none: it has none, or was told of none"""


@dataclass(frozen=True, slots=True)
class BotCount:
    """Sessions of one instance that have the same status."""

    instance: str
    status: BotStatus
    bots: int


# Each table is read once: a probe for the leases of each session would cost more.
_LIST = text("""
SELECT b.instance_name, b.bot_id, b.status, b.capacity, b.connected_at, b.capacity_class, b.fleet_uid,
       b.cluster_uid, b.lease_count, coalesce(l.leases, 0), l.busy_since
FROM bots b LEFT JOIN (
  SELECT session_name, count(*) AS leases, min(told_at) AS busy_since
  FROM leases WHERE instance_name = ANY(:instances) GROUP BY 1
) l ON l.session_name = b.name
WHERE b.instance_name = ANY(:instances) ORDER BY b.instance_name COLLATE "C", b.bot_id COLLATE "C"
""")


def connected_bots(session: Session, instances: Collection[str]) -> Sequence[ConnectedBot]:
    """In these instances, by instance and bot_id."""
    rows = session.execute(_LIST, {"instances": sorted(instances)})
    return [ConnectedBot(row[0], row[1], BotStatus(row[2]), *row[3:]) for row in rows]


def count_bots(bots: Iterable[ConnectedBot]) -> Sequence[BotCount]:
    """By instance and status. A status that no bot has is left out."""
    counts = Counter((bot.instance, bot.status) for bot in bots)
    return [BotCount(instance, status, counts[instance, status]) for instance, status in sorted(counts)]
