"""The life of a server: from its configuration until it is told to stop."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator
from datetime import timedelta
from functools import partial

import grpc
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server
from grpc_reflection.v1alpha import reflection
from prometheus_client import (
    CollectorRegistry,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from buildgrid_scheduler.config import Config
from buildgrid_scheduler.config.source import ConfigSource
from buildgrid_scheduler.config.storage import DiskStorageConfig, MemoryStorageConfig
from buildgrid_scheduler.core.clock import utc_now
from buildgrid_scheduler.core.errors import FailedPrecondition
from buildgrid_scheduler.engine.fleet_counts import FleetCounts, count_fleet
from buildgrid_scheduler.server.auth import build_auth, server_credentials
from buildgrid_scheduler.server.database import Database
from buildgrid_scheduler.server.fleet_port import FleetPort
from buildgrid_scheduler.server.grpc_server import StartError, bind, server_options
from buildgrid_scheduler.server.health import Check, Health, storage_problem
from buildgrid_scheduler.server.health_service import HealthService
from buildgrid_scheduler.server.heartbeat import Heartbeat, own_version, this_replica
from buildgrid_scheduler.server.logs import configure_logging
from buildgrid_scheduler.server.messages import minding_messages
from buildgrid_scheduler.server.metrics import catalogue
from buildgrid_scheduler.server.metrics.calls import CallMetrics
from buildgrid_scheduler.server.metrics.fleet import FleetCollector
from buildgrid_scheduler.server.monitoring import Monitoring
from buildgrid_scheduler.server.open_files import allow_open_files
from buildgrid_scheduler.server.ports import refuse_taken_ports
from buildgrid_scheduler.server.reload import Outcome, Reloader
from buildgrid_scheduler.server.replica import Replica
from buildgrid_scheduler.server.stopping import all_done, tried, tried_within
from buildgrid_scheduler.store.revisions import head_revision

log = logging.getLogger(__name__)

SWITCH_INTERVAL = 0.0005
"""Seconds until a thread that wants to run interrupts another: the engine's threads do short pieces of work
between waits for the database, and at the default of 5 ms they mostly waited for the event loop."""
DRAIN = timedelta(seconds=4)
"""What was begun gets this long after `shutdown.grace`; with the default grace, stopping takes under 10 s."""


async def serve(source: ConfigSource) -> bool:
    """Run a replica until SIGTERM or SIGINT; SIGHUP makes it read its configuration again.

    Returns False when something hung, so that only ending the process helps. Raises ConfigError, StartError
    and FailedPrecondition with what is to be mended before it can run.
    """
    digest = source.digest()
    config = source.load()
    configure_logging(config.logging)
    refuse_taken_ports(config)
    allow_open_files()
    sys.setswitchinterval(SWITCH_INTERVAL)
    disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each, that nobody reads
    server = _Server(config, source, digest)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stopping.set)
    loop.add_signal_handler(signal.SIGHUP, server.hang_up)
    with server.monitoring():
        return await server.run()


class _Server:
    """One run of a replica."""

    def __init__(self, config: Config, source: ConfigSource, digest: str) -> None:
        self.stopping = asyncio.Event()
        self._config = config
        self._registry = CollectorRegistry()
        self._health = Health(self._registry)
        self._database = Database(config, self._health.waits) if config.needs_database else None
        self._replica: Replica | None = None
        self._fleet_port: FleetPort | None = None
        self._digest = digest
        self._heartbeat: Heartbeat | None = None
        self._reloader = Reloader(
            source, config, digest, self._reconfigure, self._registry, self._tell_outcome
        )

    def hang_up(self) -> None:
        """SIGHUP."""
        self._reloader.request()

    def _tell_outcome(self, outcome: Outcome) -> None:
        if self._heartbeat is not None:
            self._heartbeat.change(outcome)

    def _reconfigure(self, config: Config) -> None:
        if self._replica is not None:
            self._replica.reconfigure(config)
        if self._fleet_port is not None:
            self._fleet_port.reconfigure(config)
        configure_logging(config.logging)

    @contextlib.contextmanager
    def monitoring(self) -> Iterator[None]:
        """Serve health and metrics meanwhile, if so configured."""
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        info = catalogue.BUILD_INFO.gauge(self._registry)
        info.labels(own_version(), head_revision()).set(1)
        address = self._config.monitoring.listen
        if address is None:
            yield
            return
        try:
            monitoring = Monitoring(address, self._registry, self._health.ready, self._health.alive)
        except OSError as error:
            raise StartError(
                f"monitoring.listen: {address} cannot be bound: {error.strerror}; "
                "set another address, or null for none"
            ) from error
        monitoring.start()
        try:
            yield
        finally:
            monitoring.stop()

    async def run(self) -> bool:
        """Serve until told to stop; False when something hung."""
        turning = asyncio.create_task(self._health.turn())
        try:
            if self._database is not None and not await self._database.start(self.stopping):
                return True
            return await self._serve()
        finally:
            turning.cancel()
            if self._database is not None:
                await asyncio.to_thread(self._database.stop)

    async def _serve(self) -> bool:
        config = self._config
        authentication = build_auth(config.auth, config.tls)
        credentials = server_credentials(config.tls)
        replica = self._replica = Replica(config, self._database, authentication, self._registry)
        server = grpc.aio.server(interceptors=authentication.interceptors, options=server_options(config))
        health = HealthService()
        add_HealthServicer_to_server(health, server)
        calls = CallMetrics(self._registry)
        names = replica.add_services(minding_messages(calls.measured(server), config.grpc.max_message_size))
        if config.services.reflection:
            shown = [*names, "grpc.health.v1.Health", reflection.SERVICE_NAME]
            reflection.enable_server_reflection(shown, server)
        port = bind(server, config.listen, credentials)
        if config.fleet is not None:  # only where there is a scheduler: see Config
            self._fleet_port = FleetPort(config, config.fleet, replica, calls)
        try:
            await asyncio.to_thread(replica.start)
        except FailedPrecondition as error:
            raise StartError(str(error)) from error
        authentication.start()
        fleet = self._fleet()
        self._heartbeat = heartbeat = self._write_down(replica)
        await server.start()
        if self._fleet_port is not None:
            await self._fleet_port.start()
        watching = [
            asyncio.create_task(
                self._health.watch(self._checks(replica), health, names, stuck=replica.stuck)
            ),
            asyncio.create_task(self._reloader.watch()),
        ]
        log.info("serving on %s, pid %d", _with_port(config.listen, port), os.getpid())
        try:
            await self.stopping.wait()
        finally:
            self._health.stopping()
            for task in watching:
                task.cancel()
            await self._tell_probes_and_wait(health)
            grace = self._reloader.config.shutdown.grace.total_seconds()
            log.info("stopping: running calls have %g s", grace)
            ports = {"server": asyncio.create_task(server.stop(grace))}
            if self._fleet_port is not None:
                ports["fleet port"] = asyncio.create_task(self._fleet_port.stop(grace))
            sent = tried(replica.send_elsewhere)
            closed = await all_done(ports)
            ended = await tried_within(
                DRAIN,
                replica.stop,
                heartbeat.stop if heartbeat is not None else None,
                fleet.stop if fleet is not None else None,
                authentication.stop,
            )
            ended = sent and closed and ended
            log.info("stopped") if ended else log.error("some work did not end, and is given up")
        return ended

    def _checks(self, replica: Replica) -> list[Check]:
        """What must be well for this replica to serve."""
        checks = []
        if self._database is not None:
            checks.append(Check("the database", self._database.problem))
        if (scheduler := replica.scheduler) is not None:
            deaf = "does not hear the other replicas yet"
            checks.append(Check("the notifier", lambda: None if scheduler.listening else deaf))
        if not isinstance(self._config.storage, DiskStorageConfig | MemoryStorageConfig):
            checks.append(Check("the storage", partial(storage_problem, replica.storage)))
        return checks

    def _fleet(self) -> FleetCollector | None:
        """Begin to read the numbers that replicas share."""
        if self._database is None or not self._config.services.schedules:
            return None
        provider = self._database.read_provider or self._database.provider

        def read() -> FleetCounts:
            with provider.session() as session:
                return count_fleet(session, utc_now())

        fleet = FleetCollector(read, self._config.monitoring.fleet_interval, self._registry)
        fleet.start()
        return fleet

    def _write_down(self, replica: Replica) -> Heartbeat | None:
        """Begin to write this replica down in the database, for whoever looks after the farm."""
        if self._database is None or not self._config.services.schedules:
            return None
        heartbeat = Heartbeat(self._database.provider, this_replica(self._digest), replica.sums)
        heartbeat.start()
        return heartbeat

    async def _tell_probes_and_wait(self, health: HealthService) -> None:
        """Not ready first, and serving on: whoever balances load notices, and sends nobody here any more."""
        await health.enter_graceful_shutdown()
        delay = self._reloader.config.shutdown.delay.total_seconds()
        if delay:
            log.info("stopping in %g s, not ready from now on", delay)
            await asyncio.sleep(delay)


def _with_port(address: str, port: int) -> str:
    return f"{address.rpartition(':')[0]}:{port}"
