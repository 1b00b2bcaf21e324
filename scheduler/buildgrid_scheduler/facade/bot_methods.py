"""Methods on bots and leases."""

import logging
import uuid
from collections.abc import Iterable
from datetime import datetime

from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import ExecutedActionMetadata
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2 import Lease
from google.protobuf.any_pb2 import Any as AnyMessage

from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.core.errors import Unavailable, UnknownSession
from buildgrid_scheduler.core.instance import current_instance
from buildgrid_scheduler.core.job_state import ACTION_TYPE
from buildgrid_scheduler.core.lease_metadata import trailing_metadata
from buildgrid_scheduler.core.lease_transition import LeaseState
from buildgrid_scheduler.engine.assigning import assign_waiting
from buildgrid_scheduler.engine.fleet_view import count_bots_by_status, list_workers
from buildgrid_scheduler.engine.items import Report, Synchronize, Synchronized
from buildgrid_scheduler.engine.log_streams import load_lease_metadata
from buildgrid_scheduler.engine.sessions import NewSession, refresh
from buildgrid_scheduler.facade.door import Door, known
from buildgrid_scheduler.notifier.delivery import Ticket
from buildgrid_scheduler.store.schema import BotEntry

log = logging.getLogger(__name__)


class BotMethods(Door):
    """Part of `Scheduler`."""

    def add_bot_entry(self, *, bot_session_id: str, bot_session_status: int) -> str:
        """Open a session for the bot with this `bot_id`, closing its old one; returns the session's name."""
        name = str(uuid.uuid4())
        status = known(BotStatus, bot_session_status)
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

        `partial_execution_metadata`: by lease id. Never blocks for work. Raises InvalidArgument for an
        unknown session, DataLoss when the report closes it.
        """
        reports = {}
        if session_lease is not None:
            partial = (partial_execution_metadata or {}).get(session_lease.id)
            reports[session_lease.id] = Report(
                state=known(LeaseState, session_lease.state),
                status_code=session_lease.status.code,
                status_message=session_lease.status.message,
                status_details=tuple(session_lease.status.details),
                result=session_lease.result.value if session_lease.HasField("result") else None,
                partial_metadata=partial.SerializeToString() if partial is not None else None,
            )
        ticket: Ticket[Synchronized] = Ticket()
        status = known(BotStatus, bot_status)
        self.engine.submit(Synchronize(ticket, current_instance(), bot_name, bot_id, status, reports))
        try:
            answer = ticket.wait()
        except UnknownSession as error:
            sessions = self.engine.sessions
            takeover = self._call(
                sessions.find_takeover(current_instance(), bot_name, bot_id, reports.keys())
            )
            if takeover is None:
                raise
            sessions.warnings.note(takeover)
            raise takeover.error(was_open=False) from error
        for tell in answer.leases:
            lease = Lease(id=tell.job_name)
            if session_lease is not None and session_lease.id == tell.job_name:
                lease.CopyFrom(session_lease)
            lease.state = tell.state  # type: ignore[assignment]
            if tell.action is not None:
                lease.payload.CopyFrom(AnyMessage(type_url=ACTION_TYPE, value=tell.action))
                if self.integrations.lease_streams is not None and tell.job_name not in reports:
                    self.integrations.lease_streams.request(current_instance(), bot_name, tell.job_name)
            return lease
        return None

    def refresh_bot_expiry_time(self, bot_name: str, bot_id: str) -> datetime:
        """Extend a session by the keepalive timeout; returns until when, aware UTC.

        Raises InvalidArgument for an unknown session.
        """
        return self._call(refresh(current_instance(), bot_name, bot_id, self.keepalive))

    def assign_n_leases_by_priority(self, *, capability_hash: str, bot_names: list[str]) -> list[str]:
        """Lease waiting jobs with exactly this requirement hash to these sessions, most urgent first.

        At most one to each, and only to those that are live, OK, not drained and have a free slot. Returns
        the sessions that got one; [] when the database fails, which is logged.
        """
        return self._assign(capability_hash, bot_names, by_age=False)

    def assign_n_leases_by_age(self, *, capability_hash: str, bot_names: list[str]) -> list[str]:
        """As `assign_n_leases_by_priority`, oldest queued time first."""
        return self._assign(capability_hash, bot_names, by_age=True)

    def list_workers(self, name_filter: str, page_number: int, page_size: int) -> tuple[list[BotEntry], int]:
        """A page of the live sessions, by bot_id, and how many there are in all.

        `name_filter`: part of the session's name or bot_id, whatever the case; "" is all. `page_number`
        counts from 1; `page_size` 0 is all.
        """
        with self._reading() as session:
            return list_workers(session, current_instance(), name_filter, page_number, page_size)

    def count_bots_by_status(self) -> dict[BotStatus, int]:
        """How many sessions of this instance have each status; every status is a key."""
        with self._reading() as session:
            return count_bots_by_status(session, current_instance())

    def get_metadata_for_leases(self, leases: Iterable[Lease]) -> list[tuple[str, bytes]]:
        """The trailing metadata of UpdateBotSession: for each known lease where to stream its output.

        Pairs of 'executeoperationmetadata-bin' and a serialized ExecuteOperationMetadata, whose stream names
        are those to write to.
        """
        names = [lease.id for lease in leases]
        if self.integrations.lease_streams is not None:
            self.integrations.lease_streams.settle(names)
        return trailing_metadata(self._call(load_lease_metadata(current_instance(), names)))

    def _assign(self, capability_hash: str, bot_names: list[str], *, by_age: bool) -> list[str]:
        instance = current_instance()
        try:
            return self._call(assign_waiting(instance, capability_hash, bot_names, by_age=by_age))
        except Unavailable as error:
            log.warning("no leases could be assigned: %s", error)
            return []
