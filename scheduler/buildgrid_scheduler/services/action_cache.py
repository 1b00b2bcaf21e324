"""ActionCache (REAPI): results by action digest, promised only when everything they name is in the CAS."""

from concurrent.futures import Executor

from buildgrid_client.digests import digest_key
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    ActionResult,
    Digest,
    GetActionResultRequest,
    UpdateActionResultRequest,
)
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2_grpc import ActionCacheServicer

from buildgrid_scheduler.auth.policy import Right
from buildgrid_scheduler.core.errors import InvalidArgument, NotFound, PermissionDenied
from buildgrid_scheduler.services.blocking import Blocking
from buildgrid_scheduler.services.digest_function import check_digest_function
from buildgrid_scheduler.services.errors import Context, rpc
from buildgrid_scheduler.services.inlining import inline_outputs
from buildgrid_scheduler.services.instances import Instances
from buildgrid_scheduler.services.limits import MAX_BATCH_BYTES
from buildgrid_scheduler.storage.abc import StorageABC, check_digest
from buildgrid_scheduler.storage.action_cache_abc import ActionCacheABC
from buildgrid_scheduler.storage.completeness import missing_outputs


class ActionCacheService(ActionCacheServicer):
    """Storage and cache are called on the executor's threads."""

    def __init__(
        self, action_cache: ActionCacheABC, storage: StorageABC, instances: Instances, executor: Executor
    ) -> None:
        self._cache = action_cache
        self._storage = storage
        self._instances = instances
        self._blocking = Blocking(executor)

    @rpc
    async def GetActionResult(self, request: GetActionResultRequest, context: Context) -> ActionResult:
        """The result; NOT_FOUND when there is none, or when anything that it names is missing."""
        instance = self._instances.check(request.instance_name, Right.CACHE_READ)
        check_digest_function(request.digest_function)
        check_digest(request.action_digest)
        return await self._blocking(self._get, instance, request)

    @rpc
    async def UpdateActionResult(self, request: UpdateActionResultRequest, context: Context) -> ActionResult:
        """Stores a result. PERMISSION_DENIED where only the scheduler may."""
        instance = self._instances.check(request.instance_name, Right.ACTION_CACHE_UPDATE)
        check_digest_function(request.digest_function)
        check_digest(request.action_digest)
        if not self._cache.allow_updates:
            raise PermissionDenied(f"instance {instance!r} does not take action results from clients")
        if (size := request.action_result.ByteSize()) > MAX_BATCH_BYTES:
            raise InvalidArgument(
                f"action_result has {size} bytes, more than clients can be sent ({MAX_BATCH_BYTES}); "
                "upload contents and standard output to the CAS, and name their digests"
            )
        await self._blocking(self._cache.update, instance, request.action_digest, request.action_result)
        return request.action_result

    def _get(self, instance: str, request: GetActionResultRequest) -> ActionResult:
        result = self._cache.get(instance, request.action_digest)
        if result is None or missing_outputs(self._storage, result):
            raise _not_found(request.action_digest)
        inline_outputs(
            self._storage,
            result,
            stdout=request.inline_stdout,
            stderr=request.inline_stderr,
            paths=request.inline_output_files,
        )
        return result


def _not_found(digest: Digest) -> NotFound:
    return NotFound(f"no complete result of action {digest_key(digest)} is here")
