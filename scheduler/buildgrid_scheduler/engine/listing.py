"""Pages of operations, by keyset: stable while operations come and go."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

from psycopg import errors
from sqlalchemy import Connection
from sqlalchemy.exc import DataError, DBAPIError

from buildgrid_scheduler.core.errors import DeadlineExceeded, InvalidArgument, Unavailable
from buildgrid_scheduler.core.operation_filter import OperationFilter
from buildgrid_scheduler.core.operation_order import decode_token, encode_token, query_text, split_order
from buildgrid_scheduler.engine.items import LoadedOperation
from buildgrid_scheduler.engine.reading import loaded_operation
from buildgrid_scheduler.store import operation_query as sql
from buildgrid_scheduler.store.provider import SqlProvider
from buildgrid_scheduler.store.statements import LOAD_OPERATIONS

LIST_TIMEOUT = timedelta(seconds=10)
"""for one statement of a list: what would read for longer is refused"""
BYTES_PER_OPERATION = 512
"""of an Operation on the wire without its response, about"""


class OperationList:
    """Reads pages; tokens are opaque to callers. Safe from any thread."""

    def __init__(self, provider: SqlProvider, *, timeout: timedelta = LIST_TIMEOUT) -> None:
        self._provider = provider
        self._timeout = timeout

    def page(
        self,
        instance: str,
        filters: Sequence[OperationFilter] = (),
        *,
        page_size: int | None = None,
        page_token: str | None = None,
        owner: tuple[str, str, str, str] | None = None,
        max_bytes: int | None = None,
    ) -> tuple[list[LoadedOperation], str]:
        """Operations of the instance that meet all filters; and the token of the next page, or "".

        Without conditions: those that are not finished. By queued time, then name, unless a `sort_order` says
        otherwise. `page_size` None or 0: all. `owner`: only those of this client (instance, workflow, actor,
        subject). `max_bytes`: a page ends before its operations are larger than this on the wire, about, but
        has one at least.

        Raises InvalidArgument for a page size or token that makes no sense, DeadlineExceeded when too much
        would have to be read.
        """
        if page_size is not None and page_size < 0:
            raise InvalidArgument(
                f"page_size: {page_size} is negative; use 0 or leave it out for the default"
            )
        conditions, order = split_order(filters)
        conditions = [_within(instance, condition) for condition in conditions]
        query = query_text(instance, conditions, order)
        after = decode_token(query, order, page_token) if page_token else None
        by_identity, others = sql.split_conditions(conditions)
        with self._snapshot() as db:
            identities, few = None, False
            if by_identity or owner is not None:
                identities = [row.id for row in _run(db, sql.identity_query(by_identity, owner))]
                few = _run(db, sql.few_query(identities))[0].few
            rows = _run(
                db,
                sql.page_query(
                    instance,
                    others,
                    order,
                    finished=bool(conditions),
                    identities=identities,
                    few=few,
                    after=after,
                    limit=page_size + 1 if page_size else None,
                ),
            )
            count = _fitting([row.bytes for row in rows], page_size or None, max_bytes)
            names = [row.name for row in rows[:count]]
            found = db.exec_driver_sql(LOAD_OPERATIONS, (names,)).all() if names else []
        loaded = {row[0]: loaded_operation(tuple(row)) for row in found}
        token = encode_token(query, tuple(rows[count - 1][2:])) if count < len(rows) else ""
        return [loaded[name] for name in names], token

    @contextmanager
    def _snapshot(self) -> Iterator[Connection]:
        """One look at the database: what the page chose is there when it is loaded, and as it was."""
        try:
            with self._provider.session() as session:
                options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
                connection = session.connection(execution_options=options)
                timeout = str(int(self._timeout.total_seconds() * 1000))
                connection.exec_driver_sql(sql.SETTINGS, {"timeout": timeout})
                yield connection
        except DataError as error:
            raise InvalidArgument("instance_name: it holds what no name can hold") from error
        except DBAPIError as error:
            if isinstance(error.orig, errors.QueryCanceled):
                raise DeadlineExceeded(
                    f"filter: to find these takes longer than {self._timeout.total_seconds():g} s; add a "
                    "bound as in queued_time>=2030-01-31T12:00:00Z, or ask for one invocation_id"
                ) from error
            raise Unavailable("the database cannot be reached; try again") from error


def _run(db: Connection, query: sql.Query) -> list[Any]:
    return list(db.exec_driver_sql(query.text, query.values).all())


def _within(instance: str, condition: OperationFilter) -> OperationFilter:
    """Operations are named as on the wire, or without the instance, as in the database."""
    if condition.parameter == "name" and isinstance(condition.value, str) and instance:
        return replace(condition, value=condition.value.removeprefix(f"{instance}/"))
    return condition


def _fitting(sizes: Sequence[int], most: int | None, max_bytes: int | None) -> int:
    """How many operations, of responses with these sizes, a page holds."""
    count = len(sizes) if most is None else min(len(sizes), most)
    if max_bytes is None:
        return count
    room = max_bytes
    for number, size in enumerate(sizes[:count]):
        room -= size + BYTES_PER_OPERATION
        if room < 0:
            return max(number, 1)
    return count
