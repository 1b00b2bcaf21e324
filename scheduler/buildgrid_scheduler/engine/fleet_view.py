"""Looks at the live bots of an instance."""

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.core.errors import InvalidArgument
from buildgrid_scheduler.store.schema import BotEntry


def list_workers(
    session: Session, instance: str, name_filter: str, page_number: int, page_size: int
) -> tuple[list[BotEntry], int]:
    """A page of the sessions whose name or bot_id holds `name_filter`, by bot_id; and how many there are.

    Case does not matter; "" is in every name. Pages count from 1; `page_size` 0: all on one page. A page
    behind the last is empty. Raises InvalidArgument for other numbers.
    """
    if page_number < 1:
        raise InvalidArgument(f"page_number: {page_number}: pages count from 1")
    if page_size < 0:
        raise InvalidArgument(f"page_size: {page_size} is negative; 0 is all")
    if "\0" in name_filter:
        raise InvalidArgument("name_filter: no name holds a NUL character")
    matches = or_(
        BotEntry.name.icontains(name_filter, autoescape=True),
        BotEntry.bot_id.icontains(name_filter, autoescape=True),
    )
    chosen = (BotEntry.instance_name == instance, matches)
    total = session.execute(select(func.count()).select_from(BotEntry).where(*chosen)).scalar_one()
    offset = (page_number - 1) * page_size
    if offset >= total or (page_size == 0 and page_number > 1):
        return [], total
    query = select(BotEntry).where(*chosen).order_by(BotEntry.bot_id.collate("C")).offset(offset)
    return list(session.scalars(query.limit(page_size or None))), total


def count_bots_by_status(session: Session, instance: str) -> dict[BotStatus, int]:
    """How many sessions have each status; every status is a key."""
    query = (
        select(BotEntry.status, func.count())
        .where(BotEntry.instance_name == instance)
        .group_by(BotEntry.status)
    )
    counts: dict[int, int] = {row[0]: row[1] for row in session.execute(query)}
    return {status: counts.get(int(status), 0) for status in BotStatus}
