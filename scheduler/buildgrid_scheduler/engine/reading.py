"""Reads of the hot path, batched: operations for their watchers, entries of the action cache."""

from collections.abc import Sequence

from buildgrid_scheduler.core.job_state import JobState, Stage
from buildgrid_scheduler.engine.items import LoadedOperation, LoadOperation, LookUpResult, ReadItem
from buildgrid_scheduler.notifier.delivery import Delivery
from buildgrid_scheduler.store import statements as sql
from buildgrid_scheduler.store.hot_connection import HotConnection, Row, Statements


def _loaded(row: Row) -> LoadedOperation:
    name, instance, job, cancelled, digest, complete, response, told, partial, stdout, stderr = row
    stage = Stage.COMPLETED if complete else Stage.EXECUTING if told else Stage.QUEUED
    state = JobState(stage, digest, response, partial, stdout, stderr)
    return LoadedOperation(name, instance, job, cancelled, state)


def read_batch(connection: HotConnection, batch: Sequence[ReadItem], delivery: Delivery) -> None:
    """Run all reads of a batch in one round trip."""
    loads = [item for item in batch if isinstance(item, LoadOperation)]
    looks = [item for item in batch if isinstance(item, LookUpResult)]

    def body(db: Statements) -> tuple[list[Row], list[Row]]:
        operations = db.execute(sql.LOAD_OPERATIONS, ([i.operation_name for i in loads],)) if loads else None
        keys = list({(i.instance, i.action_digest) for i in looks})
        results = (
            db.execute(sql.LOOK_UP_RESULTS, ([i for i, _ in keys], [d for _, d in keys])) if keys else None
        )
        return (
            operations.fetchall() if operations is not None else [],
            results.fetchall() if results is not None else [],
        )

    operation_rows, result_rows = connection.read(body)
    loaded = {row[0]: _loaded(row) for row in operation_rows}
    found = {(instance, digest): result for instance, digest, result in result_rows}
    for load in loads:
        delivery.settle(load.ticket, loaded.get(load.operation_name))
    for look in looks:
        delivery.settle(look.ticket, found.get((look.instance, look.action_digest)))
