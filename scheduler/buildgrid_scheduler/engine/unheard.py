"""Transactions that must not take effect twice, even if nobody heard of the first commit."""

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

from buildgrid_scheduler.engine.items import Effects
from buildgrid_scheduler.store.hot_connection import CONFLICT_BACKOFF, DatabaseBusyError, Statements

R = TypeVar("R")
Transaction = Callable[[Statements, datetime, Effects], R]

_ID = "SELECT pg_current_xact_id()::text"
# A number that this server has not come to yet is of another one, which failed before it could pass it on.
_FATE = """
SELECT CASE WHEN x.id < pg_current_xact_id() THEN pg_xact_status(x.id) END FROM (SELECT %s::xid8 AS id) x
"""


def once(transaction: Transaction[R]) -> Transaction[R]:
    """Run a transaction again only if the database says that the last run of it came to nothing.

    If that was committed, its outcome and effects are what this run comes to.
    """
    last: tuple[str, R, Effects] | None = None

    def guarded(db: Statements, now: datetime, effects: Effects) -> R:
        nonlocal last
        if last is not None:
            number, outcome, told = last
            fate = db.rows(_FATE, (number,))[0][0]
            if fate == "in progress":  # by a server process that has not noticed yet that we are gone
                raise DatabaseBusyError("an earlier attempt has not ended", CONFLICT_BACKOFF)
            if fate == "committed":
                effects.states.update(told.states)
                effects.arrivals += told.arrivals
                effects.sessions |= told.sessions
                effects.fleet |= told.fleet
                return outcome
        identity = db.execute(_ID)
        outcome = transaction(db, now, effects)
        last = identity.fetchall()[0][0], outcome, effects
        return outcome

    return guarded
