"""Capabilities: every field, and who is told what."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb2
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2_grpc import (
    CapabilitiesStub,
    add_CapabilitiesServicer_to_server,
)
from buildgrid_protos.build.bazel.semver.semver_pb2 import SemVer
from buildgrid_scheduler.auth.access import OpenAccess
from buildgrid_scheduler.auth.policy import Right
from buildgrid_scheduler.services.capabilities import CapabilitiesService
from buildgrid_scheduler.services.instances import Instances

from tests.farm.clients import WITHIN, action_blobs
from tests.integration.conformance.tenant import Tenant, refused

pytestmark = pytest.mark.xdist_group("conformance")
RANGE = re_pb2.PriorityCapabilities.PriorityRange(min_priority=-(2**31), max_priority=2**31 - 1)


class Granted(OpenAccess):
    """A caller with these rights and no others."""

    def __init__(self, *rights: Right) -> None:
        self._rights = rights

    def allows(self, right: Right, instance: str) -> bool:
        return right in self._rights


Ask = Callable[..., Any]


@pytest.fixture
async def ask() -> AsyncIterator[Ask]:
    """What a server with these services tells a caller with these rights."""
    async with AsyncExitStack() as stack:

        async def ask(*rights: Right, **services: bool) -> re_pb2.ServerCapabilities:
            server = grpc.aio.server()
            instances = Instances([""], Granted(*rights))
            add_CapabilitiesServicer_to_server(CapabilitiesService(instances, **services), server)
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            stack.push_async_callback(server.stop, None)
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                return await CapabilitiesStub(channel).GetCapabilities(re_pb2.GetCapabilitiesRequest())

        yield ask


async def told(tenant: Tenant) -> re_pb2.ServerCapabilities:
    request = re_pb2.GetCapabilitiesRequest(instance_name=tenant.instance)
    return await tenant.capabilities.GetCapabilities(request, timeout=WITHIN)


async def test_versions_from_2_0_to_2_3_are_offered_and_none_is_deprecated(tenant: Tenant) -> None:
    answer = await told(tenant)
    assert answer.low_api_version == SemVer(major=2, minor=0)
    assert answer.high_api_version == SemVer(major=2, minor=3)
    assert not answer.HasField("deprecated_api_version")


async def test_the_capabilities_of_the_cache_are_these(tenant: Tenant) -> None:
    cache = (await told(tenant)).cache_capabilities
    assert list(cache.digest_functions) == [re_pb2.DigestFunction.SHA256]
    assert cache.action_cache_update_capabilities.update_enabled
    assert list(cache.cache_priority_capabilities.priorities) == [RANGE]
    assert cache.symlink_absolute_path_strategy == re_pb2.SymlinkAbsolutePathStrategy.ALLOWED
    assert list(cache.supported_compressors) == [re_pb2.Compressor.ZSTD]
    assert list(cache.supported_batch_update_compressors) == [re_pb2.Compressor.ZSTD]
    assert cache.max_cas_blob_size_bytes == 0, "no limit but that of the storage"
    assert not (cache.split_blob_support or cache.splice_blob_support)
    assert not (cache.HasField("fast_cdc_2020_params") or cache.HasField("rep_max_cdc_params"))


async def test_the_capabilities_of_execution_are_these(tenant: Tenant) -> None:
    execution = (await told(tenant)).execution_capabilities
    assert execution.digest_function == re_pb2.DigestFunction.SHA256
    assert list(execution.digest_functions) == [re_pb2.DigestFunction.SHA256]
    assert execution.exec_enabled
    assert list(execution.execution_priority_capabilities.priorities) == [RANGE]
    assert not execution.supported_node_properties


async def test_the_limit_of_a_batch_is_the_one_that_is_told(tenant: Tenant) -> None:
    limit = (await told(tenant)).cache_capabilities.max_batch_total_size_bytes
    request = re_pb2.BatchReadBlobsRequest(instance_name=tenant.instance)
    request.digests.add(hash="a" * 64, size_bytes=limit - 1)
    request.digests.add(hash="b" * 64, size_bytes=1)
    answer = await tenant.client.cas.BatchReadBlobs(request, timeout=WITHIN)
    assert len(answer.responses) == 2
    request.digests.add(hash="c" * 64, size_bytes=1)
    error = await refused(tenant.client.cas.BatchReadBlobs(request, timeout=WITHIN))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("priority", [RANGE.min_priority, RANGE.max_priority])
async def test_priorities_at_the_ends_of_the_range_are_taken(tenant: Tenant, priority: int) -> None:
    action, command, _ = action_blobs(f"priority {priority}")
    digest, *_ = await tenant.client.upload(action, command)
    assert not (await tenant.client.queue(digest, priority=priority)).told[0].done


async def test_an_unknown_instance_has_no_capabilities(tenant: Tenant) -> None:
    request = re_pb2.GetCapabilitiesRequest(instance_name="nowhere")
    error = await refused(tenant.capabilities.GetCapabilities(request, timeout=WITHIN))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_only_the_services_that_a_server_has_are_told(ask: Ask) -> None:
    both = await ask(cache=True, execution=True, updates=True)
    assert both.HasField("cache_capabilities") and both.HasField("execution_capabilities")
    stores = await ask(cache=True, execution=False, updates=True)
    assert stores.HasField("cache_capabilities") and not stores.HasField("execution_capabilities")
    executes = await ask(cache=False, execution=True, updates=False)
    assert executes.HasField("execution_capabilities") and not executes.HasField("cache_capabilities")


@pytest.mark.parametrize("execute", [False, True])
@pytest.mark.parametrize("update", [False, True])
async def test_what_the_caller_may_not_do_is_told_as_switched_off(
    ask: Ask, execute: bool, update: bool
) -> None:
    rights = [Right.EXECUTE] * execute + [Right.ACTION_CACHE_UPDATE] * update
    answer = await ask(*rights, cache=True, execution=True, updates=True)
    assert answer.execution_capabilities.exec_enabled is execute
    assert answer.cache_capabilities.action_cache_update_capabilities.update_enabled is update


async def test_a_cache_that_takes_no_results_from_clients_says_so(ask: Ask) -> None:
    answer = await ask(Right.EXECUTE, Right.ACTION_CACHE_UPDATE, cache=True, execution=True, updates=False)
    assert not answer.cache_capabilities.action_cache_update_capabilities.update_enabled
