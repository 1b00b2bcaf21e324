"""google.longrunning.Operations: look at operations, cancel them, forget them."""

import asyncio
from concurrent.futures import Executor

from google.longrunning import operations_proto_pb2 as lr_pb2
from google.longrunning.operations_pb2_grpc import OperationsServicer
from google.protobuf.empty_pb2 import Empty

from buildgrid_scheduler.auth.policy import Right
from buildgrid_scheduler.core.errors import FailedPrecondition, Unimplemented
from buildgrid_scheduler.core.instance import split_qualified
from buildgrid_scheduler.core.job_state import Stage, operation_message
from buildgrid_scheduler.core.operation_filter import parse_filters
from buildgrid_scheduler.engine.engine import Engine
from buildgrid_scheduler.engine.items import LoadedOperation
from buildgrid_scheduler.engine.listing import OperationList
from buildgrid_scheduler.engine.operations import cancel, delete, unknown_operation
from buildgrid_scheduler.services.blocking import Blocking
from buildgrid_scheduler.services.errors import Context, rpc
from buildgrid_scheduler.services.instances import Instances

MAX_PAGE = 1000
MAX_PAGE_BYTES = 3 * 1024 * 1024
"""Clients take messages of 4 MiB, unless they say otherwise."""
LISTS_AT_ONCE = 2
"""A list may be slow, and has the threads of the storage: they are not all for it."""


class OperationsService(OperationsServicer):  # type: ignore[misc]
    """Operations of the Execution service, made by any replica."""

    def __init__(
        self, engine: Engine, operations: OperationList, instances: Instances, executor: Executor
    ) -> None:
        self._engine = engine
        self._operations = operations
        self._instances = instances
        self._blocking = Blocking(executor)
        self._lists = asyncio.Semaphore(LISTS_AT_ONCE)

    @rpc
    async def GetOperation(self, request: lr_pb2.GetOperationRequest, context: Context) -> lr_pb2.Operation:
        """The operation as it is now. NOT_FOUND if unknown."""
        loaded = await self._load(request.name)
        if loaded.state.stage is not Stage.COMPLETED and not loaded.cancelled:
            self._engine.following.looked_at(loaded.name)
        return _message(loaded)

    @rpc
    async def ListOperations(
        self, request: lr_pb2.ListOperationsRequest, context: Context
    ) -> lr_pb2.ListOperationsResponse:
        """A page of the operations of the instance that `name` names; `filter` as in docs/list-operations.md.

        Without a filter the unfinished ones, oldest first. A page holds `page_size` operations, MAX_PAGE when
        that is 0 or more than it, and fewer when they are large: only an empty `next_page_token` says that
        there are no more. INVALID_ARGUMENT for a bad filter, size or token, DEADLINE_EXCEEDED when too much
        would have to be read.
        """
        instance = self._instances.check(request.name, Right.EXECUTE)
        owner = self._instances.access.listed_owner(instance)
        filters = parse_filters(request.filter)
        async with self._lists:
            page, token = await self._blocking(
                self._operations.page,
                instance,
                filters,
                page_size=min(request.page_size or MAX_PAGE, MAX_PAGE),
                page_token=request.page_token or None,
                max_bytes=MAX_PAGE_BYTES,
                owner=owner,
            )
        return lr_pb2.ListOperationsResponse(operations=[_message(o) for o in page], next_page_token=token)

    @rpc
    async def CancelOperation(self, request: lr_pb2.CancelOperationRequest, context: Context) -> Empty:
        """Cancel the operation; its job stops when nobody else wants it. NOT_FOUND if unknown."""
        loaded = await self._load(request.name)
        await self._engine.call(cancel(loaded.instance, loaded.name))
        return Empty()

    @rpc
    async def DeleteOperation(self, request: lr_pb2.DeleteOperationRequest, context: Context) -> Empty:
        """Forget a finished operation. FAILED_PRECONDITION for one that is not."""
        loaded = await self._load(request.name)
        if not loaded.cancelled and loaded.state.stage is not Stage.COMPLETED:
            raise FailedPrecondition(f"operation {request.name!r} is not done; cancel it first")
        await self._engine.call(delete(loaded.instance, loaded.name))
        return Empty()

    @rpc
    async def WaitOperation(self, request: lr_pb2.WaitOperationRequest, context: Context) -> lr_pb2.Operation:
        """Not offered."""
        raise Unimplemented("WaitOperation is not offered; follow operations with WaitExecution")

    async def _load(self, wire_name: str) -> LoadedOperation:
        instance, name = split_qualified(wire_name)
        self._instances.access.authorize(Right.EXECUTE, instance)
        loaded = await self._engine.load(name)
        if loaded is None or loaded.instance != instance:
            raise unknown_operation(wire_name)
        self._instances.access.authorize_operation(instance, name, loaded.owner)
        return loaded


def _message(loaded: LoadedOperation) -> lr_pb2.Operation:
    return operation_message(loaded.instance, loaded.name, loaded.state, cancelled=loaded.cancelled)
