"""Bots that get no lease any more, with or without a session. The marks are made in engine.draining."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.orm import Session

from buildgrid_scheduler.fleet.bots import ConnectedBot


@dataclass(frozen=True, slots=True)
class Mark:
    """On a bot, and how far that is."""

    instance: str
    bot_id: str
    marked_at: datetime
    disrupted: bool
    """its pod is being evicted, preempted or deleted: what it loses is not the jobs' doing"""
    owner: str
    """who made it; empty for a person"""
    connected: bool
    """whether the bot has a session"""
    leases: int
    """that it still has, those that it was told to stop included"""


_LIST = text("""
SELECT instance_name, bot_id, marked_at, disrupted, owner FROM drains
WHERE instance_name = ANY(:instances) ORDER BY instance_name COLLATE "C", bot_id COLLATE "C"
""")


def list_marks(session: Session, instances: Collection[str], bots: Iterable[ConnectedBot]) -> Sequence[Mark]:
    """In these instances, by instance and bot_id. `bots`: all their bots, as they are at the same moment."""
    leases = {(bot.instance, bot.bot_id): bot.leases for bot in bots}
    rows = session.execute(_LIST, {"instances": sorted(instances)})
    marks = []
    for instance, bot_id, marked_at, disrupted, owner in rows:
        found = leases.get((instance, bot_id))
        marks.append(Mark(instance, bot_id, marked_at, disrupted, owner, found is not None, found or 0))
    return marks
