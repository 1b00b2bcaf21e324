"""Puts a replica together from its configuration, and runs it until it is told to stop."""

import asyncio
import logging
import os
import random
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc
from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as re_grpc
from buildgrid_protos.google.bytestream import bytestream_pb2_grpc
from buildgrid_protos.google.devtools.remoteworkers.v1test2 import bots_pb2_grpc
from google.longrunning import operations_pb2_grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1._async import HealthServicer
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

from buildgrid_scheduler.config import Config
from buildgrid_scheduler.config.property_set import DynamicPropertySetConfig, PropertySetConfig
from buildgrid_scheduler.core.errors import FailedPrecondition
from buildgrid_scheduler.outgoing.metrics import OutboxCollector
from buildgrid_scheduler.properties import (
    DynamicPropertySet,
    PropertyLabel,
    PropertySet,
    StaticPropertySet,
)
from buildgrid_scheduler.scheduler import Scheduler
from buildgrid_scheduler.server.auth import Authentication, build_auth, server_credentials
from buildgrid_scheduler.server.database import Database
from buildgrid_scheduler.server.engine_metrics import EngineCollector
from buildgrid_scheduler.server.integrations import integration_options
from buildgrid_scheduler.server.monitoring import Monitoring
from buildgrid_scheduler.server.storage import build_action_cache, build_storage, storage_threads
from buildgrid_scheduler.services.action_cache import ActionCacheService
from buildgrid_scheduler.services.bots import BotsService
from buildgrid_scheduler.services.bytestream import ByteStreamService
from buildgrid_scheduler.services.capabilities import CapabilitiesService
from buildgrid_scheduler.services.cas import CasService
from buildgrid_scheduler.services.execution import ExecutionService, ExecutionSettings
from buildgrid_scheduler.services.instances import Instances
from buildgrid_scheduler.services.operations import OperationsService

log = logging.getLogger(__name__)

HEALTH_INTERVAL = 0.5
SWITCH_INTERVAL = 0.0005
"""Seconds until a thread that wants to run interrupts another: the engine's threads do short pieces of work
between waits for the database, and at the default of 5 ms they mostly waited for the event loop."""


class StartError(Exception):
    """The replica cannot start; the message names the setting and the remedy."""


@dataclass(slots=True)
class Replica:
    """The parts of a running server."""

    config: Config
    scheduler: Scheduler
    executor: ThreadPoolExecutor
    authentication: Authentication
    byte_streams: ByteStreamService | None = None

    def add_services(self, server: grpc.aio.Server) -> list[str]:
        """Add the services that are switched on; returns their names."""
        config, scheduler = self.config, self.scheduler
        instances = Instances(config.instances, self.authentication.access)
        offered = config.services
        names = []
        if offered.execution:
            settings = ExecutionSettings(scheduler.max_execution_timeout)
            re_grpc.add_ExecutionServicer_to_server(
                ExecutionService(
                    scheduler.engine,
                    scheduler.property_set,
                    scheduler.storage,
                    scheduler.action_cache,
                    instances,
                    self.executor,
                    settings,
                    integrations=scheduler.integrations,
                    identities=scheduler.identities,
                ),
                server,
            )
            operations_pb2_grpc.add_OperationsServicer_to_server(
                OperationsService(scheduler.engine, scheduler.operations, instances, self.executor), server
            )
            names += ["build.bazel.remote.execution.v2.Execution", "google.longrunning.Operations"]
        if offered.bots:
            service = BotsService(
                scheduler.engine,
                scheduler.property_set,
                instances,
                scheduler.keepalive,
                scheduler.integrations.lease_streams,
            )
            bots_pb2_grpc.add_BotsServicer_to_server(service, server)
            names.append("google.devtools.remoteworkers.v1test2.Bots")
        if offered.cas:
            cas = CasService(scheduler.storage, instances, self.executor)
            re_grpc.add_ContentAddressableStorageServicer_to_server(cas, server)
            self.byte_streams = ByteStreamService(scheduler.storage, instances, self.executor)
            bytestream_pb2_grpc.add_ByteStreamServicer_to_server(self.byte_streams, server)
            names += [
                "build.bazel.remote.execution.v2.ContentAddressableStorage",
                "google.bytestream.ByteStream",
            ]
        if offered.action_cache and scheduler.action_cache is not None:
            cache = ActionCacheService(scheduler.action_cache, scheduler.storage, instances, self.executor)
            re_grpc.add_ActionCacheServicer_to_server(cache, server)
            names.append("build.bazel.remote.execution.v2.ActionCache")
        capabilities = CapabilitiesService(
            instances,
            cache=offered.cas or offered.action_cache,
            execution=offered.execution,
            updates=offered.action_cache and config.action_cache.allow_updates,
        )
        re_grpc.add_CapabilitiesServicer_to_server(capabilities, server)
        return [*names, "build.bazel.remote.execution.v2.Capabilities"]


