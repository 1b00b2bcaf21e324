"""A storage server on loopback: the real services on a real gRPC server, blobs on disk."""

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2_grpc import (
    ActionCacheStub,
    ContentAddressableStorageStub,
    add_ActionCacheServicer_to_server,
    add_ContentAddressableStorageServicer_to_server,
)
from buildgrid_protos.google.bytestream.bytestream_pb2_grpc import (
    ByteStreamStub,
    add_ByteStreamServicer_to_server,
)
from buildgrid_scheduler.services.action_cache import ActionCacheService
from buildgrid_scheduler.services.bytestream import ByteStreamService
from buildgrid_scheduler.services.cas import CasService
from buildgrid_scheduler.services.instances import Instances
from buildgrid_scheduler.storage.disk import DiskStorage
from buildgrid_scheduler.storage.memory import MemoryActionCache

from tests.integration.services.storage_server import StorageServer


@pytest.fixture
def allow_updates() -> bool:
    """Whether the action cache takes results from clients; a test may override it."""
    return True


@pytest.fixture
async def server(tmp_path: Path, allow_updates: bool) -> AsyncIterator[StorageServer]:
    storage = DiskStorage(tmp_path / "cas", max_bytes=64 * 1024 * 1024, rescan_seconds=0)
    storage.start()
    cache = MemoryActionCache(allow_updates=allow_updates)
    instances = Instances(["", "main/team"])
    with ThreadPoolExecutor(max_workers=4) as executor:
        grpc_server = grpc.aio.server(options=[("grpc.max_receive_message_length", 16 * 1024 * 1024)])
        bytestream = ByteStreamService(storage, instances, executor)
        add_ContentAddressableStorageServicer_to_server(CasService(storage, instances, executor), grpc_server)
        add_ByteStreamServicer_to_server(bytestream, grpc_server)
        add_ActionCacheServicer_to_server(
            ActionCacheService(cache, storage, instances, executor), grpc_server
        )
        port = grpc_server.add_insecure_port("127.0.0.1:0")
        await grpc_server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield StorageServer(
                storage,
                cache,
                bytestream,
                channel,
                ContentAddressableStorageStub(channel),
                ByteStreamStub(channel),
                ActionCacheStub(channel),
            )
        await grpc_server.stop(None)
        bytestream.close()
    storage.stop()
