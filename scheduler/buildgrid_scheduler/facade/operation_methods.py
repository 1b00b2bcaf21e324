"""Methods on jobs and operations."""

import uuid

from buildgrid_client.digests import digest_key
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    Action,
    Command,
    Digest,
    ExecutedActionMetadata,
    ExecuteResponse,
    RequestMetadata,
)
from buildgrid_protos.build.buildgrid.identity_pb2 import ClientIdentity
from google.longrunning.operations_proto_pb2 import Operation
from sqlalchemy.orm import Session

from buildgrid_scheduler.core.instance import current_instance
from buildgrid_scheduler.core.job_state import Stage, executed_action_metadata, operation_message
from buildgrid_scheduler.core.operation_filter import OperationFilter
from buildgrid_scheduler.core.request_metadata import METADATA_COLUMNS, metadata_message, metadata_row
from buildgrid_scheduler.core.requirements import requirement_hash
from buildgrid_scheduler.engine.engine import new_job_name
from buildgrid_scheduler.engine.items import Enqueue, Enqueued, LoadedOperation, LoadOperation, NewJob
from buildgrid_scheduler.engine.job_metrics import SchedulerMetrics
from buildgrid_scheduler.engine.operations import attach, cancel, create, share, unknown_operation
from buildgrid_scheduler.facade.door import Door
from buildgrid_scheduler.notifier.delivery import Ticket
from buildgrid_scheduler.storage.cached_response import cached_response
from buildgrid_scheduler.store.schema import ClientIdentityEntry, JobEntry, RequestMetadataEntry
from buildgrid_scheduler.store.shared_rows import (
    client_identity_of,
    get_or_create_client_identity,
    get_or_create_request_metadata,
    identity_key,
    request_metadata_of,
)


