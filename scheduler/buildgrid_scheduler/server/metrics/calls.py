"""Calls: how many, how they ended, how long they took; and what a call is about, for the log."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from time import perf_counter
from typing import Any, TypeAlias

import grpc
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import RequestMetadata
from google.protobuf.message import DecodeError, Message
from prometheus_client import CollectorRegistry, Counter

from buildgrid_scheduler.core.log_fields import bind_log_fields
from buildgrid_scheduler.server.metrics import catalogue
from buildgrid_scheduler.server.wrapped import Behaviour, Handler, behaviour_of, remade, wrapped_server

_Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

REQUEST_METADATA_HEADER = "build.bazel.remote.execution.v2.requestmetadata-bin"
_CODES = {code.value[0]: code.name for code in grpc.StatusCode}


class CallMetrics:
    """`measured(server)` takes the place of the server where services are added to it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._ended = catalogue.RPCS.counter(registry)
        self._seconds = catalogue.RPC_SECONDS.histogram(registry)
        self._running = catalogue.RPCS_RUNNING.gauge(registry)
        self._running_now: dict[str, int] = {}  # counted on the event loop alone: no lock

    def measured(self, server: grpc.aio.Server) -> grpc.aio.Server:
        """What `add_...Servicer_to_server` is called with, instead of the server itself."""
        return wrapped_server(server, self.handler)

    def handler(self, path: str, handler: Handler) -> Handler:
        """The handler of a method (`/SERVICE/METHOD`), which counts from now on."""
        behaviour = behaviour_of(handler)
        if behaviour is None:
            return handler
        return remade(
            handler,
            self._counting(path, behaviour),
            deserializer=handler.request_deserializer,
            serializer=handler.response_serializer,
        )

    def _counting(self, path: str, behaviour: Behaviour) -> Behaviour:
        _, service, method = path.split("/")
        counts: dict[str, Counter] = {}
        running = self._running_now  # of all servers: a method may be offered at several ports
        running.setdefault(path, 0)
        self._running.labels(service, method).set_function(lambda: running[path])

        def ended(code: str) -> None:
            running[path] -= 1
            count = counts.get(code)
            if count is None:
                count = counts[code] = self._ended.labels(service, method, code)
            count.inc()

        # Two shapes, since gRPC looks at the function to see which it is: answers are returned, or yielded.
        if inspect.isasyncgenfunction(behaviour):

            async def answers(request: Any, context: _Context) -> AsyncIterator[Any]:
                bind_log_fields(lambda: about(method, request, context))
                running[path] += 1
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
            running[path] += 1
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
