"""Messages that cannot be read, and such as are too large to be sent.

gRPC itself would answer the first with UNKNOWN, and log a trace for both, as for a fault of ours.
"""

import inspect
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import Any, NoReturn

import grpc
from google.protobuf.message import DecodeError

from buildgrid_scheduler.core.errors import InvalidArgument, ResourceExhausted, SchedulerError
from buildgrid_scheduler.server.wrapped import Handler, behaviour_of, remade, wrapped_server
from buildgrid_scheduler.services.errors import Context, rpc


def minding_messages(server: grpc.aio.Server, max_message_size: int) -> grpc.aio.Server:
    """What services are added to, instead of the server itself.

    A request that is not the message that the method takes is INVALID_ARGUMENT, an answer of more than
    `max_message_size` bytes RESOURCE_EXHAUSTED.
    """
    return wrapped_server(server, partial(_minding, max_message_size))


class _Unreadable:
    """Takes the place of a request until the handler runs: only there can the call be answered."""

    def __init__(self, problem: str) -> None:
        self._problem = problem

    def error(self, path: str) -> InvalidArgument:
        """What is answered."""
        return InvalidArgument(f"{path}: the request cannot be read: {self._problem}")


class _Readable(AsyncIterator[Any]):
    """A stream of requests, which ends with InvalidArgument at the first that cannot be read."""

    def __init__(self, path: str, requests: AsyncIterator[Any]) -> None:
        self._path = path
        self._requests = aiter(requests)

    async def __anext__(self) -> Any:
        request = await anext(self._requests)
        if isinstance(request, _Unreadable):
            raise request.error(self._path)
        return request


@rpc
async def _refuse(error: SchedulerError, context: Context) -> NoReturn:
    """End the call. Behaviours are guarded themselves: another guard around each would cost every call."""
    raise error


def _minding(max_message_size: int, path: str, handler: Handler) -> Handler:
    behaviour = behaviour_of(handler)
    deserializer, serializer = handler.request_deserializer, handler.response_serializer
    if behaviour is None or deserializer is None or serializer is None:
        return handler

    def read(data: bytes) -> Any:
        try:
            return deserializer(data)
        except DecodeError as error:
            return _Unreadable(str(error))

    def too_large(size: int) -> ResourceExhausted:
        return ResourceExhausted(
            f"{path}: the answer has {size} bytes, more than grpc.max_message_size of this server "
            f"({max_message_size}); ask for less at a time"
        )

    async def readable(request: Any, context: Context) -> Any:
        if handler.request_streaming:
            return _Readable(path, request)
        if isinstance(request, _Unreadable):
            await _refuse(request.error(path), context)
        return request

    # Two shapes, since gRPC looks at the function to see which it is: answers are returned, or yielded.
    async def answers(request: Any, context: Context) -> AsyncIterator[bytes]:
        async with aclosing(behaviour(await readable(request, context), context)) as inner:
            async for item in inner:
                data: bytes = serializer(item)
                if len(data) > max_message_size:
                    await _refuse(too_large(len(data)), context)
                yield data

    async def answer(request: Any, context: Context) -> bytes:
        data: bytes = serializer(await behaviour(await readable(request, context), context))
        if len(data) > max_message_size:
            await _refuse(too_large(len(data)), context)
        return data

    made = answers if inspect.isasyncgenfunction(behaviour) else answer
    return remade(handler, made, deserializer=read, serializer=None)
