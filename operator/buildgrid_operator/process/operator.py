"""The operator as a process: it waits until it leads, then works until it is told to stop."""

import asyncio
import logging
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from buildgrid_scheduler.core.clock import Clock, utc_now
from kubernetes import client as kubernetes

from buildgrid_operator.cluster.authorities import Authorities
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.connection import connect
from buildgrid_operator.cluster.discovery import cluster_tokens_or_none
from buildgrid_operator.cluster.fleet import FleetClient
from buildgrid_operator.cluster.fleet_streams import FleetStreams
from buildgrid_operator.cluster.kinds import (
    GRPC_ROUTE,
    NAMESPACE,
    POD,
    PROPERTY_SET,
    SCHEDULER,
    SERVICE_MONITOR,
    ObjectRef,
)
from buildgrid_operator.cluster.own_tokens import OwnTokens
from buildgrid_operator.desired import ClusterTokens, Settings
from buildgrid_operator.keda.numbers import FleetNumbers
from buildgrid_operator.keda.service import ScalerServer
from buildgrid_operator.process.event_stream import EventStream
from buildgrid_operator.process.fleet_metrics import FleetMetrics
from buildgrid_operator.process.leadership import Leadership, LeadershipLost
from buildgrid_operator.process.logs import about, configure_logging
from buildgrid_operator.process.metrics import Metrics
from buildgrid_operator.process.monitoring import Health, Heartbeat, MonitoringServer
from buildgrid_operator.process.options import Options
from buildgrid_operator.process.watching import Watches
from buildgrid_operator.reconcile.cache import Cache
from buildgrid_operator.reconcile.concerns import Key
from buildgrid_operator.reconcile.deletion import free_where_all_ends
from buildgrid_operator.reconcile.event_recorder import EventRecorder
from buildgrid_operator.reconcile.farm_key import FarmKey
from buildgrid_operator.reconcile.farm_pass import FarmPass
from buildgrid_operator.reconcile.fleet_telling import FleetTelling
from buildgrid_operator.reconcile.planning import Planner
from buildgrid_operator.reconcile.property_set_pass import PropertySetPass
from buildgrid_operator.reconcile.scheduler_pass import SchedulerPass
from buildgrid_operator.reconcile.status_writer import StatusWriter
from buildgrid_operator.reconcile.upgrades import Upgrades
from buildgrid_operator.reconcile.work_queue import Outcome, WorkQueue

_log = logging.getLogger(__name__)
LOST = 1
"""exit code when it leads no longer"""
_BEAT = 5.0
_FLUSH = 60.0
_FREEING = timedelta(seconds=5)
_LONGEST_PAUSE = 1.0
_OTHER_THREADS = 2
"""besides those of passes: of events that are flushed, and of what is done while it stops"""
_TOKENS_GOOD_FOR = timedelta(minutes=1)


async def run(options: Options) -> int:
    """The whole life of the process. Returns its exit code."""
    configure_logging(form=options.log_form, level=options.log_level)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    # Python's own number goes by cores: on small nodes passes would wait for each other.
    loop.set_default_executor(ThreadPoolExecutor(2 * options.workers + _OTHER_THREADS, "pass"))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    api = connect(kubeconfig=options.kubeconfig, context=options.context, user_agent="buildgrid-operator")
    operator = OperatorProcess(options, api)
    try:
        return await operator.run(stop)
    finally:
        with suppress(Exception):
            api.close()  # type: ignore[no-untyped-call]


@dataclass(slots=True)
class _Tokens:
    """The cluster's token issuer and keys, asked for at most every minute: keys rotate without a word."""

    api: kubernetes.ApiClient
    clock: Clock = utc_now
    known: ClusterTokens | None = None
    asked: datetime | None = None

    def __call__(self) -> ClusterTokens | None:
        """Raises ClusterError."""
        now = self.clock()
        if self.known is None or self.asked is None or now - self.asked > _TOKENS_GOOD_FOR:
            self.known = cluster_tokens_or_none(self.api)
            self.asked = now
        return self.known


