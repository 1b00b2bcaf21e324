"""Messages that cannot be read, and such as are too large to be sent.

gRPC itself would answer the first with UNKNOWN, and log a trace for both, as for a fault of ours.
"""

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from functools import partial
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from buildgrid_scheduler.core.errors import InvalidArgument, ResourceExhausted
from buildgrid_scheduler.server.wrapped import Behaviour, Handler, behaviour_of, remade, wrapped_server
from buildgrid_scheduler.services.errors import Context, rpc, streaming_rpc

_Write = Callable[[Any], bytes]


def minding_messages(server: grpc.aio.Server, max_message_size: int) -> grpc.aio.Server:
    """What services are added to, instead of the server itself.

    A request that is not the message that the method takes is INVALID_ARGUMENT, an answer of more than
    `max_message_size` bytes RESOURCE_EXHAUSTED.
    """
    return wrapped_server(server, partial(_minding, max_message_size))


class _Unreadable:
    """Takes the place of a request until the handler runs: only there can the call be answered."""

    def __init__(self, problem: str) -> None:
        self.problem = problem


def _checked(path: str, request: Any) -> Any:
    if isinstance(request, _Unreadable):
        raise InvalidArgument(f"{path}: the request cannot be read: {request.problem}")
    return request


class _Readable(AsyncIterator[Any]):
    """A stream of requests, which ends with InvalidArgument at the first that cannot be read."""

    def __init__(self, path: str, requests: AsyncIterator[Any]) -> None:
        self._path = path
        self._requests = aiter(requests)

    async def __anext__(self) -> Any:
        return _checked(self._path, await anext(self._requests))


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

    def write(answer: Any) -> bytes:
        data = serializer(answer)
        if len(data) > max_message_size:
            raise ResourceExhausted(
                f"{path}: the answer has {len(data)} bytes, more than grpc.max_message_size of this server "
                f"({max_message_size}); ask for less at a time"
            )
        return data

    made = _minded(path, behaviour, write, streams=bool(handler.request_streaming))
    return remade(handler, made, deserializer=read, serializer=None)


def _minded(path: str, behaviour: Behaviour, write: _Write, *, streams: bool) -> Behaviour:
    """The behaviour, from what `read` made to bytes."""

    look = partial(_Readable, path) if streams else partial(_checked, path)
    # Two shapes, since gRPC looks at the function to see which it is: answers are returned, or yielded.
    if inspect.isasyncgenfunction(behaviour):

        @streaming_rpc
        async def answers(request: Any, context: Context) -> AsyncIterator[bytes]:
            async with aclosing(behaviour(look(request), context)) as inner:
                async for item in inner:
                    yield write(item)

        return answers

    @rpc
    async def answer(request: Any, context: Context) -> bytes:
        return write(await behaviour(look(request), context))

    return answer
