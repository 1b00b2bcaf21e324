"""The server as a test sees it: one instance of it, and every service that REAPI names."""

from collections.abc import Awaitable
from typing import TYPE_CHECKING

import grpc
import pytest
from buildgrid_client.digests import digest_key
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Digest
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2_grpc import CapabilitiesStub
from buildgrid_protos.google.bytestream.bytestream_pb2 import (
    QueryWriteStatusRequest,
    ReadRequest,
    WriteRequest,
    WriteResponse,
)
from buildgrid_protos.google.bytestream.bytestream_pb2_grpc import ByteStreamStub
from google.longrunning import operations_pb2_grpc

from tests.farm.bots import Bot
from tests.farm.clients import WITHIN, Client

if TYPE_CHECKING:
    from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2_grpc import (
        CapabilitiesAsyncStub,
    )
    from buildgrid_protos.google.bytestream.bytestream_pb2_grpc import ByteStreamAsyncStub

QUEUE = 8
"""Jobs of one instance and label that may wait."""
STRANGER = "somebody/else"
"""One more instance, that of no test."""
UUID = "3f0a1d5e-7c11-4a43-9c5e-0d6b6f6a1c2b"


async def refused(call: Awaitable[object]) -> grpc.aio.AioRpcError:
    """The error that the call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value


class Tenant:
    """A client of one instance, and whatever else it needs."""

    def __init__(self, channel: grpc.aio.Channel, instance: str) -> None:
        self.channel = channel
        self.instance = instance
        self.client = Client(channel, instance)
        self.bytestream: ByteStreamAsyncStub = ByteStreamStub(channel)
        self.capabilities: CapabilitiesAsyncStub = CapabilitiesStub(channel)
        self.operations = operations_pb2_grpc.OperationsStub(channel)

    def bot(self, bot_id: str = "bot", **options: object) -> Bot:
        """A bot without a session yet."""
        return Bot(self.channel, self.instance, bot_id, **options)  # type: ignore[arg-type]

    def blob_name(self, digest: Digest, blobs: str = "blobs") -> str:
        """What to read from."""
        return f"{self.instance}/{blobs}/{digest_key(digest)}"

    def upload_name(self, digest: Digest, blobs: str = "blobs", uuid: str = UUID) -> str:
        """What to write to."""
        return f"{self.instance}/uploads/{uuid}/{blobs}/{digest_key(digest)}"

    async def read(self, name: str, offset: int = 0, limit: int = 0) -> bytes:
        """All that ByteStream sends."""
        request = ReadRequest(resource_name=name, read_offset=offset, read_limit=limit)
        return b"".join([answer.data async for answer in self.bytestream.Read(request, timeout=WITHIN)])

    async def write(self, *requests: WriteRequest) -> int:
        """The committed size."""
        answer: WriteResponse = await self.bytestream.Write(iter(requests), timeout=WITHIN)
        return answer.committed_size

    async def write_status(self, name: str) -> tuple[int, bool]:
        """The committed size, and whether that is all."""
        request = QueryWriteStatusRequest(resource_name=name)
        answer = await self.bytestream.QueryWriteStatus(request, timeout=WITHIN)
        return answer.committed_size, answer.complete
