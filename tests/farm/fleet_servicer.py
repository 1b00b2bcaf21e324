"""A Fleet service that tells its state and does nothing else."""

from collections.abc import Iterator
from typing import NoReturn

import grpc
from buildgrid_protos.buildgrid.fleet.v1 import fleet_pb2
from buildgrid_protos.buildgrid.fleet.v1.fleet_pb2_grpc import FleetServicer


def _refuse(context: grpc.ServicerContext) -> NoReturn:
    context.abort(grpc.StatusCode.UNIMPLEMENTED, "this Fleet service is played")


class StateOnlyFleet(FleetServicer):
    """To be completed with GetState."""

    def Watch(  # noqa: N802
        self, request: fleet_pb2.WatchRequest, context: grpc.ServicerContext
    ) -> Iterator[fleet_pb2.FleetState]:
        """Not here."""
        return _refuse(context)

    def Drain(  # noqa: N802
        self, request: fleet_pb2.DrainRequest, context: grpc.ServicerContext
    ) -> fleet_pb2.DrainResponse:
        """Not here."""
        return _refuse(context)

    def Undrain(  # noqa: N802
        self, request: fleet_pb2.UndrainRequest, context: grpc.ServicerContext
    ) -> fleet_pb2.UndrainResponse:
        """Not here."""
        return _refuse(context)

    def ExportHistory(  # noqa: N802
        self, request: fleet_pb2.ExportHistoryRequest, context: grpc.ServicerContext
    ) -> Iterator[fleet_pb2.FinishedJob]:
        """Not here."""
        return _refuse(context)