def build_scheduler(config: Config, database: Database) -> Scheduler:
    """The scheduler of a configuration, not yet started."""
    settings = config.scheduler
    return Scheduler(
        database.provider,
        build_storage(config.storage, config.data),
        sql_ro_provider=database.read_provider,
        sql_notifier_provider=database.notifier_provider,
        property_set=_property_set(config.property_set),
        action_cache=build_action_cache(config.action_cache, database.provider),
        action_browser_url=settings.action_browser_url,
        max_execution_timeout=int(settings.max_execution_timeout.total_seconds()),
        bot_session_keepalive_timeout=int(settings.bot_session_keepalive_timeout.total_seconds()),
        poll_interval=settings.poll_interval.total_seconds(),
        max_job_attempts=settings.max_job_attempts,
        max_infra_attempts=settings.max_infra_attempts,
        avoid_class_for=settings.avoid_class_for,
        job_assignment_interval=settings.job_assignment_interval.total_seconds(),
        priority_assignment_percentage=settings.priority_assignment_percentage,
        max_queue_size=settings.max_queue_size,
        session_expiry_timer_interval=settings.session_expiry_interval.total_seconds(),
        cache_failed_actions=settings.cache_failed_actions,
        metrics_publish_interval=settings.metrics_publish_interval,
        **integration_options(config.assets, config.log_streams, config.metering),
    )


def _property_set(config: PropertySetConfig) -> PropertySet:
    if isinstance(config, DynamicPropertySetConfig):
        return DynamicPropertySet(
            unique_property_keys=set(config.unique_property_keys),
            match_property_keys=set(config.match_property_keys),
            wildcard_property_keys=set(config.wildcard_property_keys),
            label_key=config.label_key,
        )
    return StaticPropertySet(
        property_labels=[
            PropertyLabel(label.label, {(p.key, p.value) for p in label.properties})
            for label in config.labels
        ],
        wildcard_property_keys=set(config.wildcard_property_keys),
    )


