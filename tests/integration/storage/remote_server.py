"""Another server's CAS and action cache: the real services on a real gRPC server, in a thread of its own.

It can go away and come back on the same port, and pass calls through a fault first.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import grpc
from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2 as re_pb2
from buildgrid_protos.build.bazel.remote.execution.v2 import remote_execution_pb2_grpc as re_grpc
from buildgrid_protos.google.bytestream import bytestream_pb2_grpc
from buildgrid_scheduler.services.action_cache import ActionCacheService
from buildgrid_scheduler.services.bytestream import ByteStreamService
from buildgrid_scheduler.services.capabilities import CapabilitiesService
from buildgrid_scheduler.services.cas import CasService
from buildgrid_scheduler.services.instances import Instances
from buildgrid_scheduler.storage.abc import StorageABC
from buildgrid_scheduler.storage.memory import MemoryActionCache, MemoryStorage

T = TypeVar("T")


class Faults(grpc.aio.ServerInterceptor):
    """What the next calls meet before the services see them."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        """how many calls of each method came"""
        self.metadata: dict[str, str] = {}
        """of the last call"""
        self.codes: dict[str, list[grpc.StatusCode]] = {}
        """by method (`*`: any), what the next calls of it fail with"""

    def fail(self, method: str, *codes: grpc.StatusCode) -> None:
        self.codes.setdefault(method, []).extend(codes)

    async def intercept_service(
        self, continuation: Callable[..., Awaitable[Any]], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        method = handler_call_details.method.rpartition("/")[2]
        self.calls[method] += 1
        self.metadata = {
            key: value
            for key, value in handler_call_details.invocation_metadata or ()
            if isinstance(value, str)
        }
        handler = await continuation(handler_call_details)
        codes = self.codes.get(method) or self.codes.get("*")
        return _failing(handler, codes.pop(0)) if codes else handler


class FakeCapabilities(re_grpc.CapabilitiesServicer):
    """Says what it is told to."""

    def __init__(self, answer: re_pb2.ServerCapabilities) -> None:
        self._answer = answer

    async def GetCapabilities(  # noqa: N802
        self, request: re_pb2.GetCapabilitiesRequest, context: Any
    ) -> re_pb2.ServerCapabilities:
        return self._answer


class RecordingCas(CasService):
    """Notes how blobs travel in batches."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.updates: list[re_pb2.BatchUpdateBlobsRequest] = []
        self.reads: list[re_pb2.BatchReadBlobsResponse] = []

    async def BatchUpdateBlobs(  # noqa: N802
        self, request: re_pb2.BatchUpdateBlobsRequest, context: Any
    ) -> re_pb2.BatchUpdateBlobsResponse:
        self.updates.append(request)
        return await super().BatchUpdateBlobs(request, context)

    async def BatchReadBlobs(  # noqa: N802
        self, request: re_pb2.BatchReadBlobsRequest, context: Any
    ) -> re_pb2.BatchReadBlobsResponse:
        response = await super().BatchReadBlobs(request, context)
        self.reads.append(response)
        return response


class RemoteServer:
    """`storage` and `cache` are what it serves, for the instances `""` and `main/team`.

    `bytestream` takes the place of the real service, and `capabilities` that of the real answer.
    """

    def __init__(
        self,
        storage: StorageABC | None = None,
        *,
        credentials: grpc.ServerCredentials | None = None,
        bytestream: bytestream_pb2_grpc.ByteStreamServicer | None = None,
        capabilities: re_pb2.ServerCapabilities | None = None,
    ) -> None:
        self.cas: RecordingCas
        self._fake_bytestream = bytestream
        self._fake_capabilities = capabilities
        self.storage = storage or MemoryStorage()
        self.cache = MemoryActionCache()
        self.faults = Faults()
        self.port = 0
        self._credentials = credentials
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._executor = ThreadPoolExecutor(max_workers=8)
        self._server: grpc.aio.Server | None = None
        self._byte_streams: ByteStreamService | None = None
        self._thread.start()

    @property
    def endpoint(self) -> str:
        if self._credentials is None:
            return f"grpc://127.0.0.1:{self.port}"
        return f"grpcs://localhost:{self.port}"  # as the certificate says

    def start(self) -> None:
        """Serves; after a `stop` on the same port as before."""
        self._run(self._start())

    def stop(self) -> None:
        """Cuts all connections and forgets half-finished uploads, as a restart would."""
        self._run(self._stop())

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._executor.shutdown()

    async def _start(self) -> None:
        instances = Instances(["", "main/team"])
        server = grpc.aio.server(
            interceptors=[self.faults],
            options=[("grpc.max_receive_message_length", 16 << 20), ("grpc.so_reuseport", 0)],
        )
        self.cas = RecordingCas(self.storage, instances, self._executor)
        re_grpc.add_ContentAddressableStorageServicer_to_server(self.cas, server)
        self._byte_streams = ByteStreamService(self.storage, instances, self._executor)
        bytestream_pb2_grpc.add_ByteStreamServicer_to_server(
            self._fake_bytestream or self._byte_streams, server
        )
        cache = ActionCacheService(self.cache, self.storage, instances, self._executor)
        re_grpc.add_ActionCacheServicer_to_server(cache, server)
        capabilities: re_grpc.CapabilitiesServicer
        if self._fake_capabilities is None:
            capabilities = CapabilitiesService(instances, cache=True, execution=False, updates=True)
        else:
            capabilities = FakeCapabilities(self._fake_capabilities)
        re_grpc.add_CapabilitiesServicer_to_server(capabilities, server)
        address = f"127.0.0.1:{self.port}"  # one family: the same port of ::1 may be anybody's
        if self._credentials is None:
            self.port = server.add_insecure_port(address)
        else:
            self.port = server.add_secure_port(address, self._credentials)
        await server.start()
        self._server = server

    async def _stop(self) -> None:
        server, self._server = self._server, None
        if server is not None and self._byte_streams is not None:
            await server.stop(None)
            self._byte_streams.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _failing(handler: Any, code: grpc.StatusCode) -> Any:
    async def fail(_request: object, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await context.abort(code, "as the test wants it")

    async def fail_streaming(_request: object, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        nothing: tuple[bytes, ...] = ()
        for data in nothing:
            yield data  # makes it the generator that a streaming answer must be
        await context.abort(code, "as the test wants it")

    kind = (handler.request_streaming, handler.response_streaming)
    if kind == (False, False):
        return grpc.unary_unary_rpc_method_handler(
            fail, handler.request_deserializer, handler.response_serializer
        )
    if kind == (True, False):
        return grpc.stream_unary_rpc_method_handler(
            fail, handler.request_deserializer, handler.response_serializer
        )
    return grpc.unary_stream_rpc_method_handler(
        fail_streaming, handler.request_deserializer, handler.response_serializer
    )
