"""Reads of the hot path, batched: operations, for those who follow them."""

from collections.abc import Sequence

from buildgrid_scheduler.core.job_state import JobState, Stage
from buildgrid_scheduler.engine.items import LoadedOperation, LoadOperation
from buildgrid_scheduler.notifier.delivery import Delivery
from buildgrid_scheduler.store import statements as sql
from buildgrid_scheduler.store.hot_connection import HotConnection, Row


def read_batch(connection: HotConnection, batch: Sequence[LoadOperation], delivery: Delivery) -> None:
    """Load all operations of a batch in one round trip."""
    names = [item.operation_name for item in batch]
    rows = connection.read(lambda db: db.rows(sql.LOAD_OPERATIONS, (names,)))
    loaded = {row[0]: loaded_operation(row) for row in rows}
    for item in batch:
        delivery.settle(item.ticket, loaded.get(item.operation_name))


def loaded_operation(row: Row) -> LoadedOperation:
    """A row of LOAD_OPERATIONS."""
    name, instance, job, cancelled, digest, complete, response, told, partial, stdout, stderr, *owner = row
    stage = Stage.COMPLETED if complete else Stage.EXECUTING if told else Stage.QUEUED
    state = JobState(stage, digest, response, partial, stdout, stderr)
    return LoadedOperation(name, instance, job, cancelled, state, None if owner[0] is None else tuple(owner))
