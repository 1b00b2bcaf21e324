"""Calls: how many, how they ended, how long they took; and what a call is about, for the log."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from time import perf_counter
from typing import Any, TypeAlias, cast

import grpc
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import RequestMetadata
from google.protobuf.message import DecodeError, Message
from prometheus_client import CollectorRegistry

from buildgrid_scheduler.core.log_fields import bind_log_fields
from buildgrid_scheduler.server.metrics import catalogue

_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_Behaviour: TypeAlias = Callable[[Any, _Context], Any]

REQUEST_METADATA_HEADER = "build.bazel.remote.execution.v2.requestmetadata-bin"
_CODES = {code.value[0]: code.name for code in grpc.StatusCode}


class CallMetrics:
    """`measured(server)` takes the place of the server where services are added to it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._ended = catalogue.RPCS.counter(registry)
        self._seconds = catalogue.RPC_SECONDS.histogram(registry)
        self._running = catalogue.RPCS_RUNNING.gauge(registry)

    def measured(self, server: grpc.aio.Server) -> grpc.aio.Server:
        """What `add_...Servicer_to_server` is called with, instead of the server itself."""
        return cast(grpc.aio.Server, _MeasuredServer(server, self))

    def handler(self, path: str, handler: _Handler) -> _Handler:
        """The handler of a method (`/SERVICE/METHOD`), which counts from now on."""
        behaviour = cast(
            _Behaviour,
            handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream,
        )
        if not (inspect.iscoroutinefunction(behaviour) or inspect.isasyncgenfunction(behaviour)):
            return handler  # of a method that is not offered
        make = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, False): grpc.stream_unary_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[handler.request_streaming, handler.response_streaming]
        made: _Handler = make(
            self._counting(path, behaviour), handler.request_deserializer, handler.response_serializer
        )
        return made

    def _counting(self, path: str, behaviour: _Behaviour) -> _Behaviour:
        _, service, method = path.split("/")
        running = self._running.labels(service, method)

        def ended(code: str) -> None:
            running.dec()
            self._ended.labels(service, method, code).inc()

        # Two shapes, since gRPC looks at the function to see which it is: answers are returned, or yielded.
        if inspect.isasyncgenfunction(behaviour):

            async def answers(request: Any, context: _Context) -> AsyncIterator[Any]:
                bind_log_fields(lambda: about(method, request, context))
                running.inc()
                code = "UNKNOWN"
                try:
                    async with aclosing(behaviour(request, context)) as inner:
                        async for answer in inner:
                            yield answer
                    code = _code(context)
                except (asyncio.CancelledError, GeneratorExit):
                    code = "CANCELLED"
                    raise
                except BaseException:
                    code = _code(context, failed=True)
                    raise
                finally:
                    ended(code)

            return answers

        seconds = self._seconds.labels(service, method)

        async def answer(request: Any, context: _Context) -> Any:
            bind_log_fields(lambda: about(method, request, context))
            running.inc()
            began = perf_counter()
            code = "UNKNOWN"
            try:
                result = await behaviour(request, context)
                code = _code(context)
                return result
            except asyncio.CancelledError:
                code = "CANCELLED"
                raise
            except BaseException:
                code = _code(context, failed=True)
                raise
            finally:
                seconds.observe(perf_counter() - began)
                ended(code)

        return answer


def _code(context: _Context, *, failed: bool = False) -> str:
    """The name of the status that the call ends with; some handlers set none when all is well."""
    code = context.code()
    number = code.value[0] if isinstance(code, grpc.StatusCode) else code
    if failed and not number:
        return "UNKNOWN"
    return _CODES.get(number or 0, "UNKNOWN")


def about(method: str, request: object, context: _Context) -> Mapping[str, str]:
    """The fields of a call for the log. Only asked when there is an event to show."""
    fields = {"method": method}
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_METADATA_HEADER:
            try:
                fields["invocation"] = RequestMetadata.FromString(_bytes(value)).tool_invocation_id
            except DecodeError:
                fields["invocation"] = "unreadable"
    if isinstance(request, Message):
        fields.update(_named_in(request))
    return fields


def _named_in(request: Message) -> dict[str, str]:
    """What the requests of our services name."""
    kind, found = type(request).__name__, {}
    message: Any = request
    if hasattr(message, "instance_name"):
        found["instance"] = message.instance_name
    if kind in (
        "WaitExecutionRequest",
        "GetOperationRequest",
        "CancelOperationRequest",
        "DeleteOperationRequest",
    ):
        found["operation"] = message.name
    if hasattr(message, "bot_session"):
        found["bot"], found["session"] = message.bot_session.bot_id, message.bot_session.name
    return found


def _bytes(value: str | bytes) -> bytes:
    return value if isinstance(value, bytes) else value.encode()


class _MeasuredServer:
    """Passes handlers on to the server, wrapped."""

    def __init__(self, server: grpc.aio.Server, metrics: CallMetrics) -> None:
        self._server = server
        self._metrics = metrics

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, _Handler]) -> None:
        wrapped = {name: self._metrics.handler(f"/{service}/{name}", h) for name, h in handlers.items()}
        self._server.add_registered_method_handlers(service, wrapped)

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Of code that was generated by older versions; registered handlers come first."""
        self._server.add_generic_rpc_handlers([_MeasuredHandlers(h, self._metrics) for h in handlers])


class _MeasuredHandlers(grpc.GenericRpcHandler):
    def __init__(self, inner: grpc.GenericRpcHandler, metrics: CallMetrics) -> None:
        self._inner = inner
        self._metrics = metrics
        self._wrapped: dict[str, _Handler] = {}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "_Handler | None":
        """See grpc."""
        path = handler_call_details.method
        wrapped = self._wrapped.get(path)
        if wrapped is not None:
            return wrapped
        handler: _Handler | None = self._inner.service(handler_call_details)
        if handler is None:
            return None
        wrapped = self._wrapped[path] = self._metrics.handler(path, handler)
        return wrapped
