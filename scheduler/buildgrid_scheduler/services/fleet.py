"""buildgrid.fleet.v1.Fleet: for whoever looks after the farm."""

from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Executor

from buildgrid_protos.buildgrid.fleet.v1 import fleet_pb2
from buildgrid_protos.buildgrid.fleet.v1.fleet_pb2_grpc import FleetServicer

from buildgrid_scheduler.auth.policy import Right
from buildgrid_scheduler.core.errors import PermissionDenied
from buildgrid_scheduler.engine.engine import Engine
from buildgrid_scheduler.fleet.state import read_farm
from buildgrid_scheduler.services.blocking import Blocking
from buildgrid_scheduler.services.errors import Context, rpc, streaming_rpc
from buildgrid_scheduler.services.fleet_drains import drain_of, undrain_of
from buildgrid_scheduler.services.fleet_history import history_pages
from buildgrid_scheduler.services.fleet_messages import state_message
from buildgrid_scheduler.services.fleet_watch import FarmWatches
from buildgrid_scheduler.services.instances import Instances
from buildgrid_scheduler.store.provider import SqlProvider


class FleetService(FleetServicer):
    """Answers from the database: every replica tells of all."""

    def __init__(
        self,
        engine: Engine,
        provider: SqlProvider,
        watches: FarmWatches,
        instances: Instances,
        executor: Executor,
    ) -> None:
        """`watches` is shared by all ports."""
        self._engine = engine
        self._provider = provider
        self._watches = watches
        self._instances = instances
        self._blocking = Blocking(executor)

    @rpc
    async def GetState(self, request: fleet_pb2.GetStateRequest, context: Context) -> fleet_pb2.FleetState:
        """Live replicas, unfinished jobs by requirement, bots, and marks. See fleet.proto."""
        instances = self._asked(request.instance_names)
        return await self._blocking(self._read, instances)

    @streaming_rpc
    async def Watch(
        self, request: fleet_pb2.WatchRequest, context: Context
    ) -> AsyncIterator[fleet_pb2.FleetState]:
        """The same, again and again. See fleet_watch."""
        with self._watches.watching(self._asked(request.instance_names)) as feed:
            while True:
                state = await feed.next()
                self._asked(request.instance_names)  # the policy may be another one by now
                yield state

    @rpc
    async def Drain(self, request: fleet_pb2.DrainRequest, context: Context) -> fleet_pb2.DrainResponse:
        """Mark bots. See fleet.proto."""
        self._instances.check(request.instance_name, Right.ADMINISTER)
        return fleet_pb2.DrainResponse(bot_ids=await self._engine.call(drain_of(request)))

    @rpc
    async def Undrain(self, request: fleet_pb2.UndrainRequest, context: Context) -> fleet_pb2.UndrainResponse:
        """Take marks away. See fleet.proto."""
        self._instances.check(request.instance_name, Right.ADMINISTER)
        return fleet_pb2.UndrainResponse(bot_ids=await self._engine.call(undrain_of(request)))

    @streaming_rpc
    async def ExportHistory(
        self, request: fleet_pb2.ExportHistoryRequest, context: Context
    ) -> AsyncIterator[fleet_pb2.FinishedJob]:
        """Finished jobs, oldest first. See fleet.proto."""
        asked = self._asked(request.instance_names)
        async for page in history_pages(self._provider, self._blocking, asked, request):
            self._asked(request.instance_names)  # the policy may be another one by now
            for job in page:
                yield job

    def _read(self, instances: Sequence[str]) -> fleet_pb2.FleetState:
        return state_message(read_farm(self._provider, instances))

    def _asked(self, names: Sequence[str]) -> tuple[str, ...]:
        """The instances that are meant, each once. The error names all that are denied."""
        denied: dict[str, PermissionDenied] = {}
        asked = sorted(set(names) or self._instances.names)
        for name in asked:
            try:
                self._instances.check(name, Right.ADMINISTER)
            except PermissionDenied as error:
                denied[name] = error
        if denied:
            first, *others = denied
            likewise = f"; likewise in {', '.join(map(repr, others))}" if others else ""
            raise PermissionDenied(f"{denied[first]}{likewise}") from denied[first]
        return tuple(asked)
