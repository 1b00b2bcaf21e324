"""Rows that operations share: who asked, and for what invocation. Inserted once, whoever comes first."""

import threading

from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import RequestMetadata
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from buildgrid_scheduler.core.errors import InvalidArgument, Unavailable
from buildgrid_scheduler.core.request_metadata import METADATA_COLUMNS, metadata_row
from buildgrid_scheduler.store.provider import SqlProvider
from buildgrid_scheduler.store.schema import ClientIdentityEntry, OperationEntry, RequestMetadataEntry

IdentityKey = tuple[str, str, str, str]
"""(instance, workflow, actor, subject)"""
_MAX_KNOWN = 100_000
MAX_IDENTITY_BYTES = 2600
"""Of all parts together: an entry of a PostgreSQL index has 2,704 bytes at most."""


def identity_key(entry: ClientIdentityEntry) -> IdentityKey:
    """What makes an identity itself."""
    return entry.instance, entry.workflow, entry.actor, entry.subject


def get_or_create_client_identity(session: Session, entry: ClientIdentityEntry) -> ClientIdentityEntry:
    """The row of an identity, inserted in the caller's transaction if there is none; nothing is committed.

    Two transactions may insert the same one: the later waits for the earlier, and reads its row.
    """
    values = dict(zip(("instance", "workflow", "actor", "subject"), identity_key(entry), strict=True))
    session.execute(insert(ClientIdentityEntry).values(values).on_conflict_do_nothing())
    return session.execute(select(ClientIdentityEntry).filter_by(**values)).scalar_one()


def get_or_create_request_metadata(session: Session, metadata: RequestMetadata) -> RequestMetadataEntry:
    """The row of a RequestMetadata; as `get_or_create_client_identity`. It counts as just made."""
    values = dict(zip(METADATA_COLUMNS, metadata_row(metadata), strict=True))
    statement = insert(RequestMetadataEntry).values(values)
    renewed = {"created_at": func.now()}
    session.execute(statement.on_conflict_do_update(index_elements=["hash"], set_=renewed))
    return session.execute(select(RequestMetadataEntry).filter_by(hash=values["hash"])).scalar_one()


def request_metadata_of(session: Session, instance: str, operation: str) -> RequestMetadataEntry | None:
    """What the client of an operation said of its invocation."""
    query = (
        select(RequestMetadataEntry)
        .join(OperationEntry, OperationEntry.request_metadata_hash == RequestMetadataEntry.hash)
        .where(OperationEntry.instance_name == instance, OperationEntry.name == operation)
    )
    return session.execute(query).scalar_one_or_none()


def client_identity_of(session: Session, instance: str, operation: str) -> ClientIdentityEntry | None:
    """Who asked for an operation."""
    query = (
        select(ClientIdentityEntry)
        .join(OperationEntry, OperationEntry.client_identity_id == ClientIdentityEntry.id)
        .where(OperationEntry.instance_name == instance, OperationEntry.name == operation)
    )
    return session.execute(query).scalar_one_or_none()


class ClientIdentities:
    """Ids of identities, remembered. Safe from any thread."""

    def __init__(self, provider: SqlProvider) -> None:
        self._provider = provider
        self._lock = threading.Lock()
        self._known: dict[IdentityKey, int] = {}

    def known(self, key: IdentityKey) -> int | None:
        """The id, if this replica has come across it; never blocks."""
        return self._known.get(key)

    def id_of(self, key: IdentityKey) -> int:
        """The id; a transaction for one that is new here.

        Raises Unavailable while the database is away, and InvalidArgument for what it could never hold.
        """
        if (known := self._known.get(key)) is not None:
            return known
        if any("\0" in part for part in key) or sum(len(part.encode()) for part in key) > MAX_IDENTITY_BYTES:
            raise InvalidArgument(
                f"client identity: instance, workflow, actor and subject hold a NUL, or more than "
                f"{MAX_IDENTITY_BYTES} bytes together; use shorter ones"
            )
        instance, workflow, actor, subject = key
        entry = ClientIdentityEntry(instance=instance, workflow=workflow, actor=actor, subject=subject)
        try:
            with self._provider.session() as session:
                number = get_or_create_client_identity(session, entry).id
        except DBAPIError as error:
            raise Unavailable("the database cannot be reached; try again") from error
        with self._lock:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[key] = number
        return number
