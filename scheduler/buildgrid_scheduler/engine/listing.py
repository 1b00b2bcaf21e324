"""Pages of operations, by keyset: stable while operations come and go."""

import base64
import binascii
import json
from datetime import UTC, datetime

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from buildgrid_scheduler.core.errors import InvalidArgument, Unavailable
from buildgrid_scheduler.core.job_state import JobState, Stage
from buildgrid_scheduler.engine.items import LoadedOperation
from buildgrid_scheduler.store.provider import SqlProvider

_UNFINISHED = text("""
SELECT o.name, o.instance_name, o.job_name, j.action_digest, l.told_at IS NOT NULL AS told,
       l.partial_metadata, j.stdout_stream_name, j.stderr_stream_name, j.queued_at
FROM jobs j JOIN operations o ON o.job_name = j.name LEFT JOIN leases l ON l.job_name = j.name
WHERE j.instance_name = :instance AND j.completed_at IS NULL AND NOT o.cancelled
  AND (j.queued_at, o.name) > (:queued_at, :name)
ORDER BY j.queued_at, o.name LIMIT :size
""")
_BEGINNING = (datetime(1, 1, 2, tzinfo=UTC), "")


class OperationList:
    """Reads pages; tokens are opaque to callers."""

    def __init__(self, provider: SqlProvider) -> None:
        self._provider = provider

    def unfinished(
        self, instance: str, page_size: int | None, page_token: str | None
    ) -> tuple[list[LoadedOperation], str]:
        """Unfinished operations by queued time, then name; and the token of the next page, or "".

        `page_size` None: all. InvalidArgument for a token that is not one of ours.
        """
        queued_at, name = _decode(page_token) if page_token else _BEGINNING
        size = None if page_size is None else page_size + 1
        values = {"instance": instance, "queued_at": queued_at, "name": name, "size": size}
        try:
            with self._provider.session() as session:
                rows = session.execute(_UNFINISHED, values).all()
        except DBAPIError as error:
            raise Unavailable("the database cannot be reached; try again") from error
        token = ""
        if page_size is not None and len(rows) > page_size:
            rows = rows[:page_size]
            token = _encode(rows[-1].queued_at, rows[-1].name)
        return [
            LoadedOperation(
                row.name,
                row.instance_name,
                row.job_name,
                False,
                JobState(
                    Stage.EXECUTING if row.told else Stage.QUEUED,
                    row.action_digest,
                    None,
                    row.partial_metadata,
                    row.stdout_stream_name,
                    row.stderr_stream_name,
                ),
            )
            for row in rows
        ], token


def _encode(queued_at: datetime, name: str) -> str:
    return base64.urlsafe_b64encode(json.dumps([queued_at.isoformat(), name]).encode()).decode()


def _decode(token: str) -> tuple[datetime, str]:
    try:
        queued_at, name = json.loads(base64.urlsafe_b64decode(token.encode()))
        if not isinstance(name, str):
            raise TypeError("no name")
        moment = datetime.fromisoformat(queued_at)
        if moment.tzinfo is None:
            raise ValueError("no time zone")
    except (ValueError, TypeError, binascii.Error) as error:
        raise InvalidArgument("page_token is not one that this server gave; start without one") from error
    return moment, name
