"""A small asset service and a small log stream service, on loopback."""

import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc
from buildgrid_protos.build.bazel.remote.asset.v1 import remote_asset_pb2_grpc
from buildgrid_protos.build.bazel.remote.asset.v1.remote_asset_pb2 import (
    PushBlobRequest,
    PushBlobResponse,
    PushDirectoryRequest,
    PushDirectoryResponse,
)
from buildgrid_protos.build.bazel.remote.logstream.v1 import remote_logstream_pb2_grpc
from buildgrid_protos.build.bazel.remote.logstream.v1.remote_logstream_pb2 import (
    CreateLogStreamRequest,
    LogStream,
)

from tests.integration.integrations.mood import Mood


class _Server:
    """A gRPC server that can be taken down and put up again on its port."""

    def __init__(self, credentials: grpc.ServerCredentials | None = None) -> None:
        self.mood = Mood()
        self.tokens: list[str] = []
        """the authorization header of each call, "" where there is none"""
        self._credentials = credentials
        self.port = 0
        self._server: grpc.Server | None = None
        self.start()

    @property
    def endpoint(self) -> str:
        """For a configuration."""
        if self._credentials is None:
            return f"grpc://127.0.0.1:{self.port}"
        return f"grpcs://localhost:{self.port}"  # as the certificate says

    def channel(self) -> grpc.Channel:
        """A plain channel to it."""
        return grpc.insecure_channel(
            f"127.0.0.1:{self.port}",
            options=[("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 100)],
        )

    def start(self) -> None:
        """Serve, again on the same port."""
        server = grpc.server(ThreadPoolExecutor(8), options=[("grpc.so_reuseport", 0)])
        self.add_to(server)
        address = f"127.0.0.1:{self.port}"  # one family: the same port of ::1 may be anybody's
        if self._credentials is None:
            self.port = server.add_insecure_port(address)
        else:
            self.port = server.add_secure_port(address, self._credentials)
        server.start()
        self._server = server

    def stop(self) -> None:
        """Go down, with whatever is under way."""
        self.mood.release()
        if self._server is not None:
            self._server.stop(None).wait()
            self._server = None

    def add_to(self, server: grpc.Server) -> None:
        """Add the service."""
        raise NotImplementedError

    def _receive(self, context: grpc.ServicerContext) -> None:
        headers = {key: str(value) for key, value in context.invocation_metadata()}
        self.tokens.append(headers.get("authorization", ""))
        self.mood.before_answer()
        if isinstance(self.mood.refusal, grpc.StatusCode):
            context.abort(self.mood.refusal, "not today")


class AssetServer(_Server, remote_asset_pb2_grpc.PushServicer):
    """Remembers what is pushed."""

    def __init__(self, credentials: grpc.ServerCredentials | None = None) -> None:
        self.pushed: list[PushBlobRequest] = []
        super().__init__(credentials)

    def add_to(self, server: grpc.Server) -> None:
        remote_asset_pb2_grpc.add_PushServicer_to_server(self, server)

    def PushBlob(self, request: PushBlobRequest, context: grpc.ServicerContext) -> PushBlobResponse:  # noqa: N802
        self._receive(context)
        self.pushed.append(request)
        return PushBlobResponse()

    def PushDirectory(  # noqa: N802
        self, request: PushDirectoryRequest, context: grpc.ServicerContext
    ) -> PushDirectoryResponse:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "the scheduler pushes blobs alone")

    def push_of(self, matches: Callable[[PushBlobRequest], bool]) -> PushBlobRequest:
        """The one push that matches."""
        (push,) = [request for request in self.pushed if matches(request)]
        return push


class LogStreamServer(_Server, remote_logstream_pb2_grpc.LogStreamServiceServicer):
    """Makes streams, and remembers for whom."""

    def __init__(self, credentials: grpc.ServerCredentials | None = None) -> None:
        self.parents: list[str] = []
        self.nameless = False
        self.refuse_after: int | None = None
        """how many streams are made before further ones are refused"""
        self._lock = threading.Lock()
        super().__init__(credentials)

    def add_to(self, server: grpc.Server) -> None:
        remote_logstream_pb2_grpc.add_LogStreamServiceServicer_to_server(self, server)

    def CreateLogStream(  # noqa: N802
        self, request: CreateLogStreamRequest, context: grpc.ServicerContext
    ) -> LogStream:
        self._receive(context)
        with self._lock:
            if self.refuse_after is not None and len(self.parents) >= self.refuse_after:
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many streams")
            self.parents.append(request.parent)
        name = f"{request.parent}/streams/{uuid.uuid4()}"
        return LogStream(name=name, write_resource_name="" if self.nameless else f"{name}/write-secret")