@dataclass(slots=True)
class _ClusterUid:
    """The UID of the operator's own namespace: another one in every cluster, and the same after a restart."""

    client: Client
    namespace: str
    known: str = ""

    def __call__(self) -> str:
        """Raises ClusterError."""
        if not self.known:
            self.known = str(self.client.get(NAMESPACE, None, self.namespace)["metadata"]["uid"])
        return self.known


class _Pace:
    """A large farm tells of changes all the time: its passes take a fifth of the time, unless one is long."""

    def __init__(self) -> None:
        self._next: dict[FarmKey, float] = {}

    def wait(self, key: FarmKey) -> float:
        """Seconds until the next pass."""
        return max(0.0, self._next.pop(key, 0.0) - time.monotonic())

    def passed(self, key: FarmKey, seconds: float) -> None:
        """A pass took so long."""
        self._next[key] = time.monotonic() + min(4 * seconds, _LONGEST_PAUSE)


class OperatorProcess:
    """All parts, put together."""

    def __init__(self, options: Options, api: kubernetes.ApiClient) -> None:
        self._options = options
        self._metrics = Metrics()
        self._client = client = Client(api, observe=self._metrics.called)
        self._cache = cache = Cache()
        self._recorder = EventRecorder(client, options.identity)
        self._queue: WorkQueue[ObjectRef] = WorkQueue(
            self._handle, workers=options.workers, observe=self._metrics.passed
        )
        # Of their own: who waits for bots does not wait for two hundred Schedulers to be looked after.
        self._farms: WorkQueue[FarmKey] = WorkQueue(
            self._handle_farm, workers=options.workers, observe=self._metrics.passed
        )
        self._watches = Watches(
            client,
            EventStream(api),
            cache,
            self._add,
            namespaces=options.namespaces,
            relist=options.relist,
        )
        upgrades = Upgrades()
        own = options.settings.operator
        fleet = FleetClient(
            tokens=OwnTokens(client, own.namespace, own.service_account),
            authorities=Authorities(client),
            ca_file=options.ca_file,
            endpoint=options.fleet_endpoint,
        )
        writer = StatusWriter(client, cache, self._recorder, self._metrics.show_conditions)
        planner = Planner(cache, self._settings, _Tokens(api), fleet, upgrades)
        self._schedulers = SchedulerPass(
            client, cache, planner, writer, upgrades, blind_spots=self._watches.blind_spots
        )
        self._property_sets = PropertySetPass(cache, writer)
        self._pace = _Pace()
        self._streams = FleetStreams(fleet, lambda scheduler: self._add(FarmKey(scheduler)))
        numbers = FleetNumbers(cache.get, self._streams.heard_at, lambda: self._watches.problem)
        asked = options.external_scaler
        self._scaler = ScalerServer(asked, numbers) if asked is not None else None
        self._farm_pass = FarmPass(
            client,
            cache,
            self._streams,
            fleet,
            self._settings,
            _ClusterUid(client, own.namespace),
            FleetTelling(writer, self._recorder, FleetMetrics(self._metrics, numbers)),
            blind=lambda: self._watches.refused(POD),
        )
        self._leadership = Leadership(client, options.lease_namespace, options.lease_name, options.identity)
        self._heartbeat = Heartbeat()
        self._monitoring = MonitoringServer(options.monitoring, self._metrics.registry, self._health())
        self._metrics.watch_queues(
            {
                "objects": (self._queue.figures, lambda: self._queue.retries),
                "farms": (self._farms.figures, lambda: self._farms.retries),
            }
        )
        self._metrics.watch_leadership(lambda: self._leadership.leads)

    async def run(self, stop: asyncio.Event) -> int:
        """Until `stop`, or until it leads no longer, which ends the process at once."""
        self._monitoring.start()
        _log.info("metrics and health are served on port %d", self._monitoring.port)
        stopped = asyncio.create_task(stop.wait(), name="stop")
        beat = asyncio.create_task(self._beat(), name="heartbeat")
        try:
            acquire = asyncio.create_task(self._leadership.acquire(), name="acquire")
            await asyncio.wait({acquire, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not acquire.done():
                acquire.cancel()
                return 0
            acquire.result()
            return await self._lead(stopped)
        finally:
            stopped.cancel()
            beat.cancel()
            self._monitoring.stop()

    async def _lead(self, stopped: "asyncio.Task[bool]") -> int:
        hold = asyncio.create_task(self._leadership.hold(), name="hold")
        work = asyncio.create_task(self._queue.run(), name="queue")
        farms = asyncio.create_task(self._farms.run(), name="farms")
        flush = asyncio.create_task(self._flush(), name="events")
        await asyncio.sleep(0)  # the queues take keys from threads once they run
        self._watches.start()
        if self._scaler is not None:
            await self._scaler.start()
        tasks = (hold, work, farms, flush)
        await asyncio.wait({*tasks, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if not stopped.done():
            _end_at_once(next(task for task in tasks if task.done()))
        _log.info("stops")
        if self._scaler is not None:
            await self._scaler.stop()
        self._queue.stop()
        self._farms.stop()
        self._streams.stop()
        held = self._cache.all(SCHEDULER)
        for ref in await asyncio.to_thread(free_where_all_ends, self._client.within(_FREEING), held):
            _log.info("%s is freed: its namespace is being deleted", ref)
        ending = asyncio.create_task(asyncio.to_thread(self._watches.stop))
        # The Lease is held until nothing acts any more.
        ended = asyncio.create_task(_all(work, farms, ending))
        await asyncio.wait({hold, ended}, return_when=asyncio.FIRST_COMPLETED)
        if hold.done():
            _end_at_once(hold)
        for task in (hold, flush):
            task.cancel()
        await asyncio.gather(hold, flush, return_exceptions=True)
        await self._leadership.release()
        return 0

    def _add(self, key: Key) -> None:
        """From any thread: an event concerns this key."""
        if isinstance(key, FarmKey):
            self._farms.add_from_thread(key)
        else:
            self._queue.add_from_thread(key)

    async def _handle_farm(self, key: FarmKey) -> Outcome:
        await asyncio.sleep(self._pace.wait(key))
        start = time.monotonic()
        with about(key.scheduler, ""):
            outcome = await asyncio.to_thread(self._farm_pass.run, key)
        if not outcome.gone:
            self._pace.passed(key, time.monotonic() - start)
        return outcome

    async def _handle(self, key: ObjectRef) -> Outcome:
        obj = self._cache.get(key)
        uid = "" if obj is None else str(obj["metadata"].get("uid") or "")
        passes = self._property_sets.run if key.kind == PROPERTY_SET else self._schedulers.run
        with about(key, uid):
            outcome = await asyncio.to_thread(passes, key)
        if outcome.gone:
            self._metrics.forget(key)
        return outcome

    def _settings(self) -> Settings:
        return replace(
            self._options.settings,
            has_gateway_api=self._watches.serves(GRPC_ROUTE),
            has_service_monitor=self._watches.serves(SERVICE_MONITOR),
        )

    def _health(self) -> Health:
        health = Health()
        health.alive_if("event loop", self._heartbeat.check)
        # Whoever waits for the Lease is ready to take it.
        health.ready_if("cluster", lambda: self._watches.problem if self._leadership.leads else None)
        return health

    async def _beat(self) -> None:
        while True:
            self._heartbeat.beat()
            await asyncio.sleep(_BEAT)

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH)
            await asyncio.to_thread(self._recorder.flush)


async def _all(*tasks: "asyncio.Task[None]") -> None:
    await asyncio.gather(*tasks)


def _end_at_once(task: "asyncio.Task[None]") -> None:
    """Another operator may act from now on: calls on threads must not go on, and they cannot be stopped."""
    error = task.exception()
    if isinstance(error, LeadershipLost):
        _log.error("%s", error)
    else:
        _log.critical("the task %s ended, which it must not", task.get_name(), exc_info=error)
    logging.shutdown()
    sys.stderr.flush()
    os._exit(LOST)
