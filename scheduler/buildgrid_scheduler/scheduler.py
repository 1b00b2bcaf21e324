"""`Scheduler`: the facade. It wires the parts, and is the synchronous door to them."""

import logging
import threading
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from enum import IntEnum
from types import TracebackType
from typing import Self, TypeVar

from buildgrid_client.digests import digest_key, parse_digest
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    Action,
    ActionResult,
    Command,
    Digest,
    ExecutedActionMetadata,
    RequestMetadata,
)
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2 import Lease
from google.longrunning.operations_proto_pb2 import Operation
from google.protobuf.any_pb2 import Any as AnyMessage
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from buildgrid_scheduler.core.attempts import RETRYABLE_STATUS_CODES, AttemptLimits
from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.core.clock import Clock, utc_now
from buildgrid_scheduler.core.completion import CompletionPolicy
from buildgrid_scheduler.core.errors import InvalidArgument, Unavailable
from buildgrid_scheduler.core.instance import current_instance
from buildgrid_scheduler.core.job_state import ACTION_TYPE, operation_message
from buildgrid_scheduler.core.lease_transition import LeaseState
from buildgrid_scheduler.core.request_metadata import metadata_row
from buildgrid_scheduler.core.requirements import requirement_hash
from buildgrid_scheduler.engine.assigning import assign_waiting
from buildgrid_scheduler.engine.engine import Engine, new_job_name
from buildgrid_scheduler.engine.items import (
    Call,
    Effects,
    Enqueue,
    Enqueued,
    LoadedOperation,
    LoadOperation,
    NewJob,
    Report,
    Synchronize,
    Synchronized,
)
from buildgrid_scheduler.engine.listing import OperationList
from buildgrid_scheduler.engine.operations import attach, cancel, unknown_operation
from buildgrid_scheduler.engine.round import RoundSettings
from buildgrid_scheduler.engine.sessions import NewSession
from buildgrid_scheduler.notifier.delivery import Ticket
from buildgrid_scheduler.notifier.listener import Listener
from buildgrid_scheduler.properties.matching import Matching
from buildgrid_scheduler.properties.property_set import PropertySet
from buildgrid_scheduler.storage.abc import StorageABC
from buildgrid_scheduler.storage.action_cache_abc import ActionCacheABC
from buildgrid_scheduler.storage.cached_response import cached_response
from buildgrid_scheduler.store.action_cache import PostgresActionCache
from buildgrid_scheduler.store.hot_connection import Statements
from buildgrid_scheduler.store.provider import SqlProvider
from buildgrid_scheduler.store.schema import BotEntry
from buildgrid_scheduler.timers.session_expiry import SessionExpiryTimer

log = logging.getLogger(__name__)
R = TypeVar("R")
E = TypeVar("E", bound=IntEnum)