class OperationMethods(Door):
    """Part of `Scheduler`."""

    def queue_job_action(
        self,
        *,
        action: Action,
        action_digest: Digest,
        command: Command,
        platform_requirements: dict[str, list[str]],
        property_label: str,
        priority: int,
        skip_cache_lookup: bool,
        request_metadata: RequestMetadata | None = None,
        client_identity: ClientIdentityEntry | None = None,
    ) -> str:
        """Share a running job of the same action, or queue a new one; returns the operation's name.

        Neither is asked of an action with `do_not_cache`. The action cache is asked unless
        `skip_cache_lookup`; a hit with all outputs in the CAS makes a job that is born complete.
        `priority`: lower is more urgent, 0 the default. Raises ResourceExhausted when too many jobs wait, or
        when the client is throttled, and Unavailable when no new jobs are accepted.
        """
        response = None
        cacheable = not action.do_not_cache and not skip_cache_lookup
        if self.action_cache is not None and cacheable:
            response = cached_response(self.action_cache, self.storage, current_instance(), action_digest)
        if response is None:
            priority = self._throttled(priority, client_identity)
        job = _new_job(action, action_digest, command, platform_requirements, property_label, priority)
        job.response = response
        item = self._enqueue(job, request_metadata, client_identity)
        self.engine.submit(item)
        enqueued = item.ticket.wait()
        self._made(item.operation_name, client_identity)
        if response is None and not enqueued.shared:
            self.integrations.job_queued(job.instance, job.action_digest, job.action)
        return item.operation_name

    def create_operation_for_existing_job(
        self,
        *,
        action_digest: Digest,
        priority: int,
        request_metadata: RequestMetadata | None,
        client_identity: ClientIdentityEntry | None,
    ) -> str | None:
        """An operation on the unfinished job of an action; None if there is none that may be shared.

        A more urgent `priority` pulls a job forward that still waits.
        """
        name = str(uuid.uuid4())
        transaction = share(
            current_instance(),
            name,
            digest_key(action_digest),
            priority=priority,
            metadata=metadata_row(request_metadata) if request_metadata is not None else None,
            identity_id=self._identity_id(client_identity),
        )
        if not self._call(transaction):
            return None
        self._made(name, client_identity)
        return name

    def create_operation_for_new_job(
        self,
        *,
        action: Action,
        action_digest: Digest,
        command: Command,
        execute_response: ExecuteResponse | None,
        platform_requirements: dict[str, list[str]],
        property_label: str,
        priority: int,
        request_metadata: RequestMetadata | None = None,
        client_identity: ClientIdentityEntry | None = None,
    ) -> str:
        """An operation on a new job, whatever else runs; returns the operation's name.

        With an `execute_response` the job is born complete. Raises ResourceExhausted when too many wait, and
        Unavailable when no new jobs are accepted.
        """
        job = _new_job(action, action_digest, command, platform_requirements, property_label, priority)
        code = 0
        if execute_response is not None:
            job.response = execute_response.SerializeToString()
            code = execute_response.status.code
        item = self._enqueue(job, request_metadata, client_identity)
        settings = self.engine.settings
        self._call(create(item, code, settings.max_queue_size, accept_new_jobs=settings.accept_new_jobs))
        self._made(item.operation_name, client_identity)
        if execute_response is None:
            self.integrations.job_queued(job.instance, job.action_digest, job.action)
        return item.operation_name

    def create_operation(
        self,
        job_name: str,
        *,
        request_metadata: RequestMetadata | None = None,
        client_identity: ClientIdentityEntry | None = None,
    ) -> str:
        """Another operation on a job. Raises NotFound, or Cancelled for a cancelled job."""
        name = str(uuid.uuid4())
        transaction = attach(
            current_instance(),
            name,
            job_name,
            metadata=metadata_row(request_metadata) if request_metadata is not None else None,
            identity_id=self._identity_id(client_identity),
        )
        self._call(transaction)
        self._made(name, client_identity)
        return name

    def load_operation(self, operation_name: str) -> Operation:
        """The operation as it is now. Raises NotFound if unknown, or of another instance."""
        loaded = self._load(operation_name)
        if loaded is None:
            raise unknown_operation(operation_name)
        if loaded.state.stage is not Stage.COMPLETED and not loaded.cancelled:
            self.engine.following.looked_at(operation_name)
        return operation_message(loaded.instance, loaded.name, loaded.state, cancelled=loaded.cancelled)

    def get_operation_job_name(self, operation_name: str) -> str | None:
        """The job of an operation; None if unknown, or of another instance."""
        loaded = self._load(operation_name)
        return None if loaded is None else loaded.job_name

    def get_operation_request_metadata_by_name(self, operation_name: str) -> RequestMetadata | None:
        """What the client said of its invocation (REAPI, RequestMetadata); None if it said nothing."""
        with self._reading() as session:
            entry = request_metadata_of(session, current_instance(), operation_name)
            if entry is None:
                return None
            return metadata_message(tuple(getattr(entry, column) for column in METADATA_COLUMNS))

    def get_client_identity_by_operation(self, operation_name: str) -> ClientIdentity | None:
        """Who asked for an operation; None if that is not known."""
        with self._reading() as session:
            entry = client_identity_of(session, current_instance(), operation_name)
            if entry is None:
                return None
            return ClientIdentity(workflow=entry.workflow, actor=entry.actor, subject=entry.subject)

    def cancel_operation(self, operation_name: str) -> None:
        """Cancel an operation, and its job when no other wants it. NotFound if unknown; done is fine."""
        self._call(cancel(current_instance(), operation_name))

    def list_operations(
        self,
        operation_filters: list[OperationFilter] | None = None,
        page_size: int | None = None,
        page_token: str | None = None,
    ) -> tuple[list[Operation], str]:
        """A page of operations, and the token of the next page, or "".

        Without filters: unfinished ones. By queued time, then name, unless a filter says otherwise.
        `page_size` None: all. Raises InvalidArgument for filters and tokens that make no sense.
        """
        page, token = self.operations.page(
            current_instance(), operation_filters or [], page_size=page_size, page_token=page_token
        )
        return [operation_message(o.instance, o.name, o.state, cancelled=o.cancelled) for o in page], token

    def get_metrics(self) -> SchedulerMetrics | None:
        """How many unfinished jobs of this instance are in each stage; None within the publish interval.

        Every unfinished stage is there, and the label `unknown`, zeros too.
        """
        return self.job_metrics.publish(current_instance())

    def publish_execution_stats(
        self, job_name: str, execution_metadata: ExecutedActionMetadata, property_label: str = "unknown"
    ) -> None:
        """Observe the durations of an execution by label, and meter the CPU, memory and I/O that it used."""
        self.integrations.publish(job_name, execution_metadata, property_label)

    def get_execute_action_metadata(self, job: JobEntry) -> ExecutedActionMetadata:
        """When a job was queued, started and done, and by whom, as far as is known (REAPI)."""
        return executed_action_metadata(
            job.response,
            worker=job.worker_name,
            queued_at=job.queued_at,
            worker_start_at=job.worker_start_at,
            worker_completed_at=job.worker_completed_at,
        )

    def get_or_create_client_identity_in_store(
        self, session: Session, client_id: ClientIdentityEntry
    ) -> ClientIdentityEntry:
        """The row of an identity, inserted in the caller's transaction if there is none; never commits."""
        return get_or_create_client_identity(session, client_id)

    def get_or_create_request_metadata_in_store(
        self, session: Session, request_metadata: RequestMetadata
    ) -> RequestMetadataEntry:
        """The row of a RequestMetadata, inserted in the caller's transaction if there is none."""
        return get_or_create_request_metadata(session, request_metadata)

    def _load(self, operation_name: str) -> LoadedOperation | None:
        instance = current_instance()
        ticket: Ticket[LoadedOperation | None] = Ticket()
        self.engine.submit(LoadOperation(ticket, operation_name))
        loaded = ticket.wait()
        return loaded if loaded is not None and loaded.instance == instance else None

    def _enqueue(
        self, job: NewJob, metadata: RequestMetadata | None, identity: ClientIdentityEntry | None
    ) -> Enqueue:
        ticket: Ticket[Enqueued] = Ticket()
        row = metadata_row(metadata) if metadata is not None else None
        return Enqueue(ticket, str(uuid.uuid4()), job, row, self._identity_id(identity))

    def _identity_id(self, identity: ClientIdentityEntry | None) -> int | None:
        return None if identity is None else self.identities.id_of(identity_key(identity))

    def _throttled(self, priority: int, identity: ClientIdentityEntry | None) -> int:
        key = None if identity is None else identity_key(identity)
        return self.integrations.checked_priority(key, priority)

    def _made(self, operation: str, identity: ClientIdentityEntry | None) -> None:
        self.integrations.operation_made(None if identity is None else identity_key(identity), operation)


def _new_job(
    action: Action,
    digest: Digest,
    command: Command,
    requirements: dict[str, list[str]],
    label: str,
    priority: int,
) -> NewJob:
    return NewJob(
        name=new_job_name(),
        instance=current_instance(),
        action_digest=digest_key(digest),
        action=action.SerializeToString(),
        do_not_cache=action.do_not_cache,
        priority=priority,
        requirement_hash=requirement_hash(requirements),
        requirements=requirements,
        property_label=label,
        command=" ".join(command.arguments),
    )
