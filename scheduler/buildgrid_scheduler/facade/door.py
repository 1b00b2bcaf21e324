"""What the groups of methods share: the parts that they act on, and how they ask the engine."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from enum import IntEnum
from typing import TypeVar

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from buildgrid_scheduler.core.errors import InvalidArgument, Unavailable
from buildgrid_scheduler.engine.engine import Engine
from buildgrid_scheduler.engine.items import Call, Effects
from buildgrid_scheduler.engine.job_metrics import JobMetrics
from buildgrid_scheduler.engine.listing import OperationList
from buildgrid_scheduler.integrations.integrations import Integrations
from buildgrid_scheduler.notifier.delivery import Ticket
from buildgrid_scheduler.properties.property_set import PropertySet
from buildgrid_scheduler.storage.abc import StorageABC
from buildgrid_scheduler.storage.action_cache_abc import ActionCacheABC
from buildgrid_scheduler.store.hot_connection import Statements
from buildgrid_scheduler.store.provider import SqlProvider
from buildgrid_scheduler.store.shared_rows import ClientIdentities

R = TypeVar("R")
E = TypeVar("E", bound=IntEnum)


class Door:
    """The parts of a scheduler. `Scheduler` makes them."""

    engine: Engine
    """the door for coroutines, to the same parts"""
    storage: StorageABC
    action_cache: ActionCacheABC | None
    property_set: PropertySet
    operations: OperationList
    identities: ClientIdentities
    integrations: Integrations
    job_metrics: JobMetrics
    keepalive: timedelta
    max_execution_timeout: timedelta
    _read_provider: SqlProvider

    def _call(self, transaction: Callable[[Statements, datetime, Effects], R]) -> R:
        ticket: Ticket[R] = Ticket()
        self.engine.submit(Call(ticket, transaction))
        return ticket.wait()

    @contextmanager
    def _reading(self) -> Iterator[Session]:
        """A session of the database that serves reads. Raises Unavailable while it is away."""
        try:
            with self._read_provider.session() as session:
                yield session
        except DBAPIError as error:
            raise Unavailable("the database cannot be reached; try again") from error


def known(kind: type[E], number: int) -> E:
    """A number of the protocol, as what it stands for. Raises InvalidArgument for one that is not there."""
    try:
        return kind(number)
    except ValueError as error:
        raise InvalidArgument(f"{number} is not a {kind.__name__}") from error
