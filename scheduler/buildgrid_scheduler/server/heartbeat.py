"""Writes the replica down in the database, again and again, with the configuration that it runs on.

And with the work that it saw since the last time: see core.requirement_figures.
"""

import logging
import socket
import threading
import uuid
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata

from buildgrid_scheduler.core.clock import utc_now
from buildgrid_scheduler.engine.figures import RequirementSums
from buildgrid_scheduler.fleet.estimates import add_figures
from buildgrid_scheduler.fleet.replicas import BEAT, ReplicaRecord, remove_replica, write_replica
from buildgrid_scheduler.server.reload import Outcome
from buildgrid_scheduler.store.provider import SqlProvider

log = logging.getLogger(__name__)
STOP_WITHIN = 1.0
"""Seconds. A record that stays is not told of for long: see GONE_AFTER."""


def own_version() -> str:
    """Of this program."""
    return metadata.version("buildgrid-kubernetes")


def this_replica(config_hash: str) -> ReplicaRecord:
    """The record of this process, which has just been started with that configuration."""
    return ReplicaRecord(
        id=uuid.uuid4().hex,
        host=socket.gethostname(),
        version=own_version(),
        started_at=utc_now(),
        config_hash=config_hash,
    )


class Heartbeat:
    """`start` writes at once, `change` soon after; `stop` removes the record. On a thread of its own.

    While the database is away nothing is written; that is logged where it matters, and not here again.
    """

    def __init__(
        self, provider: SqlProvider, record: ReplicaRecord, sums: RequirementSums | None = None
    ) -> None:
        """`sums`: of the replica's engine; None where nobody adds up."""
        self._provider = provider
        self._record = record
        self._sums = sums
        self._lock = threading.Lock()
        self._due = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def change(self, outcome: Outcome) -> None:
        """A new configuration was taken up, or was not."""
        with self._lock:
            if outcome.error:
                self._record = replace(self._record, refused_hash=outcome.digest, refused_error=outcome.error)
            else:
                self._record = replace(
                    self._record,
                    config_hash=outcome.digest,
                    refused_hash="",
                    refused_error="",
                    fields_at_restart=outcome.fields_at_restart,
                )
        self._due.set()

    def stop(self) -> None:
        """End. Returns once the record is gone or could not be removed, or after STOP_WITHIN."""
        self._stopping = True
        self._due.set()
        if self._thread.is_alive():
            self._thread.join(STOP_WITHIN)

    def _run(self) -> None:
        while not self._stopping:
            self._due.clear()
            self._do(self._write)
            self._do(self._add_figures)
            self._due.wait(BEAT.total_seconds())
        self._do(self._remove)
        self._do(self._add_figures)

    def _write(self) -> None:
        with self._lock:
            record = self._record
        with self._provider.session() as session:
            write_replica(session, record)

    def _add_figures(self) -> None:
        if self._sums is None:
            return
        taken = self._sums.take()
        try:
            with self._provider.session() as session:
                known = add_figures(session, taken)
        except Exception:
            self._sums.put_back(taken)
            raise
        self._sums.learn(known)

    def _remove(self) -> None:
        with self._provider.session() as session:
            remove_replica(session, self._record.id)

    def _do(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:  # noqa: BLE001 - the thread must live: it writes again
            log.debug("the replica could not write itself down: %s", error)
