"""A storage server on loopback, as the tests see it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from buildgrid_scheduler.services.bytestream import ByteStreamService
from buildgrid_scheduler.storage.disk import DiskStorage
from buildgrid_scheduler.storage.memory import MemoryActionCache

if TYPE_CHECKING:
    from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2_grpc import (
        ActionCacheAsyncStub,
        ContentAddressableStorageAsyncStub,
    )
    from buildgrid_protos.google.bytestream.bytestream_pb2_grpc import ByteStreamAsyncStub


@dataclass
class StorageServer:
    """The server's parts, to look behind the scenes, and stubs connected to it.

    Instances: the empty one, and `main/team`.
    """

    storage: DiskStorage
    cache: MemoryActionCache
    bytestream_service: ByteStreamService
    channel: grpc.aio.Channel
    cas: "ContentAddressableStorageAsyncStub"
    bytestream: "ByteStreamAsyncStub"
    action_cache: "ActionCacheAsyncStub"
