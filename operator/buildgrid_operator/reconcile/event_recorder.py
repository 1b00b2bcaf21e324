"""Events, sent as the aggregator decides. One that cannot be sent is lost, and nothing else with it."""

import logging
import threading

from buildgrid_scheduler.core.clock import Clock, utc_now

from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.errors import AlreadyExists, ClusterError, NotFound
from buildgrid_operator.cluster.kinds import EVENT, ObjectRef
from buildgrid_operator.status.events import EventAggregator, EventSeries, EventWrite, Happening

_log = logging.getLogger(__name__)


class EventRecorder:
    """Thread-safe. `instance` is which replica of the operator says it: its pod's name."""

    def __init__(self, client: Client, instance: str, clock: Clock = utc_now) -> None:
        self._client = client
        self._instance = instance
        self._clock = clock
        self._aggregator = EventAggregator()
        self._lock = threading.Lock()

    def record(self, happening: Happening) -> None:
        """Something happened to an object. At most one call of the API server."""
        with self._lock:
            write = self._aggregator.record(happening, self._clock())
        if write is not None:
            self._send(write)

    def flush(self) -> None:
        """Write counts that are due. To be called once a minute or so."""
        with self._lock:
            writes = self._aggregator.flush(self._clock())
        for write in writes:
            self._send(write)

    def forget(self, uid: str) -> None:
        """The object is gone."""
        with self._lock:
            self._aggregator.forget(uid)

    def _send(self, write: EventWrite) -> None:
        try:
            if isinstance(write, EventSeries):
                self._extend(write)
            else:
                self._client.create(write.manifest(self._instance))
        except AlreadyExists:
            # The answer to the first attempt was lost.
            return
        except ClusterError as error:
            _log.warning("an event was not sent: %s", error)

    def _extend(self, series: EventSeries) -> None:
        try:
            self._client.patch_merge(ObjectRef(EVENT, series.namespace, series.name), series.patch())
        except NotFound:
            # The API server forgets events after an hour.
            self._client.create(series.first.manifest(self._instance))
