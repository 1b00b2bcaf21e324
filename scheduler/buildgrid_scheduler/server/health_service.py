"""The gRPC health service, as probes and clients ask it."""

from typing import Any

from grpc_health.v1._async import HealthServicer

from buildgrid_scheduler.core.errors import Unimplemented
from buildgrid_scheduler.services.errors import Context, rpc


class HealthService(HealthServicer):
    """Check and Watch are the library's."""

    @rpc
    async def List(self, request: Any, context: Context) -> Any:  # noqa: N802 - the name in the protocol
        """Not offered. The library would log each call as a fault of ours, and anybody may call."""
        raise Unimplemented("List is not offered; ask Check or Watch for one service")
