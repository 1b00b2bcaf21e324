"""A log stream service that also keeps what is streamed: bots write it, and others read it meanwhile."""

import threading
from collections.abc import Callable, Iterator

import grpc
from buildgrid_protos.google.bytestream import bytestream_pb2_grpc
from buildgrid_protos.google.bytestream.bytestream_pb2 import (
    QueryWriteStatusRequest,
    QueryWriteStatusResponse,
    ReadRequest,
    ReadResponse,
    WriteRequest,
    WriteResponse,
)

from tests.integration.integrations.grpc_servers import LogStreamServer

_WRITE = "/write-secret"


class LiveLogStreamServer(LogStreamServer, bytestream_pb2_grpc.ByteStreamServicer):
    """Streams by their read name. A read goes on until the stream is finished.

    As the text asks, what is committed cannot be written again, and nothing follows the end of a stream. What
    was written survives `stop` and `start`. Writes stand still while `flowing` is not set; a write that is
    under way ends with the first of `breaks` after the next message that is not its last.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._written: dict[str, bytearray] = {}
        self._finished: set[str] = set()
        self.flowing = threading.Event()
        self.flowing.set()
        self.breaks: list[grpc.StatusCode] = []
        self.status_refusal: grpc.StatusCode | None = None
        """what QueryWriteStatus says; None: what there is"""
        self.writes = 0
        super().__init__()

    def write_name(self, stream: str) -> str:
        """The name to write to."""
        return f"{stream}{_WRITE}"

    def content(self, stream: str) -> bytes:
        """What there is of it."""
        with self._changed:
            return bytes(self._written.get(stream, b""))

    def size(self, stream: str) -> int:
        """The size of what there is of it."""
        return len(self._written.get(stream, b""))

    def finished(self, stream: str) -> bool:
        """Whether its writer has finished it."""
        return stream in self._finished

    def wait_for(self, condition: Callable[[], bool], within: float) -> None:
        """Blocks until it is so; TimeoutError when it never is."""
        with self._changed:
            if not self._changed.wait_for(condition, within):
                raise TimeoutError

    def add_to(self, server: grpc.Server) -> None:
        super().add_to(server)
        bytestream_pb2_grpc.add_ByteStreamServicer_to_server(self, server)

    def Write(  # noqa: N802
        self, request_iterator: Iterator[WriteRequest], context: grpc.ServicerContext
    ) -> WriteResponse:
        with self._changed:
            self.writes += 1
            self._changed.notify_all()
        name = ""
        for request in request_iterator:
            while not self.flowing.wait(0.1):
                if not context.is_active():
                    return WriteResponse()
            name = name or request.resource_name
            if not name.endswith(_WRITE):
                context.abort(grpc.StatusCode.PERMISSION_DENIED, f"{name} is not a name to write to")
            self._take(name.removesuffix(_WRITE), request, context)
            if self.breaks and not request.finish_write:
                code = self.breaks.pop(0)
                if code is grpc.StatusCode.OK:
                    break
                context.abort(code, f"{name} broke")
        return WriteResponse(committed_size=self.size(name.removesuffix(_WRITE)))

    def _take(self, stream: str, request: WriteRequest, context: grpc.ServicerContext) -> None:
        with self._changed:
            written = self._written.setdefault(stream, bytearray())
            if request.write_offset != len(written) or stream in self._finished:
                context.abort(grpc.StatusCode.OUT_OF_RANGE, f"{stream} has {len(written)} bytes")
            written += request.data
            if request.finish_write:
                self._finished.add(stream)
            self._changed.notify_all()

    def Read(self, request: ReadRequest, context: grpc.ServicerContext) -> Iterator[ReadResponse]:  # noqa: N802
        name, sent = request.resource_name, 0
        while context.is_active():
            data, over = self._after(name, sent)
            if data:
                sent += len(data)
                yield ReadResponse(data=data)
            elif over:
                return

    def _after(self, name: str, sent: int) -> tuple[bytes, bool]:
        """What came after so many bytes, waiting a moment for it; and whether the stream is finished."""

        def something() -> bool:
            return self.size(name) > sent or name in self._finished

        with self._changed:
            self._changed.wait_for(something, timeout=0.5)
            return bytes(self._written.get(name, b"")[sent:]), name in self._finished

    def QueryWriteStatus(  # noqa: N802
        self, request: QueryWriteStatusRequest, context: grpc.ServicerContext
    ) -> QueryWriteStatusResponse:
        if self.status_refusal is not None:
            context.abort(self.status_refusal, "not today")
        stream = request.resource_name.removesuffix(_WRITE)
        with self._changed:
            return QueryWriteStatusResponse(
                committed_size=self.size(stream), complete=stream in self._finished
            )
