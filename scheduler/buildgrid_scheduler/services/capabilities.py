"""Capabilities (REAPI): what this server offers."""

from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb2
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2_grpc import CapabilitiesServicer
from buildgrid_protos.build.bazel.semver.semver_pb2 import SemVer

from buildgrid_scheduler.auth.policy import Right
from buildgrid_scheduler.services.errors import Context, rpc
from buildgrid_scheduler.services.instances import Instances
from buildgrid_scheduler.services.limits import MAX_BATCH_BYTES

_PRIORITIES = re_pb2.PriorityCapabilities.PriorityRange(min_priority=-(2**31), max_priority=2**31 - 1)


class CapabilitiesService(CapabilitiesServicer):
    """`execution`, `updates`: whether this server executes, and takes results from clients."""

    def __init__(self, instances: Instances, *, cache: bool, execution: bool, updates: bool) -> None:
        self._instances = instances
        self._answer = re_pb2.ServerCapabilities(
            low_api_version=SemVer(major=2, minor=0), high_api_version=SemVer(major=2, minor=3)
        )
        if cache:
            self._answer.cache_capabilities.CopyFrom(_cache_capabilities(updates))
        if execution:
            self._answer.execution_capabilities.CopyFrom(
                re_pb2.ExecutionCapabilities(
                    digest_function=re_pb2.DigestFunction.SHA256,
                    digest_functions=[re_pb2.DigestFunction.SHA256],
                    exec_enabled=True,
                    execution_priority_capabilities=re_pb2.PriorityCapabilities(priorities=[_PRIORITIES]),
                )
            )

    @rpc
    async def GetCapabilities(
        self, request: re_pb2.GetCapabilitiesRequest, context: Context
    ) -> re_pb2.ServerCapabilities:
        """What this server offers, and of that what the caller may use."""
        instance = self._instances.check(request.instance_name, Right.CACHE_READ)
        allows = self._instances.access.allows
        may_execute = allows(Right.EXECUTE, instance)
        may_update = allows(Right.ACTION_CACHE_UPDATE, instance)
        if may_execute and may_update:
            return self._answer
        answer = re_pb2.ServerCapabilities()
        answer.CopyFrom(self._answer)
        if not may_execute and answer.HasField("execution_capabilities"):
            answer.execution_capabilities.exec_enabled = False
        if not may_update and answer.HasField("cache_capabilities"):
            answer.cache_capabilities.action_cache_update_capabilities.update_enabled = False
        return answer


def _cache_capabilities(updates: bool) -> re_pb2.CacheCapabilities:
    return re_pb2.CacheCapabilities(
        digest_functions=[re_pb2.DigestFunction.SHA256],
        action_cache_update_capabilities=re_pb2.ActionCacheUpdateCapabilities(update_enabled=updates),
        cache_priority_capabilities=re_pb2.PriorityCapabilities(priorities=[_PRIORITIES]),
        max_batch_total_size_bytes=MAX_BATCH_BYTES,
        symlink_absolute_path_strategy=re_pb2.SymlinkAbsolutePathStrategy.ALLOWED,
        supported_compressors=[re_pb2.Compressor.ZSTD],
        supported_batch_update_compressors=[re_pb2.Compressor.ZSTD],
    )
