"""The parts of a server: what it stores, what it schedules, and the services in front of them."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

import grpc
from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as re_grpc
from buildgrid_protos.buildgrid.fleet.v1 import fleet_pb2_grpc
from buildgrid_protos.google.bytestream import bytestream_pb2_grpc
from buildgrid_protos.google.devtools.remoteworkers.v1test2 import bots_pb2_grpc
from google.longrunning import operations_pb2_grpc
from prometheus_client import CollectorRegistry

from buildgrid_scheduler.auth.access import Access
from buildgrid_scheduler.config import Config
from buildgrid_scheduler.engine.farm_changes import FarmChanges
from buildgrid_scheduler.engine.figures import RequirementSums
from buildgrid_scheduler.fleet.state import read_farm
from buildgrid_scheduler.outgoing.metrics import OutboxCollector
from buildgrid_scheduler.scheduler import Scheduler
from buildgrid_scheduler.server.auth import Authentication, build_policy
from buildgrid_scheduler.server.database import Database
from buildgrid_scheduler.server.metrics.engine import EngineMetrics, EngineState
from buildgrid_scheduler.server.metrics.storage import DiskUsage, MeasuredStorage, StorageMetrics
from buildgrid_scheduler.server.property_sets import build_property_set
from buildgrid_scheduler.server.scheduler import build_scheduler, reconfigure
from buildgrid_scheduler.server.storage import build_action_cache, build_storage, storage_threads
from buildgrid_scheduler.services.action_cache import ActionCacheService
from buildgrid_scheduler.services.bots import BotsService
from buildgrid_scheduler.services.bytestream import ByteStreamService
from buildgrid_scheduler.services.capabilities import CapabilitiesService
from buildgrid_scheduler.services.cas import CasService
from buildgrid_scheduler.services.execution import ExecutionService, ExecutionSettings
from buildgrid_scheduler.services.fleet import FleetService
from buildgrid_scheduler.services.fleet_watch import FarmWatches
from buildgrid_scheduler.services.instances import Instances
from buildgrid_scheduler.services.operations import OperationsService
from buildgrid_scheduler.storage.action_cache_abc import ActionCacheABC

_REAPI = "build.bazel.remote.execution.v2."


class Replica:
    """Built from a configuration; `start` before it serves, `stop` when it does not any more. Both block."""

    def __init__(
        self,
        config: Config,
        database: Database | None,
        authentication: Authentication,
        registry: CollectorRegistry,
    ) -> None:
        """`database`: started; None where nothing is kept in one (`config.needs_database`)."""
        self._config = config
        self._database = database
        self._authentication = authentication
        self._instances = Instances(config.instances, authentication.access)
        threads = storage_threads(config.storage, config.grpc.storage_threads)
        self.executor = ThreadPoolExecutor(threads, thread_name_prefix="storage")
        stored = build_storage(config.storage, config.data)
        self.storage = MeasuredStorage(stored, StorageMetrics(registry))
        registry.register(DiskUsage(stored))
        self.action_cache: ActionCacheABC | None = None
        if config.services.action_cache or config.services.execution:
            provider = database.provider if database is not None else None
            self.action_cache = build_action_cache(config.action_cache, provider)
        self.scheduler: Scheduler | None = None
        self._farm_watches: FarmWatches | None = None
        self.sums = RequirementSums()
        """of what the scheduler does, for whoever writes them down"""
        if database is not None and config.services.schedules:
            self.scheduler = build_scheduler(
                config, database, self.storage, self.action_cache, build_property_set(config.property_set)
            )
            self.scheduler.engine.observe(EngineMetrics(registry))
            self.scheduler.engine.observe_work(self.sums)
            changes = FarmChanges()
            self.scheduler.engine.observe_work(changes)
            self._farm_watches = FarmWatches(partial(read_farm, database.provider), changes)
            registry.register(EngineState(self.scheduler.engine))
            registry.register(self.scheduler.integrations.histograms)
            registry.register(OutboxCollector(self.scheduler.integrations.outboxes))
        self._execution: ExecutionService | None = None
        self._bots: BotsService | None = None
        self._byte_streams: ByteStreamService | None = None

    def start(self) -> None:
        """Start what works behind the services. Raises SchedulerError where that is not possible."""
        if self.scheduler is not None:
            self.scheduler.start()  # with storage and action cache
            return
        self.storage.start()
        if self.action_cache is not None:
            self.action_cache.start()

    def send_elsewhere(self) -> None:
        """The server begins to stop: whatever waits here goes to another replica, or fails."""
        self.storage.stop_waiting()
        if self.action_cache is not None:
            self.action_cache.stop_waiting()
        if self._farm_watches is not None:
            self._farm_watches.send_elsewhere()
        if self.scheduler is not None:
            self.scheduler.engine.send_elsewhere()

    def stop(self) -> None:
        """Finish what was begun. The services are called no more. Parts that fail do not keep the others."""
        with ExitStack() as steps:  # the last one comes first
            steps.callback(self.executor.shutdown, cancel_futures=True)
            if self.scheduler is not None:
                steps.callback(self.scheduler.stop)
            else:
                steps.callback(self.storage.stop)
                if self.action_cache is not None:
                    steps.callback(self.action_cache.stop)
            if self._byte_streams is not None:
                steps.callback(self._byte_streams.close)
            if self._farm_watches is not None:
                steps.callback(self._farm_watches.stop)

    def stuck(self) -> str | None:
        """Why only a new process helps; None if it would not."""
        if self.scheduler is not None and not self.scheduler.engine.alive:
            return "a thread of the engine has ended"
        return None

    def reconfigure(self, config: Config) -> None:
        """Take up the reloadable settings. Raises ConfigError, and changes nothing, where that fails."""
        policy = build_policy(config.auth)
        property_set = build_property_set(config.property_set)
        self._config = config
        self._authentication.use_policy(policy)
        if self.scheduler is None:
            return
        reconfigure(self.scheduler, config.scheduler)
        self.scheduler.property_set = property_set
        if self._execution is not None:
            self._execution.reconfigure(property_set, _execution_settings(config))
        if self._bots is not None:
            self._bots.reconfigure(property_set, config.scheduler.bot_session_keepalive_timeout)

    def add_services(self, server: grpc.aio.Server) -> list[str]:
        """Add the services that are switched on; returns their names."""
        config, offered, names = self._config, self._config.services, []
        if self.scheduler is not None and offered.execution:
            names += self._add_execution(server, self.scheduler)
        if self.scheduler is not None and offered.bots:
            names += self._add_bots(server, self.scheduler)
        if self.scheduler is not None:
            names.append(self.add_fleet(server, self._authentication.access))
        if offered.cas:
            names += self._add_cas(server)
        if offered.action_cache and self.action_cache is not None:
            cache = ActionCacheService(self.action_cache, self.storage, self._instances, self.executor)
            re_grpc.add_ActionCacheServicer_to_server(cache, server)
            names.append(f"{_REAPI}ActionCache")
        capabilities = CapabilitiesService(
            self._instances,
            cache=offered.cas or offered.action_cache,
            execution=offered.execution,
            updates=offered.action_cache and config.action_cache.allow_updates,
        )
        re_grpc.add_CapabilitiesServicer_to_server(capabilities, server)
        return [*names, f"{_REAPI}Capabilities"]

    def add_fleet(self, server: grpc.aio.Server, access: Access) -> str:
        """Add the Fleet service, for those whom `access` lets in; returns its name. It needs a scheduler."""
        if self.scheduler is None or self._database is None or self._farm_watches is None:
            raise RuntimeError("a replica that schedules nothing has no farm")
        instances = Instances(self._config.instances, access)
        provider = self._database.provider
        fleet = FleetService(self.scheduler.engine, provider, self._farm_watches, instances, self.executor)
        fleet_pb2_grpc.add_FleetServicer_to_server(fleet, server)
        return "buildgrid.fleet.v1.Fleet"

    def _add_execution(self, server: grpc.aio.Server, scheduler: Scheduler) -> list[str]:
        self._execution = ExecutionService(
            scheduler.engine,
            scheduler.property_set,
            self.storage,
            self.action_cache,
            self._instances,
            self.executor,
            _execution_settings(self._config),
            integrations=scheduler.integrations,
            identities=scheduler.identities,
        )
        re_grpc.add_ExecutionServicer_to_server(self._execution, server)
        operations = OperationsService(scheduler.engine, scheduler.operations, self._instances, self.executor)
        operations_pb2_grpc.add_OperationsServicer_to_server(operations, server)
        return [f"{_REAPI}Execution", "google.longrunning.Operations"]

    def _add_bots(self, server: grpc.aio.Server, scheduler: Scheduler) -> list[str]:
        self._bots = BotsService(
            scheduler.engine,
            scheduler.property_set,
            self._instances,
            scheduler.keepalive,
            scheduler.integrations.lease_streams,
        )
        bots_pb2_grpc.add_BotsServicer_to_server(self._bots, server)
        return ["google.devtools.remoteworkers.v1test2.Bots"]

    def _add_cas(self, server: grpc.aio.Server) -> list[str]:
        cas = CasService(self.storage, self._instances, self.executor)
        re_grpc.add_ContentAddressableStorageServicer_to_server(cas, server)
        self._byte_streams = ByteStreamService(self.storage, self._instances, self.executor)
        bytestream_pb2_grpc.add_ByteStreamServicer_to_server(self._byte_streams, server)
        return [f"{_REAPI}ContentAddressableStorage", "google.bytestream.ByteStream"]


def _execution_settings(config: Config) -> ExecutionSettings:
    return ExecutionSettings(config.scheduler.max_execution_timeout, config.scheduler.check_input_tree)