async def serve(config: Config) -> None:
    """Run a replica until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    sys.setswitchinterval(SWITCH_INTERVAL)
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    database = Database(config)
    not_ready = ["starting"]
    registry = CollectorRegistry()
    monitoring = None
    if config.monitoring.listen is not None:
        try:
            monitoring = Monitoring(
                config.monitoring.listen,
                registry,
                lambda: database.waits_because or (not_ready[0] if not_ready else None),
            )
        except OSError as error:
            raise StartError(
                f"monitoring.listen: {config.monitoring.listen} cannot be bound: {error.strerror}; "
                "set another address, or null for none"
            ) from error
        monitoring.start()
    try:
        if not await database.start(stopping):
            return
        await _run(config, database, stopping, not_ready, registry)
    finally:
        await loop.run_in_executor(None, database.stop)
        if monitoring is not None:
            monitoring.stop()


async def _run(
    config: Config,
    database: Database,
    stopping: asyncio.Event,
    not_ready: list[str],
    registry: CollectorRegistry,
) -> None:
    loop = asyncio.get_running_loop()
    authentication = build_auth(config.auth, config.tls)
    credentials = server_credentials(config.tls)
    threads = storage_threads(config.storage, config.grpc.storage_threads)
    executor = ThreadPoolExecutor(threads, thread_name_prefix="storage")
    scheduler = build_scheduler(config, database)
    replica = Replica(config, scheduler, executor, authentication)
    server = grpc.aio.server(interceptors=authentication.interceptors, options=_options(config))
    health = HealthServicer()
    add_HealthServicer_to_server(health, server)
    names = replica.add_services(server)
    if config.services.reflection:
        shown = [*names, "grpc.health.v1.Health", reflection.SERVICE_NAME]
        reflection.enable_server_reflection(shown, server)
    try:
        if credentials is None:
            server.add_insecure_port(config.listen)
        else:
            server.add_secure_port(config.listen, credentials)
    except RuntimeError as error:
        raise StartError(
            f"listen: {config.listen} cannot be bound: it is in use, or not an address of this machine; "
            "choose another with --listen or listen"
        ) from error
    try:
        await loop.run_in_executor(executor, scheduler.start)
    except FailedPrecondition as error:
        raise StartError(str(error)) from error
    authentication.start()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    registry.register(EngineCollector(scheduler.engine))
    registry.register(scheduler.integrations.histograms)
    registry.register(OutboxCollector(scheduler.integrations.outboxes))
    await server.start()
    watcher = asyncio.create_task(_watch_health(database, scheduler, health, names, not_ready))
    log.info("serving on %s, pid %d", config.listen, os.getpid())
    grace = config.shutdown.grace.total_seconds()
    try:
        await stopping.wait()
        watcher.cancel()
        not_ready[:] = ["stopping"]
        await asyncio.sleep(config.shutdown.delay.total_seconds())
        log.info("stopping: running calls have %g s", grace)
    finally:
        watcher.cancel()
        not_ready[:] = ["stopping"]
        await health.enter_graceful_shutdown()
        scheduler.storage.stop_waiting()
        if scheduler.action_cache is not None:
            scheduler.action_cache.stop_waiting()
        stopped = asyncio.create_task(server.stop(grace))
        scheduler.engine.send_elsewhere()
        await stopped
        if replica.byte_streams is not None:
            replica.byte_streams.close()
        await loop.run_in_executor(None, scheduler.stop)
        await loop.run_in_executor(None, authentication.stop)
        executor.shutdown()
        log.info("stopped")


async def _watch_health(
    database: Database,
    scheduler: Scheduler,
    health: HealthServicer,
    names: list[str],
    not_ready: list[str],
) -> None:
    """Ready is whoever can serve: the database answers, and this replica hears the others."""
    told: int | None = None
    while True:
        reason = await asyncio.get_running_loop().run_in_executor(None, database.problem)
        if reason is None and not scheduler.listening:
            reason = "does not hear the other replicas yet"
        not_ready[:] = [reason] if reason else []
        status = (
            health_pb2.HealthCheckResponse.NOT_SERVING if reason else health_pb2.HealthCheckResponse.SERVING
        )
        if status != told:
            for name in ["", *names]:
                await health.set(name, status)
            log.info("ready" if reason is None else f"not ready: {reason}")
            told = status
        await asyncio.sleep(HEALTH_INTERVAL if reason else HEALTH_INTERVAL * 10)


def _options(config: Config) -> list[tuple[str, int]]:
    age = config.grpc.max_connection_age.total_seconds() * random.uniform(0.9, 1.1)  # noqa: S311 - jitter
    grace = config.grpc.max_connection_age_grace.total_seconds()
    return [
        ("grpc.max_receive_message_length", config.grpc.max_message_size),
        ("grpc.max_send_message_length", config.grpc.max_message_size),
        ("grpc.max_connection_age_ms", int(age * 1000)),
        ("grpc.max_connection_age_grace_ms", int(grace * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.so_reuseport", 0),
    ]