class Scheduler:
    """A replica of the scheduler, embedded in the calling program.

    The methods are synchronous and safe to call from many threads; `engine` is the door for coroutines, to
    the same parts. Except for timers they act for the instance of the surrounding `instance_context`, and
    raise InvalidArgument outside of one. All of them may raise Unavailable while the database is away.
    """

    RETRYABLE_STATUS_CODES = RETRYABLE_STATUS_CODES

    def __init__(
        self,
        sql_provider: SqlProvider,
        storage: StorageABC,
        *,
        sql_ro_provider: SqlProvider | None = None,
        sql_notifier_provider: SqlProvider | None = None,
        property_set: PropertySet,
        action_cache: ActionCacheABC | None = None,
        action_browser_url: str | None = None,
        max_execution_timeout: int = 7200,
        bot_session_keepalive_timeout: int = 600,
        poll_interval: float = 1,
        max_job_attempts: int = 5,
        max_infra_attempts: int = 20,
        job_assignment_interval: float = 1.0,
        priority_assignment_percentage: int = 100,
        max_queue_size: int | None = None,
        session_expiry_timer_interval: float = 10.0,
        cache_failed_actions: bool = False,
        clock: Clock = utc_now,
    ) -> None:
        """`sql_ro_provider` serves reads, `sql_notifier_provider` LISTEN; both default to `sql_provider`.

        Times are in seconds. `poll_interval` 0 or less: no notifier, for a replica that is alone.
        """
        self.storage = storage
        self.action_cache = action_cache
        self.property_set = property_set
        self.max_execution_timeout = timedelta(seconds=max_execution_timeout)
        self.keepalive = timedelta(seconds=bot_session_keepalive_timeout)
        own_cache = isinstance(action_cache, PostgresActionCache) and action_cache.provider is sql_provider
        self.engine = Engine(
            sql_provider,
            policy=CompletionPolicy(
                AttemptLimits(max_job_attempts, max_infra_attempts), cache_failed_actions, action_browser_url
            ),
            settings=RoundSettings(
                keepalive=self.keepalive,
                priority_percentage=priority_assignment_percentage,
                max_queue_size=max_queue_size,
                store_results=own_cache,
            ),
            requires=Matching(property_set).requires,
            clock=clock,
        )
        if action_cache is not None and not own_cache:
            self.engine.after_completion = self._store_results
        self.operations = OperationList(sql_ro_provider or sql_provider)
        self._read_provider = sql_ro_provider or sql_provider
        self._listener = Listener(
            sql_notifier_provider or sql_provider,
            self.engine,
            interval=job_assignment_interval,
            listen=poll_interval > 0,
        )
        self._expiry = SessionExpiryTimer(self.reap_expired_sessions, session_expiry_timer_interval)
        self._users = 0
        self._lock = threading.Lock()

    # --- life

    def start(self) -> None:
        """Start storage, cache, engine, notifier and timers. Several services may; the first one does it."""
        with self._lock:
            self._users += 1
            if self._users > 1:
                return
            self.storage.start()
            if self.action_cache is not None:
                self.action_cache.start()
            self.engine.start()
            self._listener.start()
            self._expiry.start()

    def stop(self) -> None:
        """The last `stop` ends it: what was submitted is finished first."""
        with self._lock:
            self._users -= 1
            if self._users > 0:
                return
            self._expiry.stop()
            self._listener.stop()
            self.engine.stop()
            if self.action_cache is not None:
                self.action_cache.stop()
            self.storage.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def listening(self) -> bool:
        """Whether this replica has reached the database and hears the others."""
        return self._listener.heard_once.is_set()

    # --- jobs and operations

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
    ) -> str:
        """Share a running job of the same action, or queue a new one; returns the operation's name.

        Neither is asked of an action with `do_not_cache`. The action cache is asked unless
        `skip_cache_lookup`; a hit with all outputs in the CAS makes a job that is born complete.
        Raises ResourceExhausted when too many jobs wait.
        """
        response = None
        if self.action_cache is not None and not action.do_not_cache and not skip_cache_lookup:
            response = cached_response(self.action_cache, self.storage, current_instance(), action_digest)
        job = NewJob(
            name=new_job_name(),
            instance=current_instance(),
            action_digest=digest_key(action_digest),
            action=action.SerializeToString(),
            do_not_cache=action.do_not_cache,
            priority=priority,
            requirement_hash=requirement_hash(platform_requirements),
            requirements=platform_requirements,
            property_label=property_label,
            command=" ".join(command.arguments),
            response=response,
        )
        ticket: Ticket[Enqueued] = Ticket()
        row = metadata_row(request_metadata) if request_metadata is not None else None
        self.engine.submit(Enqueue(ticket, str(uuid.uuid4()), job, row))
        return ticket.wait().operation_name

    def create_operation(self, job_name: str) -> str:
        """Another operation on a job. Raises NotFound, or Cancelled for a cancelled job."""
        name = str(uuid.uuid4())
        self._call(attach(current_instance(), name, job_name, metadata_hash=None, identity_id=None))
        return name

    def load_operation(self, operation_name: str) -> Operation:
        """The operation as it is now. Raises NotFound if unknown, or of another instance."""
        loaded = self._load(operation_name)
        if loaded is None:
            raise unknown_operation(operation_name)
        return operation_message(loaded.instance, loaded.name, loaded.state, cancelled=loaded.cancelled)

    def get_operation_job_name(self, operation_name: str) -> str | None:
        """The job of an operation; None if unknown, or of another instance."""
        loaded = self._load(operation_name)
        return None if loaded is None else loaded.job_name

    def cancel_operation(self, operation_name: str) -> None:
        """Cancel an operation, and its job when no other wants it. NotFound if unknown; done is fine."""
        self._call(cancel(current_instance(), operation_name))

    def _load(self, operation_name: str) -> LoadedOperation | None:
        instance = current_instance()
        ticket: Ticket[LoadedOperation | None] = Ticket()
        self.engine.submit(LoadOperation(ticket, operation_name))
        loaded = ticket.wait()
        return loaded if loaded is not None and loaded.instance == instance else None

    # --- bots and leases

    def add_bot_entry(self, *, bot_session_id: str, bot_session_status: int) -> str:
        """Open a session for the bot with this `bot_id`, closing its old one; returns the session's name."""
        name = str(uuid.uuid4())
        status = _known(BotStatus, bot_session_status)
        session = NewSession(name, current_instance(), bot_session_id, status)
        self._call(self.engine.sessions.open(session))
        return name

    def close_bot_sessions(self, bot_name: str) -> None:
        """Delete a session and let its jobs wait again. An unknown one is a no-op."""
        self._call(self.engine.sessions.close(current_instance(), bot_name, "the session was closed"))

    def reap_expired_sessions(self) -> bool:
        """Close a handful of expired sessions, of all instances; True if there were any."""
        return self._call(self.engine.sessions.reap()) > 0

    def synchronize_bot_lease(
        self,
        bot_name: str,
        bot_id: str,
        bot_status: int,
        session_lease: Lease | None,
        partial_execution_metadata: dict[str, ExecutedActionMetadata] | None = None,
    ) -> Lease | None:
        """Take the report of a bot with one slot and extend its session; returns the lease to tell it.

        Raises InvalidArgument for an unknown session, DataLoss when the report closes it.
        """
        reports = {}
        if session_lease is not None:
            partial = (partial_execution_metadata or {}).get(session_lease.id)
            reports[session_lease.id] = Report(
                state=_known(LeaseState, session_lease.state),
                status_code=session_lease.status.code,
                status_message=session_lease.status.message,
                status_details=tuple(session_lease.status.details),
                result=session_lease.result.value if session_lease.HasField("result") else None,
                partial_metadata=partial.SerializeToString() if partial is not None else None,
            )
        result = self._synchronize(bot_name, bot_id, _known(BotStatus, bot_status), reports)
        for tell in result.leases:
            lease = Lease(id=tell.job_name)
            if session_lease is not None and session_lease.id == tell.job_name:
                lease.CopyFrom(session_lease)
            lease.state = tell.state  # type: ignore[assignment]
            if tell.action is not None:
                lease.payload.CopyFrom(AnyMessage(type_url=ACTION_TYPE, value=tell.action))
            return lease
        return None

    def _synchronize(
        self, name: str, bot_id: str, status: BotStatus, reports: dict[str, Report]
    ) -> Synchronized:
        ticket: Ticket[Synchronized] = Ticket()
        self.engine.submit(Synchronize(ticket, current_instance(), name, bot_id, status, reports))
        return ticket.wait()

    def assign_n_leases_by_priority(self, *, capability_hash: str, bot_names: list[str]) -> list[str]:
        """Lease waiting jobs with exactly this requirement hash to these sessions, most urgent first.

        Returns the sessions that got one; [] when the database fails, which is logged.
        """
        return self._assign(capability_hash, bot_names, by_age=False)

    def assign_n_leases_by_age(self, *, capability_hash: str, bot_names: list[str]) -> list[str]:
        """As `assign_n_leases_by_priority`, oldest queued time first."""
        return self._assign(capability_hash, bot_names, by_age=True)

    def _assign(self, capability_hash: str, bot_names: list[str], *, by_age: bool) -> list[str]:
        instance = current_instance()
        try:
            return self._call(assign_waiting(instance, capability_hash, bot_names, by_age=by_age))
        except Unavailable as error:
            log.warning("no leases could be assigned: %s", error)
            return []

    def count_bots_by_status(self) -> dict[BotStatus, int]:
        """How many sessions of this instance have each status; every status is a key."""
        query = (
            select(BotEntry.status, func.count())
            .where(BotEntry.instance_name == current_instance())
            .group_by(BotEntry.status)
        )
        try:
            with self._read_provider.session() as session:
                counts: dict[int, int] = {row[0]: row[1] for row in session.execute(query)}
        except DBAPIError as error:
            raise Unavailable("the database cannot be reached; try again") from error
        return {status: counts.get(int(status), 0) for status in BotStatus}

    def _call(self, transaction: Callable[[Statements, datetime, Effects], R]) -> R:
        ticket: Ticket[R] = Ticket()
        self.engine.submit(Call(ticket, transaction))
        return ticket.wait()

    def _store_results(self, results: Sequence[tuple[str, str, bytes]]) -> None:
        """Completed results go to a cache that is not in our database; one that fails is logged."""
        if self.action_cache is None:
            return
        by_instance: dict[str, list[tuple[Digest, ActionResult]]] = {}
        for instance, key, result in results:
            entry = (parse_digest(key), ActionResult.FromString(result))
            by_instance.setdefault(instance, []).append(entry)
        for instance, entries in by_instance.items():
            try:
                self.action_cache.update_many(instance, entries)
            except Exception as error:  # noqa: BLE001 - a refusing or failing cache never fails the job
                log.warning("the action cache did not take %d results: %s", len(entries), error)


def _known(kind: type[E], number: int) -> E:
    """A number of the protocol, as what it stands for."""
    try:
        return kind(number)
    except ValueError as error:
        raise InvalidArgument(f"{number} is not a {kind.__name__}") from error
