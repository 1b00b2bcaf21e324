"""The action cache in PostgreSQL."""

from buildgrid_client.digests import digest_key
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import ActionResult, Digest
from sqlalchemy import tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError

from buildgrid_scheduler.core.clock import Clock, utc_now
from buildgrid_scheduler.core.errors import Unavailable
from buildgrid_scheduler.storage.action_cache_abc import ActionCacheABC
from buildgrid_scheduler.store.provider import SqlProvider
from buildgrid_scheduler.store.schema import ActionResultEntry


class PostgresActionCache(ActionCacheABC):
    """Results as rows. The scheduler writes its own with the transaction that completes the job, if both
    are in one database; this is the door for everybody else. Unavailable while the database is away.
    """

    def __init__(self, provider: SqlProvider, *, allow_updates: bool = True, clock: Clock = utc_now) -> None:
        self.provider = provider
        self._allow_updates = allow_updates
        self._clock = clock

    @property
    def allow_updates(self) -> bool:
        """See ActionCacheABC."""
        return self._allow_updates

    def get_many(self, instance: str, digests: list[Digest]) -> list[ActionResult | None]:
        """See ActionCacheABC."""
        keys = [(instance, digest_key(d)) for d in digests]
        columns = tuple_(ActionResultEntry.instance_name, ActionResultEntry.action_digest)
        try:
            with self.provider.session() as session:
                rows = session.query(ActionResultEntry).filter(columns.in_(keys)).all()
        except DBAPIError as error:
            raise Unavailable("action cache: the database cannot be reached; try again") from error
        found = {row.action_digest: row.result for row in rows}
        return [ActionResult.FromString(found[key]) if key in found else None for _, key in keys]

    def update_many(self, instance: str, entries: list[tuple[Digest, ActionResult]]) -> None:
        """See ActionCacheABC."""
        now = self._clock()
        rows = {
            digest_key(digest): {
                "instance_name": instance,
                "action_digest": digest_key(digest),
                "result": result.SerializeToString(),
                "stored_at": now,
            }
            for digest, result in entries
        }
        if not rows:
            return
        statement = insert(ActionResultEntry).values([rows[key] for key in sorted(rows)])
        statement = statement.on_conflict_do_update(
            index_elements=["instance_name", "action_digest"],
            set_={"result": statement.excluded.result, "stored_at": statement.excluded.stored_at},
        )
        try:
            with self.provider.session() as session:
                session.execute(statement)
        except DBAPIError as error:
            raise Unavailable("action cache: the database cannot be reached; try again") from error
